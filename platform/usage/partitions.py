"""The ledger's months: on PostgreSQL its two tables are partitioned by request id.

A request id is a UUIDv7, so its order is time's, and a month's bounds are the beginnings of the
ids of its first millisecond. What no month takes is in the default partition, so that no row is
ever refused. On SQLite each is one table, and there is nothing to do here.

Each table has a transaction of its own, which waits for locks for LOCK_TIMEOUT at most: less
than the ledger's writer has patience for. What fails is done at the next turn.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.utils import timezone

from lib.ids import first_uuid7

log = structlog.get_logger("patchbay.partitions")

TABLES = ("usage_usagerecord", "usage_attempt")
AHEAD = 3  # months made before they begin
MOVED_AT_ONCE = 100_000  # rows out of a default partition, which is locked meanwhile: a second
LOCK_TIMEOUT = "2s"
_NAME = re.compile(r"_y(\d{4})m(\d{2})\Z")


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A month of UTC."""

    year: int
    number: int

    @classmethod
    def of(cls, moment: dt.datetime) -> Month:
        utc = moment.astimezone(dt.UTC)
        return cls(utc.year, utc.month)

    def plus(self, months: int) -> Month:
        year, number = divmod(self.year * 12 + self.number - 1 + months, 12)
        return Month(year, number + 1)

    @property
    def starts(self) -> dt.datetime:
        return dt.datetime(self.year, self.number, 1, tzinfo=dt.UTC)

    @property
    def first_id(self) -> str:
        return first_uuid7(self.starts.timestamp())

    def __str__(self) -> str:
        return f"y{self.year}m{self.number:02}"


FIRST = Month(2024, 5)  # of RFC 9562: nobody made a UUIDv7 before


@dataclass(frozen=True, slots=True)
class Partition:
    """`month` is None for the default partition. `rows` is the server's estimate."""

    table: str
    name: str
    month: Month | None
    rows: int
    bytes: int


def make(*, moved_at_once: int | None = MOVED_AT_ONCE, using: str = DEFAULT_DB_ALIAS) -> int:
    """Make this month's and the next months' partitions, and those of months whose rows lie in
    the default partition; how many.

    Rows of a new month are moved out of the default partition. A month with more of them than
    `moved_at_once` is left (None: never), as nobody can write to that table meanwhile.
    """
    if connections[using].vendor == "sqlite":
        return 0
    last = Month.of(timezone.now()).plus(AHEAD)
    return sum(_make_all(table, last, moved_at_once, using) for table in TABLES)


def drop(before: Month, *, using: str = DEFAULT_DB_ALIAS) -> int:
    """Drop the months before that one, whole; how many partitions.

    DETACH … CONCURRENTLY is not possible beside a default partition. A plain DROP shuts others
    out for as long as the catalogue takes: the files go after its locks.
    """
    dropped = 0
    for partition in listed(using=using):
        if partition.month and partition.month < before:
            with _locking(using) as cursor:
                cursor.execute(f"DROP TABLE {partition.name}")
            log.info("partition_dropped", partition=partition.name, rows=partition.rows)
            dropped += 1
    return dropped


def listed(*, using: str = DEFAULT_DB_ALIAS) -> list[Partition]:
    """What there is, by table and month, the default partitions last. None on SQLite."""
    if connections[using].vendor == "sqlite":
        return []
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT parent.relname, child.relname, pg_stat_get_live_tuples(child.oid),"
            " pg_total_relation_size(child.oid) FROM pg_inherits"
            " JOIN pg_class parent ON parent.oid = inhparent"
            " JOIN pg_class child ON child.oid = inhrelid"
            " WHERE parent.relname = ANY(%s) AND pg_table_is_visible(parent.oid)",
            [list(TABLES)],
        )
        found = [
            Partition(table, name, _month(name), rows, size)
            for table, name, rows, size in cursor.fetchall()
        ]
    return sorted(found, key=lambda each: (TABLES.index(each.table), each.month is None, each.name))


def default_of(table: str) -> str:
    return f"{table}_default"


def _month(name: str) -> Month | None:
    told = _NAME.search(name)
    return Month(int(told[1]), int(told[2])) if told else None


def _make_all(table: str, last: Month, moved_at_once: int | None, using: str) -> int:
    there = {each.month for each in listed(using=using) if each.table == table}
    made, month = 0, FIRST
    coming = Month.of(timezone.now())
    while month <= last:
        rows = 0 if month in there else _in_default(table, month, moved_at_once, using)
        if moved_at_once is not None and rows > moved_at_once:
            log.warning("default_partition_holds_many_rows", table=table, month=str(month))
        elif month not in there and (rows or month >= coming):
            _make(table, month, using)
            made += 1
        month = month.plus(1)
    return made


def _in_default(table: str, month: Month, most: int | None, using: str) -> int:
    """How many rows of the month lie there; one more than `most` if it is more."""
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"SELECT count(*) FROM (SELECT FROM {default_of(table)}"  # noqa: S608 - our own names
            " WHERE request_id >= %s AND request_id < %s LIMIT %s) AS held",
            [*_bounds(month), None if most is None else most + 1],
        )
        return int(cursor.fetchone()[0])


def _make(table: str, month: Month, using: str) -> None:
    name, bounds = f"{table}_{month}", _bounds(month)
    default = default_of(table)
    with _locking(using) as cursor:
        # What ATTACH would ask for in the end, so that nobody else's row slips in before.
        cursor.execute(f"LOCK TABLE {default} IN ACCESS EXCLUSIVE MODE")
        cursor.execute(
            f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
        )
        cursor.execute(
            f"WITH moved AS (DELETE FROM {default}"  # noqa: S608 - our own names
            " WHERE request_id >= %s AND request_id < %s RETURNING *)"
            f" INSERT INTO {name} SELECT * FROM moved",
            bounds,
        )
        begin, end = bounds
        cursor.execute(
            f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{begin}') TO ('{end}')"
        )
    log.info("partition_made", partition=name)


def _bounds(month: Month) -> tuple[str, str]:
    return month.first_id, month.plus(1).first_id


@contextmanager
def _locking(using: str) -> Iterator[Any]:
    """A transaction that gives up when a lock is not had soon."""
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        yield cursor
