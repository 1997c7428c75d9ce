"""`manage.py reprice`: a period's ledger rows rated again (docs/operate/prices.md)."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing import book
from billing.rerating import Period, Report, correct, reproduce
from lib.money import to_usd
from usage.management.arguments import moment, tenant_id

EVERY = 100_000  # rows between two signs of progress


class Command(BaseCommand):
    help = (
        "Rates a period's ledger rows with the price versions that should have been in force, "
        "and writes the differences as corrections. With --dry-run: computes every row again "
        "from its own price version, and fails when one comes out differently."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from", dest="start", type=moment, required=True, metavar="WHEN")
        parser.add_argument("--to", dest="end", type=moment, required=True, metavar="WHEN")
        parser.add_argument("--tenant", metavar="SLUG", help="this tenant's rows only")
        parser.add_argument("--dry-run", action="store_true", help="reproduce; change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        period = Period(options["start"], options["end"], tenant_id(options["tenant"]))
        if period.end <= period.start:
            raise CommandError("--to must be later than --from.")
        if options["dry_run"]:
            self._tell(report := reproduce(period, self._progress))
            if report.differing:
                raise CommandError(
                    f"{report.differing} rows come out differently, first: "
                    + ", ".join(report.first)
                )
        else:
            self._tell(report := correct(period, book.load(), self._progress))
            self.stdout.write(f"{report.differing} rows corrected")

    def _tell(self, report: Report) -> None:
        self.stdout.write(
            f"{report.rows} rows, charged {to_usd(report.charged)} USD, "
            f"recomputed {to_usd(report.recomputed)} USD, "
            f"difference {to_usd(report.difference)} USD"
        )

    def _progress(self, rows: int) -> None:
        if rows % EVERY == 0:
            self.stderr.write(f"{rows} rows …")
