"""A day of calls to the data operations, replayed in simulated time against the real cache and
the real foresight, with an upstream that only counts.

    ENV_FILE=tests/test.env PYTHONPATH=.:platform .venv/bin/python tests/bench/trace.py

Which symbols, places and words are asked for follows Zipf's law, and how many calls come an hour
a day's curve. The same seed makes the same calls. Days before the last are for learning, with and
without warming alike; the last one is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from cache.cache import Answer, Ask, Cache, Look, Place
from cache.foresight import DAY, HOUR, Foresight
from cache.freshness import State, Times
from cache.policy import CachePolicy
from cache.warming import OK, Warmer
from providers import cache_rules
from providers.operations import registry
from tests.clocks import ManualClock

BEGIN = 1_800_000_000.0 // DAY * DAY
BODY = b'{"data": {"value": 1}}'
TENANTS = 20
NIGHT = 0.15  # of the calls that come at the busiest hour
BUSIEST = 14  # o'clock
NEW_EACH_DAY = 0.1  # of what is asked for, another takes its place in the ranking


class Kind(NamedTuple):
    """One operation's part of all calls, among how many questions, and how steep their law is."""

    operation: str
    part: float
    questions: int
    steepness: float


KINDS = (
    Kind("finance.quote", 0.24, 400, 1.2),
    Kind("finance.crypto_price", 0.12, 40, 1.2),
    Kind("finance.fx_rate", 0.14, 150, 1.1),
    Kind("finance.history", 0.05, 400, 1.1),
    Kind("weather.current", 0.14, 300, 1.0),
    Kind("weather.forecast", 0.09, 300, 1.0),
    Kind("sports.fixtures", 0.05, 40, 1.0),
    Kind("sports.standings", 0.03, 30, 1.0),
    Kind("geo.country", 0.03, 200, 1.0),
    Kind("holidays.list", 0.02, 100, 1.0),
    Kind("geo.geocode", 0.05, 500, 1.0),  # from here on each tenant's own
    Kind("news.search", 0.04, 200, 1.0),
)


class Call(NamedTuple):
    """`tenant` is 0 where the answer is everybody's."""

    at: float
    operation: str
    question: int
    tenant: int


def curve(hour: float) -> float:
    """How many calls come at that hour, of those at the busiest."""
    swing = (1 + math.cos((hour - BUSIEST) / 24 * math.tau)) / 2
    return NIGHT + (1 - NIGHT) * swing


def trace(seed: int, days: int, calls: int) -> Iterator[Call]:
    """About so many calls a day, in their order."""
    chance = random.Random(seed)
    mean = sum(curve(hour / 10) for hour in range(240)) / 240
    ranking = {kind: list(range(kind.questions)) for kind in KINDS}
    laws = {kind: _law(kind) for kind in KINDS}
    parts = list(accumulate(kind.part for kind in KINDS))
    policies = {kind: policy_of(kind.operation) for kind in KINDS}
    for day in range(days):
        for kind in KINDS if day else ():
            _renew(ranking[kind], kind, day, chance)
        for second in range(int(DAY)):
            expected = calls / DAY * curve(second / HOUR) / mean
            for _ in range(_poisson(expected, chance)):
                kind = KINDS[min(bisect(parts, chance.random() * parts[-1]), len(KINDS) - 1)]
                rank = min(bisect(laws[kind], chance.random()), kind.questions - 1)
                tenant = 0 if policies[kind].public else chance.randint(1, TENANTS)
                at = BEGIN + day * DAY + second
                yield Call(at, kind.operation, ranking[kind][rank], tenant)


def _law(kind: Kind) -> Sequence[float]:
    weights = [1 / (rank + 1) ** kind.steepness for rank in range(kind.questions)]
    return [sum_ / sum(weights) for sum_ in accumulate(weights)]


def _renew(ranking: list[int], kind: Kind, day: int, chance: random.Random) -> None:
    for place in range(kind.questions):
        if chance.random() < NEW_EACH_DAY:
            ranking[place] = day * kind.questions + place


def _poisson(expected: float, chance: random.Random) -> int:
    limit, product, count = math.exp(-expected), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count


def policy_of(operation: str) -> CachePolicy:
    return CachePolicy(**cache_rules.merged(registry()[operation].cache))


@dataclass
class Counts:
    calls: int = 0
    hits: int = 0
    stale: int = 0
    upstream: int = 0
    warm: int = 0

    def line(self, name: str) -> str:
        calls = self.calls or 1
        saved = 100 * (1 - self.upstream / calls)
        return (
            f"{name:<22}{self.calls:>9,}{100 * self.hits / calls:>8.1f} %"
            f"{100 * self.stale / calls:>8.1f} %{self.upstream:>10,}{self.warm:>9,}{saved:>9.1f} %"
        )


@dataclass
class System:
    """One worker's cache; with `per_minute`, what warms it."""

    per_minute: int = 0
    clock: ManualClock = field(default_factory=lambda: ManualClock(now=BEGIN))
    counts: Counts = field(default_factory=Counts)
    asks: dict[tuple[str, int, int], Ask] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cache = Cache(b"the trace's", clock=self.clock)
        self.foresight = Foresight()
        self.warmer = Warmer(self.cache, self.foresight)
        self.left = self.per_minute

    async def replay(self, calls: Iterator[Call], measured_from: float) -> Counts:
        for call in calls:
            while self.clock.now() < call.at:
                await self._second(measured_from)
            await self._serve(call)
        return self.counts

    async def _second(self, measured_from: float) -> None:
        self.clock.advance(1)
        now = self.clock.now()
        if now == measured_from:
            self.counts = Counts()
            self.foresight.gain.hits = self.foresight.gain.useful = 0
        if not self.per_minute:
            return
        if now % 60 == 0:
            self.left = self.per_minute
        for key in self.foresight.due(now):
            await self.warmer.refresh(self.foresight.question(key), self._warm)

    async def _serve(self, call: Call) -> None:
        counts, ask = self.counts, self._ask(call)
        counts.calls += 1
        if self.per_minute and not call.tenant:
            self.foresight.note(ask.key, ask, call.at)
        if self.cache.fresh(ask) is not None:
            counts.hits += 1
            return
        async with self.cache.look(ask) as look:
            if look.entry is not None:
                counts.hits += look.state is State.FRESH
                counts.stale += look.state is not State.FRESH
            if look.entry is None or look.leads:
                self._fetch(look)

    def _ask(self, call: Call) -> Ask:
        of = (call.operation, call.question, call.tenant)
        known = self.asks.get(of)
        if known is None:
            place = Place(call.tenant or None, "live", call.operation, route=call.operation)
            policy = policy_of(call.operation)
            params = {"q": call.question}
            known = self.asks[of] = self.cache.ask(place, params, policy, until=math.inf)
        return known

    def _fetch(self, look: Look) -> None:
        self.counts.upstream += 1
        now = self.clock.now()
        look.keep(Answer(BODY, Times(now, now)))

    async def _warm(self, look: Look) -> str:
        if not self.left:
            return "rate_limited"
        self.left -= 1
        self.counts.warm += 1
        self._fetch(look)
        return OK


async def main(seed: int, days: int, calls: int, per_minute: int) -> None:
    measured_from = BEGIN + (days - 1) * DAY
    print(f"seed {seed}, {days} days, the last is measured; warming: {per_minute} calls a minute")
    print(f"{'':<22}{'calls':>9}{'hits':>10}{'stale':>10}{'upstream':>10}{'warm':>9}{'saved':>11}")
    plain = await System().replay(trace(seed, days, calls), measured_from)
    print(Counts(plain.calls, upstream=plain.calls).line("without cache"))
    print(plain.line("cache"))
    system = System(per_minute)
    warm = await system.replay(trace(seed, days, calls), measured_from)
    print(warm.line("cache and warming"))
    gain = system.foresight.gain
    print(
        f"warming: {warm.warm:,} calls, {gain.useful:,} of them useful; {gain.hits:,} hits on what they kept fresh"
    )
    hits, saved = warm.hits / warm.calls, 1 - warm.upstream / warm.calls
    print(f"hits {100 * hits:.1f} % (target 85), saved {100 * saved:.1f} % (target 60): ", end="")
    print("met" if hits >= 0.85 and saved >= 0.6 else "MISSED")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--calls", type=int, default=300_000, help="a day")
    parser.add_argument("--per-minute", type=int, default=60)
    asked = parser.parse_args()
    asyncio.run(main(asked.seed, asked.days, asked.calls, asked.per_minute))
