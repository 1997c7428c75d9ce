"""Exact sums of the ledger from its roll-ups, for the counters that quotas are held by.

Whole days, then the hours of the first day, then the minutes of the first hour, then what is
not folded yet: some hundred rows of one tenant's month, however many calls there were. All in
one statement, so that a commit or a fold meanwhile is either wholly in or wholly out.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.utils import timezone

from usage.deltas import ATTEMPTS, CALLS, POSTGRES, SQLITE, Dialect, Family, attempt_deltas

MINUTES_KEPT = dt.timedelta(days=45)
HOURS_KEPT = dt.timedelta(days=400)
MINUTE, HOUR, DAY = 60, 3600, 86400

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
    *,
    scope: str,
    subject: Mapping[str, Any],
    metric: str,
    since: float,
    weights: Mapping[str, int] | None = None,
    operations: Collection[str] | None = None,
    mode: str = "live",
    among: Sequence[str] = (),
    using: str = DEFAULT_DB_ALIAS,
) -> tuple[int, set[str]]:
    """The same sum, and which of the request ids `among` it already holds."""
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
        "SELECT 0, operation, sum(amount)"  # noqa: S608 - our own names
        f" FROM ({' UNION ALL '.join(parts)}) AS pieces GROUP BY operation"
    )
    if among:
        statement += (
            " UNION ALL SELECT 1, request_id, 0 FROM usage_usagerecord"  # noqa: S608
            f" WHERE request_id {dialect.among}"
        )
        parameters.append(dialect.as_list(list(among)))
    with connections[using].cursor() as cursor:
        cursor.execute(statement, parameters)
        rows = cursor.fetchall()
    weight = (weights or {}) if metric in WEIGHTED else {}
    total = sum(int(amount) * weight.get(name, 1) for is_id, name, amount in rows if not is_id)
    return total, {name for is_id, name, _ in rows if is_id}


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
