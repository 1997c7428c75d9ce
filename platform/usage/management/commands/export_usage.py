"""Writes the ledger's rows as CSV or JSON lines, however many, in constant memory."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.models import Tenant
from usage.export import FOR_STAFF, FORMATS, Export, Selection, settled

EVERY = 100_000  # rows between two signs of progress


class Command(BaseCommand):
    help = (
        "Writes the calls of a period, all their columns, as CSV or JSON lines. Without --to up "
        "to ten minutes ago: what came later may still be answered."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from", dest="start", type=_moment, metavar="WHEN")
        parser.add_argument("--to", dest="end", type=_moment, metavar="WHEN")
        parser.add_argument("--tenant", metavar="SLUG", help="this tenant's rows only")
        parser.add_argument("--format", choices=FORMATS, default="csv")
        parser.add_argument("--out", type=Path, metavar="FILE", help="instead of standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        end = options["end"] or settled(dt.timedelta(milliseconds=settings.ENV.DEADLINE_MS))
        selection = Selection(options["start"], end, _tenant_id(options["tenant"]))
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


def _moment(text: str) -> dt.datetime:
    """RFC 3339, or a day; UTC unless it says otherwise."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no moment such as 2027-01-31 or 2027-01-31T12:00:00Z"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _tenant_id(slug: str | None) -> int | None:
    if slug is None:
        return None
    pk: int | None = Tenant.objects.filter(slug=slug).values_list("pk", flat=True).first()
    if pk is None:
        raise CommandError(f"There is no tenant {slug}.")
    return pk
