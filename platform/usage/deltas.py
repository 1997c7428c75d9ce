"""What one commit adds to the roll-ups, as SQL over the ledger's own rows.

The same statements sum a batch in its own transaction (usage/sqlite.py, usage/postgres.py),
one reaped call (usage/reaper.py) and a whole day (usage/rollups.py), so they cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

BOUNDS = (25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000)  # ms, each inclusive
BUCKETS = (*(f"le_{bound}" for bound in BOUNDS), "more")


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of sums: the columns that tell its rows apart and those that are added up."""

    name: str
    dimensions: tuple[str, ...]
    sums: tuple[str, ...]

    @property
    def delta(self) -> str:
        return f"usage_{self.name}delta"

    @property
    def columns(self) -> tuple[str, ...]:
        return ("starts", *self.dimensions, *self.sums)


CALLS = Family(
    "usage",
    (
        "tenant_id",
        "project_id",
        "key_id",
        "user_id",
        "mode",
        "operation",
        "route",
        "provider",
        "model",
    ),
    (
        "calls",
        "errors",
        "hits",
        "estimated",
        "input_tokens",
        "output_tokens",
        "cached_tokens",
        "reasoning_tokens",
        "units",
        "bytes",
        "charge",
        "cost",
        "latency_ms",
        *BUCKETS,
    ),
)
ATTEMPTS = Family(
    "attempt",
    ("provider", "model", "operation", "mode", "verdict"),
    ("attempts", "failures", "tokens", "units", "cost", "latency_ms", *BUCKETS),
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one kind of database cuts a moment down to its minute, hour or day of UTC, and finds
    a value in a list that is one parameter."""

    grains: dict[str, str]
    among: str
    as_list: Callable[[Sequence[Any]], Any]

    def cut(self, grain: str, column: str) -> str:
        return self.grains[grain].format(column)


SQLITE = Dialect(
    {
        "minute": "substr({}, 1, 16) || ':00'",
        "hour": "substr({}, 1, 13) || ':00:00'",
        "day": "substr({}, 1, 10) || ' 00:00:00'",
    },
    among="IN (SELECT value FROM json_each(%s))",
    as_list=lambda values: orjson.dumps(values).decode(),
)
POSTGRES = Dialect(
    {grain: f"date_trunc('{grain}', {{}}, 'UTC')" for grain in ("minute", "hour", "day")},
    among="= ANY(%s)",
    as_list=list,
)

_COUNTED = {
    "calls": "count(*)",
    "errors": "count(*) FILTER (WHERE code <> 'ok')",
    "hits": "count(*) FILTER (WHERE cache IN ('hit', 'stale'))",
    "estimated": "count(*) FILTER (WHERE estimate <> '')",
    "attempts": "count(*)",
    "failures": "count(*) FILTER (WHERE verdict NOT IN ('ok', 'empty', 'not_found'))",
    **{
        f"le_{bound}": f"count(*) FILTER (WHERE latency_ms > {below} AND latency_ms <= {bound})"
        for below, bound in zip((-1, *BOUNDS), BOUNDS, strict=False)
    },
    "more": f"count(*) FILTER (WHERE latency_ms > {BOUNDS[-1]})",
}


def insert_calls(records: str, attempts: str | None, dialect: Dialect) -> str:
    """The deltas of ledger rows. `records` and `attempts` are tables, or queries in brackets;
    no attempts: the rows have none of their own."""
    columns = ", ".join(("single", *CALLS.columns))
    select = summed(CALLS, records, dialect, also=f"{_single(attempts)}, ")
    return f"INSERT INTO usage_usagedelta ({columns}) {select}"


def insert_attempts(records: str, attempts: str, dialect: Dialect) -> str:
    """The deltas of the attempts that have rows of their own."""
    select = summed(ATTEMPTS, f"({_with_rows(records, attempts)})", dialect)
    return f"INSERT INTO usage_attemptdelta ({', '.join(ATTEMPTS.columns)}) {select}"


def all_attempts(records: str, attempts: str) -> str:
    """Every attempt of ledger rows, as UsageRecord.tries tells them."""
    return (
        f"({_with_rows(records, attempts)} UNION ALL"  # noqa: S608 - our own names
        " SELECT created_at, provider, model, operation, mode, 'ok',"
        " input_tokens + output_tokens, units, cost, latency_ms"
        f" FROM {records} AS s WHERE {_single(attempts)})"
    )


def attempt_deltas(where: str = "true", single_where: str = "true") -> str:
    """Every attempt that a delta of either kind tells."""
    columns = ", ".join(ATTEMPTS.columns)
    buckets = ", ".join(BUCKETS)
    return (
        f"(SELECT {columns} FROM usage_attemptdelta WHERE {where} UNION ALL"  # noqa: S608
        " SELECT starts, provider, model, operation, mode, 'ok', calls, 0,"
        f" input_tokens + output_tokens, units, cost, latency_ms, {buckets}"
        f" FROM usage_usagedelta WHERE single AND {single_where})"
    )


def summed(family: Family, rows: str, dialect: Dialect, also: str = "") -> str:
    """SELECT the family's columns, a row for each minute and set of dimensions. `also` is one
    more dimension, put first."""
    starts = dialect.cut("minute", "created_at")
    dimensions = [_id(name) if name.endswith("_id") else name for name in family.dimensions]
    sums = [_COUNTED.get(name, f"sum({name})") for name in family.sums]
    keys = ", ".join(str(n + 1) for n in range(len(dimensions) + (2 if also else 1)))
    columns = ", ".join([starts, *dimensions, *sums])
    return f"SELECT {also}{columns} FROM {rows} AS s GROUP BY {keys}"  # noqa: S608 - our own names


def _id(name: str) -> str:
    return f"coalesce({name}, 0)"


def _single(attempts: str | None) -> str:
    if attempts is None:
        return "attempts > 0"
    return (
        "(attempts > 0 AND NOT EXISTS"  # noqa: S608 - our own names
        f" (SELECT 1 FROM {attempts} AS a WHERE a.request_id = s.request_id))"
    )


def _with_rows(records: str, attempts: str) -> str:
    """What was skipped was not tried."""
    return (
        "SELECT r.created_at, a.provider, a.model, r.operation, r.mode, a.verdict,"  # noqa: S608
        " a.tokens, a.units, a.cost, a.latency_ms"
        f" FROM {records} AS r JOIN {attempts} AS a ON a.request_id = r.request_id"
        " WHERE substr(a.verdict, 1, 8) <> 'skipped_'"
    )
