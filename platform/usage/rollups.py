"""Roll-ups: the ledger's sums by minute, hour and day, kept up by folding deltas into them.

fold     adds deltas to all three and takes them away, in one transaction; notes keys' last use.
rebuild  makes them anew from the ledger, a day or hour in one transaction.
prune    drops the minutes and hours that nobody asks for any more. Days stay for ever.

On PostgreSQL a fold holds a weak lock on the days' table, which lets other folds in, and a
rebuild a strong one, which lets nobody change a roll-up; and both are asked for before
anything is read. On SQLite there is one writer anyway.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.utils import timezone

from usage.deltas import (
    ATTEMPTS,
    CALLS,
    Dialect,
    Family,
    all_attempts,
    attempt_deltas,
    insert_calls,
    summed,
)
from usage.last_use import noting
from usage.rollup_models import AttemptHour, AttemptMinute, UsageHour, UsageMinute
from usage.sums import DAY, HOUR, HOURS_KEPT, MINUTES_KEPT, dialect_of, stored

FOLD_LIMIT = 250  # of each kind in one transaction: some ms, for it holds SQLite's write lock
LONGEST_PAUSE = 0.1  # seconds in which those who wait for SQLite's write lock get it
GRAINS = ("minute", "hour", "day")
SLACK = dt.timedelta(days=1)  # so that nobody sums what is being pruned
_FOLDING = 0x70617463  # any number that no other advisory lock has
_KEYS = {
    CALLS: ("tenant_id", "starts", *CALLS.dimensions[1:]),
    ATTEMPTS: ("provider", "starts", *ATTEMPTS.dimensions[1:]),
}


def add(request_id: str, *, using: str = DEFAULT_DB_ALIAS) -> None:
    """The delta of a ledger row that has no attempts of its own, in its transaction."""
    row = "(SELECT * FROM usage_usagerecord WHERE request_id = %s)"
    with connections[using].cursor() as cursor:
        cursor.execute(insert_calls(row, None, dialect_of(using)), [request_id])


def fold(*, using: str = DEFAULT_DB_ALIAS) -> int:
    """Fold all deltas there are; how many. None while another process folds."""
    folded = 0
    while True:
        taken = _fold_some(using)
        folded += taken
        if taken < FOLD_LIMIT:
            return folded


def prune(*, using: str = DEFAULT_DB_ALIAS) -> int:
    """How many roll-ups it dropped."""
    now, dropped = timezone.now(), 0
    for models, kept in (
        ((UsageMinute, AttemptMinute), MINUTES_KEPT),
        ((UsageHour, AttemptHour), HOURS_KEPT),
    ):
        for model in models:
            old = model.objects.using(using).filter(starts__lt=now - kept - SLACK)
            dropped += old.delete()[0]
    return dropped


def rebuild(
    since: dt.date | None = None,
    *,
    tell: Callable[[dt.date], object] = str,
    using: str = DEFAULT_DB_ALIAS,
) -> int:
    """Make the roll-ups of every UTC day since then anew from the ledger; how many days.

    Without `since` it begins at the ledger's first row. What is older stays as it is: the rows
    it was made from are gone. Calls may be written and folded meanwhile. A transaction takes
    away the deltas of just those rows that it sums, since both are seen as they were at its
    start, so later ones are added by the next fold.
    """
    days = 0
    for day in _days(since, using):
        for begin, end in _spans(day, using):
            took = -time.monotonic()
            _rebuild_span(begin, end, using)
            took += time.monotonic()
            time.sleep(min(took, LONGEST_PAUSE))
        tell(day)
        days += 1
    return days


def _fold_some(using: str) -> int:
    dialect = dialect_of(using)
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        if not _may_fold(cursor, using):
            return 0
        calls, attempts = (_oldest(cursor, family.delta) for family in (CALLS, ATTEMPTS))
        among = f"id {dialect.among}"
        of_calls = f"(SELECT * FROM usage_usagedelta WHERE {among})"  # noqa: S608 - our own names
        of_attempts = attempt_deltas(among, among)
        call_ids, attempt_ids = dialect.as_list(calls), dialect.as_list(attempts)
        for grain in GRAINS if calls else ():
            cursor.execute(_add(CALLS, grain, of_calls, dialect), [call_ids])
        for grain in GRAINS if calls or attempts else ():
            parameters = [attempt_ids, call_ids]
            cursor.execute(_add(ATTEMPTS, grain, of_attempts, dialect), parameters)
        cursor.execute(noting(dialect), [call_ids, call_ids])
        cursor.execute(f"DELETE FROM usage_usagedelta WHERE {among}", [call_ids])  # noqa: S608
        cursor.execute(f"DELETE FROM usage_attemptdelta WHERE {among}", [attempt_ids])  # noqa: S608
    return len(calls) + len(attempts)


def _may_fold(cursor: Any, using: str) -> bool:
    if connections[using].vendor == "sqlite":
        return True
    cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_FOLDING])
    if not cursor.fetchone()[0]:
        return False
    cursor.execute("LOCK TABLE usage_usageday IN ROW EXCLUSIVE MODE")
    return True


def _oldest(cursor: Any, table: str) -> list[int]:
    cursor.execute(f"SELECT id FROM {table} ORDER BY id LIMIT {FOLD_LIMIT}")  # noqa: S608
    return [row[0] for row in cursor.fetchall()]


def _add(family: Family, grain: str, rows: str, dialect: Dialect) -> str:
    """Sum rows up to the grain, and add that to the roll-ups that are there already."""
    table, columns = f"usage_{family.name}{grain}", ", ".join(family.columns)
    sums = ", ".join(f"sum({name})" for name in family.sums)
    selected = ", ".join([dialect.cut(grain, "starts"), *family.dimensions])
    keys = ", ".join(str(n + 1) for n in range(len(family.dimensions) + 1))
    added = ", ".join(f"{name} = rollup.{name} + excluded.{name}" for name in family.sums)
    return (
        f"INSERT INTO {table} AS rollup ({columns})"  # noqa: S608 - our own names
        f" SELECT {selected}, {sums} FROM {rows} AS s WHERE true GROUP BY {keys}"
        f" ON CONFLICT ({', '.join(_KEYS[family])}) DO UPDATE SET {added}"
    )


def _days(since: dt.date | None, using: str) -> Iterator[dt.date]:
    """Those from the first to the last that the ledger has rows of. Where older ones have been
    dropped (usage/retention.py), the first day may have lost some, and is left as it is."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT min(created_at), max(created_at) FROM usage_usagerecord")
        first, last = (moment and _date(moment) for moment in cursor.fetchone())
        if first is None:
            return
        midnight = dt.datetime.combine(first, dt.time(), dt.UTC).timestamp()
        older = "SELECT 1 FROM usage_usageday WHERE starts < %s LIMIT 1"
        cursor.execute(older, [stored(midnight, using)])
        if cursor.fetchone():
            first += dt.timedelta(days=1)
    day = max(since or first, first)
    while day <= last:
        yield day
        day += dt.timedelta(days=1)


def _date(moment: Any) -> dt.date:
    """SQLite gives text."""
    if isinstance(moment, str):
        return dt.date.fromisoformat(moment[:10])
    day: dt.date = moment.astimezone(dt.UTC).date()
    return day


def _spans(day: dt.date, using: str) -> list[tuple[int, int]]:
    """What of the day one transaction rebuilds, in unix seconds: on SQLite an hour, while which
    nobody else can write; but all of a day whose hours are pruned, and which is their sum."""
    begin = int(dt.datetime.combine(day, dt.time(), dt.UTC).timestamp())
    hours_are_kept = timezone.now().timestamp() - begin < HOURS_KEPT.total_seconds()
    step = HOUR if hours_are_kept and connections[using].vendor == "sqlite" else DAY
    return [(start, start + step) for start in range(begin, begin + DAY, step)]


def _rebuild_span(begin: int, end: int, using: str) -> None:
    dialect, records = dialect_of(using), _ledger_between()
    span = [stored(begin, using), stored(end, using)]
    day = [stored(begin // DAY * DAY, using), stored((begin // DAY + 1) * DAY, using)]
    within = "WHERE starts >= %s AND starts < %s"
    made = {
        CALLS: (summed(CALLS, records, dialect), span),
        ATTEMPTS: (
            summed(ATTEMPTS, all_attempts(records, "usage_attempt"), dialect),
            span * 2,
        ),
    }
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        _shut_others_out(cursor, using)
        for family, (minutes, parameters) in made.items():
            table, columns = f"usage_{family.name}", ", ".join(family.columns)
            for kind, old in (("delta", span), ("minute", span), ("hour", span), ("day", day)):
                cursor.execute(f"DELETE FROM {table}{kind} {within}", old)  # noqa: S608
            cursor.execute(f"INSERT INTO {table}minute ({columns}) {minutes}", parameters)
            for finer, grain, these in (("minute", "hour", span), ("hour", "day", day)):
                rows = f"(SELECT * FROM {table}{finer} {within})"  # noqa: S608 - our own names
                cursor.execute(_add(family, grain, rows, dialect), these)


def _shut_others_out(cursor: Any, using: str) -> None:
    """A snapshot is taken by the first statement that reads, so the locks come before; the
    one that folds wait for comes first."""
    if connections[using].vendor == "sqlite":
        return
    tables = [f"usage_{kind.name}{grain}" for kind in (CALLS, ATTEMPTS) for grain in GRAINS[::-1]]
    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    cursor.execute(f"LOCK TABLE {', '.join(tables)} IN SHARE ROW EXCLUSIVE MODE")


def _ledger_between() -> str:
    """The rows of a day. The ledger's index is by tenant and time, so tenants are gone through
    one by one, each found by a step in that index."""
    return (
        "(WITH RECURSIVE tenants (id) AS (SELECT min(tenant_id) FROM usage_usagerecord"
        " UNION ALL SELECT (SELECT min(tenant_id) FROM usage_usagerecord WHERE tenant_id > id)"
        " FROM tenants WHERE id IS NOT NULL)"
        " SELECT * FROM usage_usagerecord WHERE tenant_id IN (SELECT id FROM tenants)"
        " AND created_at >= %s AND created_at < %s)"
    )
