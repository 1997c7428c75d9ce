"""What was used over a time, in groups: for people to read. From roll-ups and deltas only.

Every period is put together from the days in it, the hours at its edges and the minutes at
theirs, so that an hour or day of any time zone is exact; in one statement.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import orjson
from django.db import DEFAULT_DB_ALIAS, connections

from usage.deltas import BOUNDS, BUCKETS, CALLS, SQLITE
from usage.sums import DAY, HOUR, dialect_of, kept_from

GRAINS = ("minute", "hour", "day", "delta")
_SPANS_OF_SQLITE = (
    "SELECT json_extract(value, '$[0]') AS grain, json_extract(value, '$[1]') AS period,"
    " json_extract(value, '$[2]') AS begins, json_extract(value, '$[3]') AS ends"
    " FROM json_each(%s)"
)
_SPANS_OF_POSTGRES = (
    "SELECT value->>0 AS grain, (value->>1)::int AS period,"
    " (value->>2 || 'Z')::timestamptz AS begins, (value->>3 || 'Z')::timestamptz AS ends"
    " FROM json_array_elements(%s::json) AS value"
)


class TooManyGroups(Exception):
    """More rows than anybody reads."""


def summarize(
    edges: Sequence[float],
    by: Sequence[str],
    *,
    mode: str,
    tenant_id: int | None = None,
    most: int,
    using: str = DEFAULT_DB_ALIAS,
) -> list[dict[str, Any]]:
    """Sums of calls for each period between two edges (unix seconds, on whole minutes) and
    each group of the columns `by`, in order. `period` numbers the periods from 0. Raises
    TooManyGroups.

    Where minutes or hours are no longer kept, an edge is moved down to the hour or UTC day.
    """
    filters: list[str] = ["r.mode = %s"]
    values: list[Any] = [mode]
    if tenant_id is not None:
        filters, values = [*filters, "r.tenant_id = %s"], [*values, tenant_id]
    columns = ", ".join(["period", *by])
    picked = ", ".join(["span.period", *(f"r.{name}" for name in (*by, *CALLS.sums))])
    pieces = " UNION ALL ".join(
        f"SELECT {picked} FROM span CROSS JOIN usage_usage{grain} AS r"  # noqa: S608
        f" WHERE span.grain = '{grain}' AND r.starts >= span.begins AND r.starts < span.ends"
        f" AND {' AND '.join(filters)}"
        for grain in GRAINS
    )
    sums = ", ".join(f"sum({name})" for name in CALLS.sums)
    is_sqlite = dialect_of(using) is SQLITE
    spans = _SPANS_OF_SQLITE if is_sqlite else _SPANS_OF_POSTGRES
    statement = (
        f"WITH span AS ({spans}) SELECT {columns}, {sums} FROM ({pieces}) AS piece"  # noqa: S608
        f" GROUP BY {columns} ORDER BY {columns} LIMIT {most + 1}"
    )
    with connections[using].cursor() as cursor:
        cursor.execute(statement, [orjson.dumps(_spans(edges)).decode(), *values * len(GRAINS)])
        rows = cursor.fetchall()
    if len(rows) > most:
        raise TooManyGroups
    names = ("period", *by)
    return [
        dict(zip(names, row, strict=False))
        | {name: int(n) for name, n in zip(CALLS.sums, row[len(names) :], strict=True)}
        for row in rows
    ]


def total(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    return {name: sum(row[name] for row in rows) for name in CALLS.sums}


def latencies(row: dict[str, Any]) -> dict[str, int | None]:
    """Mean and percentiles in ms. A percentile is read off the histogram as if the calls of a
    bucket lay evenly in it; what took longer than the last bound counts as that bound."""
    calls = row["calls"]
    if not calls:
        return {"mean": None, "p50": None, "p95": None, "p99": None}
    percentiles = {f"p{share}": _percentile(row, share) for share in (50, 95, 99)}
    return {"mean": round(row["latency_ms"] / calls), **percentiles}


def _percentile(row: dict[str, Any], share: int) -> int:
    rank, below, lower = row["calls"] * share / 100, 0, 0
    for name, upper in zip(BUCKETS, BOUNDS, strict=False):
        if row[name] and below + row[name] >= rank:
            within: float = (rank - below) / row[name]
            return round(lower + (upper - lower) * within)
        below, lower = below + row[name], upper
    return BOUNDS[-1]


def _spans(edges: Sequence[float]) -> list[tuple[str, int, str, str]]:
    """Which sums make up each period, as (grain, period, from, until)."""
    found = []
    kept = [kept_from(edge) for edge in edges]
    for period, (begin, end) in enumerate(pairwise(kept)):
        spans = [("delta", begin, end), *_pieces(begin, end)]
        found += [
            (grain, period, _text(begins), _text(ends))
            for grain, begins, ends in spans
            if begins < ends
        ]
    return found


def _pieces(begin: int, end: int) -> list[tuple[str, int, int]]:
    first_hour, last_hour = -(-begin // HOUR) * HOUR, end // HOUR * HOUR
    if first_hour >= last_hour:
        return [("minute", begin, end)]
    edges = [("minute", begin, first_hour), ("minute", last_hour, end)]
    first_day, last_day = -(-first_hour // DAY) * DAY, last_hour // DAY * DAY
    if first_day >= last_day:
        return [*edges, ("hour", first_hour, last_hour)]
    return [
        *edges,
        ("hour", first_hour, first_day),
        ("day", first_day, last_day),
        ("hour", last_day, last_hour),
    ]


def _text(moment: int) -> str:
    """Of UTC, as SQLite keeps it and PostgreSQL reads it."""
    return dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
