"""Shows the ledger's months, and makes those that are missing."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from usage import partitions


class Command(BaseCommand):
    help = (
        "Makes the ledger's partitions for the months to come, then shows all with their rows"
        " (estimated) and sizes. On SQLite the ledger has none."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--move",
            action="store_true",
            help="also months of which the default partition holds many rows; calls wait meanwhile",
        )

    def handle(self, *args: Any, move: bool, **options: Any) -> None:
        made = partitions.make(moved_at_once=None if move else partitions.MOVED_AT_ONCE)
        for each in partitions.listed():
            size = f"{each.bytes / 2**20:,.1f} MB"
            self.stdout.write(f"{each.name:<34}{each.rows:>14,} rows {size:>14}")
        self.stdout.write(f"{made} made")
