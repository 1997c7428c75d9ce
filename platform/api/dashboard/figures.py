"""Calls, errors, latency, money and hits over time, from the roll-ups: today against before."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from accounts.identity import HOUSE
from api.caches import ratio
from lib.clock import rfc3339, utc
from lib.money import to_usd
from tenants.models import Tenant
from usage.summaries import TooManyGroups, latencies, summarize, total

HOUR, DAY = 3600, 86_400
MOST_GROUPS = 2000
MOST_LINES = 6  # told apart in a chart; the others are one line
OTHERS = "others"
SPANS = ("today", "yesterday", "week")


def this_minute() -> float:
    """Unix seconds, up to the end of the minute: sums are by minutes."""
    return (time.time() // 60 + 1) * 60


def overview(tenant_id: int | None = None, mode: str = "live") -> dict[str, dict[str, Any]]:
    """The last 24 hours, the 24 before, and the last seven days."""
    now = this_minute()
    edges = [now - 7 * DAY, now - 2 * DAY, now - DAY, now]
    rows = summarize(edges, [], mode=mode, tenant_id=tenant_id, most=len(edges))
    by_period = {row["period"]: row for row in rows}
    today, yesterday = ([by_period[n]] if n in by_period else [] for n in (2, 1))
    return {
        name: figures(total(part))
        for name, part in zip(SPANS, (today, yesterday, rows), strict=True)
    }


def figures(row: Mapping[str, int]) -> dict[str, Any]:
    """What sums come to."""
    calls = row["calls"]
    return {
        "calls": calls,
        "errors": row["errors"],
        "error_rate": ratio(row["errors"], calls),
        "cache_hits": row["hits"],
        "cache_hit_ratio": ratio(row["hits"], calls),
        "tokens": row["input_tokens"] + row["output_tokens"],
        "cost_microusd": row["cost"],
        "cost_usd": to_usd(row["cost"]),
        "revenue_microusd": row["charge"],
        "revenue_usd": to_usd(row["charge"]),
        "latency_ms": latencies(dict(row)),
    }


def without_cost(told: Mapping[str, Any]) -> dict[str, Any]:
    """As a tenant may see it: never what the providers take."""
    return {name: value for name, value in told.items() if not name.startswith("cost_")}


def trend(days: int = 7, tenant_id: int | None = None, mode: str = "live") -> list[dict[str, Any]]:
    """Each of the last days of 24 hours, the oldest first."""
    now = this_minute()
    edges = [now - DAY * (days - n) for n in range(days + 1)]
    rows = summarize(edges, [], mode=mode, tenant_id=tenant_id, most=days)
    by_period = {row["period"]: row for row in rows}
    return [
        {"until": rfc3339(utc(edges[n + 1])), **figures(by_period.get(n) or total([]))}
        for n in range(days)
    ]


def lines(
    by: str, hours: int = 24, mode: str = "live", tenant_id: int | None = None
) -> dict[str, Any]:
    """For a chart: calls, errors and cost by the hour, for those who called most and the
    others together. `by` is provider, tenant or operation."""
    now = this_minute()
    edges = [now - HOUR * (hours - n) for n in range(hours + 1)]
    column = "tenant_id" if by == "tenant" else by
    try:
        rows = summarize(edges, [column], mode=mode, tenant_id=tenant_id, most=hours * MOST_GROUPS)
    except TooManyGroups:
        rows = []
    called: dict[Any, int] = {}
    for row in rows:
        called[row[column]] = called.get(row[column], 0) + row["calls"]
    most = sorted(called, key=lambda group: (-called[group], str(group)))[:MOST_LINES]
    names = _names(by, most)
    return {
        "hours": [rfc3339(utc(edge)) for edge in edges[1:]],
        "lines": [
            {"name": name, **_series((row for row in rows if row[column] == group), hours)}
            for group, name in zip(most, names, strict=True)
        ]
        + _others((row for row in rows if row[column] not in most), hours),
    }


def _others(rows: Iterable[Mapping[str, int]], hours: int) -> list[dict[str, Any]]:
    series = _series(rows, hours)
    return [{"name": OTHERS, **series}] if any(series["calls"]) else []


def _series(rows: Iterable[Mapping[str, int]], hours: int) -> dict[str, list[int]]:
    series = {name: [0] * hours for name in ("calls", "errors", "cost")}
    for row in rows:
        for name, values in series.items():
            values[row["period"]] += row[name]
    return series


def _names(by: str, groups: Sequence[Any]) -> list[str]:
    if by != "tenant":
        return [group or "none" for group in groups]
    slugs = dict(Tenant.objects.filter(pk__in=groups).values_list("pk", "slug"))
    return [{HOUSE: "the house", **slugs}.get(group, "gone") for group in groups]
