"""How long ledger rows are kept. Their sums by day stay for ever (usage/rollups.py)."""

from __future__ import annotations

import datetime as dt
import time

import structlog
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.utils import timezone

from usage import partitions
from usage.partitions import TABLES, Month
from usage.rollup_models import AttemptDelta, UsageDelta

log = structlog.get_logger("patchbay.retention")

LEAST = 2  # months; a request may still be asked about, a bill be corrected
BATCH = 1000  # rows deleted in one transaction: some ms
LONGEST_PAUSE = 0.1  # seconds in which those who wait for SQLite's write lock get it


def expire(keep: int, *, using: str = DEFAULT_DB_ALIAS) -> int:
    """Drop the ledger's months older than so many whole ones; how many partitions and rows
    went. 0 keeps all. Raises ValueError for less than LEAST.

    Nothing goes while a row of that time is not in the roll-ups yet.
    """
    if not keep:
        return 0
    if keep < LEAST:
        raise ValueError(f"The ledger is kept for {LEAST} months at least")
    before = Month.of(timezone.now()).plus(-keep)
    if _unfolded(before, using):
        log.warning("retention_waits", reason="sums not folded yet", before=str(before))
        return 0
    return partitions.drop(before, using=using) + sum(
        _delete(table, before.first_id, using) for table in TABLES
    )


def _unfolded(before: Month, using: str) -> bool:
    """A call is summed under the moment after its id was made: a day is more than enough."""
    end = before.starts + dt.timedelta(days=1)
    return any(
        model._default_manager.using(using).filter(starts__lt=end).exists()
        for model in (UsageDelta, AttemptDelta)
    )


def _delete(table: str, before: str, using: str) -> int:
    """The rows that are in no month's partition. The ORM refuses to, and rightly so."""
    if connections[using].vendor != "sqlite":
        table = partitions.default_of(table)
    statement = (
        f"DELETE FROM {table} WHERE request_id IN (SELECT request_id FROM {table}"  # noqa: S608
        f" WHERE request_id < %s ORDER BY request_id LIMIT {BATCH})"
    )
    deleted = 0
    while True:
        took = -time.monotonic()
        with transaction.atomic(using=using), connections[using].cursor() as cursor:
            cursor.execute(statement, [before])
            gone = int(cursor.rowcount)
        deleted += gone
        if not gone:
            return deleted
        time.sleep(min(took + time.monotonic(), LONGEST_PAUSE))
