"""Exact sums of the ledger from its roll-ups, for the counters that quotas are held by.

Whole days, then the hours of the first day, then the minutes of the first hour, then what is
not folded yet: some hundred rows of one tenant's month, however many calls there were. All in
one statement, so that a commit or a fold meanwhile is either wholly in or wholly out.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.utils import timezone

from usage.deltas import ATTEMPTS, CALLS, POSTGRES, SQLITE, Dialect, Family, attempt_deltas

MINUTES_KEPT = dt.timedelta(days=45)
HOURS_KEPT = dt.timedelta(days=400)
MINUTE, HOUR, DAY = 60, 3600, 86400
MOST_AT_ONCE = 50  # sums in a statement

CALL_METRICS = {
    "requests": "calls",
    "tokens": "input_tokens + output_tokens",
    "cost": "charge",
    "credits": "units",
    "bytes": "bytes",
}
# What a provider takes: it counts attempts, and no bodies.
ATTEMPT_METRICS = {
    "requests": "attempts",
    "tokens": "tokens",
    "cost": "cost",
    "credits": "units",
    "bytes": "0",
}
WEIGHTED = {"requests", "credits"}


def used(
    *,
    scope: str,
    subject: Mapping[str, Any],
    metric: str,
    since: float,
    weights: Mapping[str, int] | None = None,
    operations: Collection[str] | None = None,
    mode: str = "live",
    using: str = DEFAULT_DB_ALIAS,
) -> int:
    """How much was used since a minute (unix seconds; 0 is ever), all final calls included.

    `scope` provider sums attempts, every other the tenants' calls; `subject` names columns and
    their values (name the tenant too for what is a tenant's: its rows lie together). `weights`
    multiply requests and credits by operation. Money is µUSD: the charge, a provider's cost.

    Minutes are kept for MINUTES_KEPT and hours for HOURS_KEPT. A sum from before is taken from
    the start of the hour or UTC day: rather too much than too little.
    """
    return used_and_final(
        scope=scope,
        subject=subject,
        metric=metric,
        since=since,
        weights=weights,
        operations=operations,
        mode=mode,
        using=using,
    )[0]


def used_and_final(
    *, among: Sequence[str] = (), using: str = DEFAULT_DB_ALIAS, **asked: Any
) -> tuple[int, set[str]]:
    """The same sum, and which of the request ids `among` it already holds."""
    statement, parameters = _statement(0, using=using, **asked)
    if among:
        dialect = dialect_of(using)
        statement += (
            " UNION ALL SELECT -1, request_id, 0 FROM usage_usagerecord"  # noqa: S608
            f" WHERE request_id {dialect.among}"
        )
        parameters.append(dialect.as_list(list(among)))
    rows = _rows(statement, parameters, using)
    sums = [row for row in rows if row[0] == 0]
    return _weighted(sums, asked), {name for number, name, _ in rows if number < 0}


def used_each(asked: Sequence[Mapping[str, Any]], using: str = DEFAULT_DB_ALIAS) -> list[int]:
    """What `used` says of each of these, in one statement for MOST_AT_ONCE of them."""
    found = []
    for first in range(0, len(asked), MOST_AT_ONCE):
        chunk = asked[first : first + MOST_AT_ONCE]
        told = [_statement(number, using=using, **each) for number, each in enumerate(chunk)]
        statement = " UNION ALL ".join(part for part, _ in told)
        rows = _rows(statement, [each for _, own in told for each in own], using)
        by_number = groupby(sorted(rows, key=itemgetter(0)), key=itemgetter(0))
        sums = {number: list(group) for number, group in by_number}
        found += [_weighted(sums.get(number, []), each) for number, each in enumerate(chunk)]
    return found


def _statement(
    number: int,
    *,
    scope: str,
    subject: Mapping[str, Any],
    metric: str,
    since: float,
    weights: Mapping[str, int] | None = None,  # noqa: ARG001 - for whoever adds the rows up
    operations: Collection[str] | None = None,
    mode: str = "live",
    using: str,
) -> tuple[str, list[Any]]:
    """Rows of `number`, operation and amount, and what is to be filled in."""
    family, metrics = (ATTEMPTS, ATTEMPT_METRICS) if scope == "provider" else (CALLS, CALL_METRICS)
    filters = {**subject, "mode": mode}
    unknown = filters.keys() - set(family.dimensions)
    if unknown:
        raise ValueError(f"{scope} usage is not told apart by {', '.join(sorted(unknown))}")
    dialect = dialect_of(using)
    where = "".join(f" AND {column} = %s" for column in filters)
    values = [0 if value is None else value for value in filters.values()]
    if operations is not None:
        where += f" AND operation {dialect.among}"
        values.append(dialect.as_list(sorted(operations)))
    parts, parameters = [], []
    for table, bounds in pieces(family, since, using):
        parts.append(
            f"SELECT operation, {metrics[metric]} AS amount FROM {table} AS piece"  # noqa: S608
            f" WHERE {' AND '.join(f'starts {sign} %s' for sign, _ in bounds)}{where}"
        )
        parameters += [moment for _, moment in bounds] + values
    statement = (
        f"SELECT {number}, operation, sum(amount)"  # noqa: S608 - our own names
        f" FROM ({' UNION ALL '.join(parts)}) AS pieces GROUP BY operation"
    )
    return statement, parameters


def _rows(statement: str, parameters: list[Any], using: str) -> list[tuple[int, str, int]]:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, parameters)
        rows: list[tuple[int, str, int]] = cursor.fetchall()
    return rows


def _weighted(rows: Iterable[tuple[int, str, int]], asked: Mapping[str, Any]) -> int:
    weights = (asked.get("weights") or {}) if asked["metric"] in WEIGHTED else {}
    return sum(int(amount) * weights.get(name, 1) for _, name, amount in rows)


def dialect_of(using: str) -> Dialect:
    return SQLITE if connections[using].vendor == "sqlite" else POSTGRES


def stored(moment: float, using: str) -> Any:
    """Unix seconds as a parameter to compare `starts` with."""
    aware = dt.datetime.fromtimestamp(moment, dt.UTC)
    return connections[using].ops.adapt_datetimefield_value(aware)


def pieces(family: Family, since: float, using: str) -> list[tuple[str, list[tuple[str, Any]]]]:
    """The tables that together hold everything since then once, and from where to where."""
    minute = kept_from(since)
    hour = -(-minute // HOUR) * HOUR
    day = -(-hour // DAY) * DAY
    deltas = attempt_deltas() if family is ATTEMPTS else family.delta
    name = f"usage_{family.name}"
    spans = [
        (f"{name}minute", minute, hour),
        (f"{name}hour", hour, day),
        (f"{name}day", day, None),
        (deltas, minute, None),
    ]
    return [
        (
            table,
            [
                (sign, stored(moment, using))
                for sign, moment in ((">=", begin), ("<", end))
                if moment is not None
            ],
        )
        for table, begin, end in spans
        if begin != end
    ]


def kept_from(since: float) -> int:
    """The start of the minute, or of the hour or day where no smaller sums are kept."""
    age = timezone.now().timestamp() - since
    grain = MINUTE
    if age > MINUTES_KEPT.total_seconds():
        grain = HOUR
    if age > HOURS_KEPT.total_seconds():
        grain = DAY
    return int(since // grain) * grain
