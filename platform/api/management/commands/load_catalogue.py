"""`manage.py load_catalogue`: what ships with Patchbay, brought into the database."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from api.configuration.catalogue import load
from providers.catalogue import CatalogueError, load_documents


class Command(BaseCommand):
    help = "Loads the shipped providers, models, operations and routes. Keeps staff's changes."

    def handle(self, *args: Any, verbosity: int, **options: Any) -> None:
        try:
            files = load_documents()
        except CatalogueError as error:
            faults = "\n  ".join(error.faults)
            raise CommandError(
                f"The catalogue is not right; nothing was loaded:\n  {faults}"
            ) from None
        loaded = load(files)
        for change in loaded.changes if verbosity else ():
            self.stdout.write(str(change))
        kept = f", {loaded.kept} kept as staff changed them" if loaded.kept else ""
        told = f"{len(loaded.changes)} changes" if loaded.changes else "nothing to change"
        self.stdout.write(f"catalogue: {len(files)} providers, {told}{kept}")
