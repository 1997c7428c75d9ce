"""`manage.py export`: the database as a configuration file."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from api.configuration.exporting import export


class Command(BaseCommand):
    help = "Prints the configuration file that makes a database like this one. Holds no secrets."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--all", action="store_true", help="Also what ships with Patchbay, unchanged."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(export(everything=options["all"]), ending="")
