"""Makes the sums of the ledger by minute, hour and day anew from it, while calls go on."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from usage.rollups import rebuild


class Command(BaseCommand):
    help = (
        "Makes all roll-ups anew from the ledger, a UTC day at a time. Calls go on meanwhile;"
        " SQLite keeps their rows waiting while it sums one hour."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--since", type=dt.date.fromisoformat, help="The first day, such as 2026-07-01."
        )

    def handle(self, *args: Any, since: dt.date | None, **options: Any) -> None:
        days = rebuild(since, tell=lambda day: self.stdout.write(f"{day} done"))
        self.stdout.write(self.style.SUCCESS(f"{days} days rebuilt"))
