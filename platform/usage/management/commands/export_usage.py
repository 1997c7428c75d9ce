"""Writes the ledger's rows as CSV or JSON lines, however many, in constant memory."""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from usage.export import FOR_STAFF, FORMATS, Export, Selection, settled
from usage.management.arguments import moment, tenant_id

EVERY = 100_000  # rows between two signs of progress


class Command(BaseCommand):
    help = (
        "Writes the calls of a period, all their columns, as CSV or JSON lines. Without --to up "
        "to ten minutes ago: what came later may still be answered."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from", dest="start", type=moment, metavar="WHEN")
        parser.add_argument("--to", dest="end", type=moment, metavar="WHEN")
        parser.add_argument("--tenant", metavar="SLUG", help="this tenant's rows only")
        parser.add_argument("--format", choices=FORMATS, default="csv")
        parser.add_argument("--out", type=Path, metavar="FILE", help="instead of standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        end = options["end"] or settled(dt.timedelta(milliseconds=settings.ENV.DEADLINE_MS))
        selection = Selection(options["start"], end, tenant_id(options["tenant"]))
        written = told = 0
        with _opened(options["out"]) as out:
            for page, rows in Export(selection, FOR_STAFF, options["format"]).pages():
                out.write(page)
                written += rows
                if written // EVERY > told:
                    told = written // EVERY
                    self.stderr.write(f"{written} rows …")
        self.stderr.write(f"{written} rows written")


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    """A file has its name when it is whole."""
    if path is None:
        yield sys.stdout.buffer
        return
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as out:
        yield out
    part.replace(path)
