"""Both kinds of counters on one clock that tests move, over one ledger that tests write."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tenants.limits import LimitMetric, RateLimit, Scope
from tenants.quotas import Metric, Quota, QuotaScope
from tenants.windows import Window, period
from usage.counters.claims import (
    MICROSECONDS,
    Amounts,
    ByProvider,
    Part,
    QuotaClaim,
    RateClaim,
    SlotClaim,
)
from usage.counters.memory import MemoryCounters
from usage.counters.shared import SharedCounters


class OneClock:
    """Unix time and monotonic time as one, in whole microseconds, as the store has it. It begins
    in 2036: by its own clock the store forgets what is past."""

    def __init__(self, moment: int = 2_100_000_000 * MICROSECONDS) -> None:
        self.moment = moment

    def now(self) -> float:
        return self.moment / MICROSECONDS

    monotonic = now

    def advance(self, microseconds: int) -> None:
        self.moment += microseconds


class Book:
    """The database: what calls used, of which counters; and which processes are dead."""

    def __init__(self, *processes: str) -> None:
        self.rows: dict[str, ByProvider] = {}
        self.counted: Counter[tuple[str, str]] = Counter()
        self.alive = list(processes or ("one",))
        self.buried: set[str] = set()
        self.sums = 0
        self.thresholds: list[tuple[str, int]] = []

    def write(self, request_id: str, parts: Sequence[Part], used: Sequence[Amounts]) -> None:
        """A call's row, once; it counts for what the call had claimed of."""
        assert request_id not in self.rows
        by_provider: dict[str, Amounts] = {}
        for part, actual in zip(parts, used, strict=True):
            before = by_provider.get(part.provider, Amounts())
            by_provider[part.provider] = before.plus(actual)
            for claim in part.claims:
                if isinstance(claim, QuotaClaim):
                    self.counted[claim.key, claim.counter] += claim.amount(actual)
        self.rows[request_id] = by_provider

    async def sum(self, claim: QuotaClaim, among: Sequence[str]) -> tuple[int, Sequence[str]]:
        self.sums += 1
        await asyncio.sleep(0)
        return self.total(claim), [one for one in among if one in self.rows]

    def total(self, claim: QuotaClaim) -> int:
        return self.counted[claim.key, claim.counter]

    async def used(self, request_ids: Sequence[str]) -> Mapping[str, ByProvider]:
        return {one: self.rows[one] for one in request_ids if one in self.rows}

    async def note_threshold(self, claim: QuotaClaim, threshold: int, used: int) -> None:
        self.thresholds.append((claim.quota.name, threshold))

    async def beat(self) -> None: ...

    async def leave(self) -> None: ...

    async def processes(self) -> Sequence[str]:
        return self.alive

    async def dead(self, process: str) -> bool:
        return process in self.buried

    async def forget(self, process: str) -> None:
        self.alive.remove(process)


def memory(clock: OneClock) -> MemoryCounters:
    return MemoryCounters(clock)


def shared(
    url: str, book: Book, process: str = "one", clock: OneClock | None = None, **options: Any
) -> SharedCounters:
    moment = None if clock is None else lambda: clock.moment
    return SharedCounters(url, process, book, moment=moment, **{"timeout": 5.0} | options)


def rate(
    limit: int, per_seconds: int = 60, metric: str = "requests", whose: str = "a"
) -> RateClaim:
    made = RateLimit(Scope.KEY, limit, per_seconds, metric=LimitMetric(metric))
    return RateClaim(made, f"rate:{made.key}:{whose}")


def slots(limit: int, whose: str = "a") -> SlotClaim:
    made = RateLimit(Scope.KEY, limit, 0, metric=LimitMetric.CONCURRENCY)
    return SlotClaim(made, f"slots:{whose}")


def quota(
    limit: int,
    now: float,
    *,
    metric: Metric = Metric.REQUESTS,
    window: Window = Window.DAY,
    hard: bool = True,
    since: int = 0,
    weight: int = 1,
    provider: str = "",
) -> QuotaClaim:
    scope = QuotaScope.PROVIDER if provider else QuotaScope.TENANT
    made = Quota(scope, metric, window, limit, hard=hard)
    when = period(window, now, "UTC")
    return QuotaClaim(
        quota=made,
        key=f"quota:{provider or 'ten_1'}:{when.name}",
        period=when,
        since=since,
        subject=(("provider", provider),),
        weight=weight,
    )
