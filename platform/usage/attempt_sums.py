"""What the attempts at the providers came to since a moment: for people to read.

Attempts, failures and latencies are from roll-ups and deltas, exact to the minute. Which of
them were retries and fallbacks only the attempts' own rows tell: ask for hours, not months.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Count, Exists, OuterRef, Q

from lib.clock import utc
from lib.ids import first_uuid7
from usage.deltas import ATTEMPTS
from usage.models import Attempt, UsageRecord
from usage.rollup_models import AttemptHour
from usage.sums import HOUR, pieces

SKIPPED = "skipped_"  # begins the verdict of what was not tried


class Again(NamedTuple):
    """Tries that were not a call's first: at a target that failed it before, or at the next."""

    retries: int = 0
    fallbacks: int = 0


def attempts_since(
    since: float,
    by: Sequence[str] = ("provider",),
    *,
    mode: str = "live",
    using: str = DEFAULT_DB_ALIAS,
) -> list[dict[str, Any]]:
    """Sums of all attempts since a minute (unix seconds), for each group of the columns `by`,
    in order. Where minutes are no longer kept, since the hour or UTC day."""
    columns = ", ".join((*by, *ATTEMPTS.sums))
    parts, parameters = [], []
    for table, bounds in pieces(ATTEMPTS, since, using):
        within = " AND ".join(f"starts {sign} %s" for sign, _ in bounds)
        parts.append(f"SELECT {columns} FROM {table} AS piece WHERE {within} AND mode = %s")  # noqa: S608
        parameters += [*(moment for _, moment in bounds), mode]
    groups, sums = ", ".join(by), ", ".join(f"sum({name})" for name in ATTEMPTS.sums)
    statement = (
        f"SELECT {groups}, {sums} FROM ({' UNION ALL '.join(parts)}) AS pieces"  # noqa: S608
        f" GROUP BY {groups} ORDER BY {groups}"
    )
    with connections[using].cursor() as cursor:
        cursor.execute(statement, parameters)
        rows = cursor.fetchall()
    return [
        dict(zip(by, row, strict=False))
        | {name: int(n) for name, n in zip(ATTEMPTS.sums, row[len(by) :], strict=True)}
        for row in rows
    ]


def again_since(
    since: float, *, mode: str = "live", using: str = DEFAULT_DB_ALIAS
) -> dict[str, Again]:
    """By provider, the retries and fallbacks of calls that began since then (unix seconds)."""
    begun = Q(request_id__gte=first_uuid7(since))
    tried = Attempt.objects.using(using).filter(begun).exclude(verdict__startswith=SKIPPED)
    before = {"request_id": OuterRef("request_id"), "number__lt": OuterRef("number")}
    same = {"provider": OuterRef("provider"), "model": OuterRef("model")}
    calls = UsageRecord.objects.using(using).filter(begun, mode=mode).values("request_id")
    rows = (
        tried.filter(number__gt=1, request_id__in=calls)
        .annotate(retry=Exists(tried.filter(**before, **same)))
        .values("provider")
        .annotate(
            retries=Count("pk", filter=Q(retry=True)),
            fallbacks=Count("pk", filter=Q(retry=False)),
        )
    )
    return {row["provider"]: Again(row["retries"], row["fallbacks"]) for row in rows}


def busy_hours(
    since: float, *, mode: str = "live", using: str = DEFAULT_DB_ALIAS
) -> dict[str, int]:
    """By provider, in how many hours it was tried at all."""
    hour = utc(since // HOUR * HOUR)
    rows = AttemptHour.objects.using(using).filter(starts__gte=hour, mode=mode).values("provider")
    counted = rows.annotate(hours=Count("starts", distinct=True))
    return {row["provider"]: row["hours"] for row in counted}
