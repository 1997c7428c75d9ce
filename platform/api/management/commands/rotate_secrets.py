"""`manage.py rotate_secrets`, after a new key was put in front of SEALING_KEYS."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from api.configuration.rotation import rotate_secrets


class Command(BaseCommand):
    help = "Seals all provider secrets again under the first of SEALING_KEYS."

    def handle(self, *args: Any, **options: Any) -> None:
        rotation = rotate_secrets()
        self.stdout.write(f"{rotation.sealed} sealed again, {rotation.current} were current")
        if rotation.broken:
            names = ", ".join(rotation.broken)
            raise CommandError(f"No configured key opens: {names}. Set these secrets anew.")
