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
from functools import cache, partial
from itertools import accumulate
from typing import NamedTuple

from cache.cache import Answer, Ask, Cache, Look, Place
from cache.foresight import DAY, HOUR, Foresight
from cache.freshness import State, Times
from cache.policy import CachePolicy
from cache.warming import OK, Warmer
from providers import cache_rules
from providers.catalogue import load_documents
from providers.operations import registry
from tests.clocks import ManualClock

BEGIN = 1_800_000_000.0 // DAY * DAY
BODY = b'{"data": {"value": 1}}'
TENANTS = 20
NIGHT = 0.15  # of the calls that come at the busiest hour
BUSIEST = 14  # o'clock
LEAST_HITS, LEAST_SAVED = 0.85, 0.6
NEW_EACH_DAY = 0.1  # of what is asked for, another takes its place in the ranking


class Kind(NamedTuple):
    """One operation's part of all calls, who answers it, among how many questions, and how steep
    their law is."""

    operation: str
    provider: str
    part: float
    questions: int
    steepness: float


# Who answers is the first of the shipped route; where all need a credential, the one with the
# shortest `ttl` among those that are made for it.
KINDS = (
    Kind("finance.quote", "finnhub", 0.24, 400, 1.2),
    Kind("finance.crypto_price", "binance", 0.12, 40, 1.2),
    Kind("finance.fx_rate", "frankfurter", 0.14, 150, 1.1),
    Kind("finance.history", "twelve-data", 0.05, 400, 1.1),
    Kind("weather.current", "met-no", 0.14, 300, 1.0),
    Kind("weather.forecast", "open-meteo", 0.09, 300, 1.0),
    Kind("sports.fixtures", "openligadb", 0.05, 40, 1.0),
    Kind("sports.standings", "football-data", 0.03, 30, 1.0),
    Kind("geo.country", "restcountries", 0.03, 200, 1.0),
    Kind("holidays.list", "nager-date", 0.02, 100, 1.0),
    Kind("geo.geocode", "nominatim", 0.05, 500, 1.0),  # from here on each tenant's own
    Kind("news.search", "gdelt", 0.04, 200, 1.0),
)


class Call(NamedTuple):
    """`tenant` is 0 where the answer is everybody's."""

    at: float
    kind: Kind
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
    public = {kind: policies(kind)[0].public for kind in KINDS}
    for day in range(days):
        for kind in KINDS if day else ():
            _renew(ranking[kind], kind, day, chance)
        for second in range(int(DAY)):
            expected = calls / DAY * curve(second / HOUR) / mean
            for _ in range(_poisson(expected, chance)):
                kind = KINDS[min(bisect(parts, chance.random() * parts[-1]), len(KINDS) - 1)]
                rank = min(bisect(laws[kind], chance.random()), kind.questions - 1)
                tenant = 0 if public[kind] else chance.randint(1, TENANTS)
                at = BEGIN + day * DAY + second
                yield Call(at, kind, ranking[kind][rank], tenant)


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


DOCUMENTS = {file.slug: file.document for file in load_documents()}


@cache
def policies(kind: Kind, stale: int = 0) -> tuple[CachePolicy, CachePolicy]:
    """By which an answer is looked for, and by which it is kept: as the gateway makes them
    (gateway/routing.py) of what the operation and the provider's manifest say, and of a route
    that lets stale answers be served for so many seconds at least."""
    rules = registry()[kind.operation].cache
    own = cache_rules.of_manifest(DOCUMENTS[kind.provider], kind.operation)
    kept = cache_rules.merged(rules, own)
    route = {"stale_while_revalidate": max(stale, kept["stale_while_revalidate"])}
    return CachePolicy(**cache_rules.merged(rules)), CachePolicy(**kept | route)


@dataclass
class Counts:
    """`fresh` and `stale` calls were answered from the cache at once. Those that waited asked
    for what nobody had asked for (`first`), or for what was gone again (`gone`)."""

    calls: int = 0
    fresh: int = 0
    stale: int = 0
    first: int = 0
    gone: int = 0
    upstream: int = 0
    warm: int = 0

    @property
    def hits(self) -> float:
        return (self.fresh + self.stale) / (self.calls or 1)

    @property
    def saved(self) -> float:
        return 1 - self.upstream / (self.calls or 1)

    def line(self, name: str) -> str:
        parts = (self.fresh, self.stale, self.fresh + self.stale, self.first, self.gone)
        shares = "".join(f"{100 * part / (self.calls or 1):>8.1f} %" for part in parts)
        return f"{name:<20}{shares}{self.upstream:>10,}{self.warm:>9,}{100 * self.saved:>8.1f} %"


@dataclass
class System:
    """One worker's cache; with `per_minute`, what warms it."""

    per_minute: int = 0
    stale: int = 0
    clock: ManualClock = field(default_factory=lambda: ManualClock(now=BEGIN))
    counts: Counts = field(default_factory=Counts)
    asks: dict[tuple[Kind, int, int], Ask] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cache = Cache(b"the trace's", clock=self.clock)
        self.foresight = Foresight()
        self.warmer = Warmer(self.cache, self.foresight)
        self.left = self.per_minute
        self.refused = 0

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
            self.refused = self.foresight.gain.hits = self.foresight.gain.useful = 0
        if not self.per_minute:
            return
        if now % 60 == 0:
            self.left = self.per_minute
        for key in self.foresight.due(now):
            kind, ask = self.foresight.question(key)
            await self.warmer.refresh(ask, partial(self._warm, kind))

    async def _serve(self, call: Call) -> None:
        counts = self.counts
        counts.calls += 1
        is_first = (call.kind, call.question, call.tenant) not in self.asks
        ask = self._ask(call)
        if self.per_minute and not call.tenant:
            self.foresight.note(ask.key, (call.kind, ask), call.at)
        if self.cache.fresh(ask) is not None:
            counts.fresh += 1
            return
        async with self.cache.look(ask) as look:
            counts.fresh += look.entry is not None and look.state is State.FRESH
            counts.stale += look.entry is not None and look.state is not State.FRESH
            counts.first += look.entry is None and is_first
            counts.gone += look.entry is None and not is_first
            if look.entry is None or look.leads:
                self._fetch(look, call.kind)

    def _ask(self, call: Call) -> Ask:
        of = (call.kind, call.question, call.tenant)
        known = self.asks.get(of)
        if known is None:
            operation, params = call.kind.operation, {"q": call.question}
            place = Place(call.tenant or None, "live", operation, route=operation)
            policy, _ = policies(call.kind)
            known = self.asks[of] = self.cache.ask(place, params, policy, until=math.inf)
        return known

    def _fetch(self, look: Look, kind: Kind) -> None:
        self.counts.upstream += 1
        now, (_, kept) = self.clock.now(), policies(kind, self.stale)
        look.keep(Answer(BODY, Times(now, now), policy=kept))

    async def _warm(self, kind: Kind, look: Look) -> str:
        if not self.left:
            self.refused += 1
            return "rate_limited"
        self.left -= 1
        self.counts.warm += 1
        self._fetch(look, kind)
        return OK


HEAD = ("fresh", "stale", "hits", "first", "gone")


async def main(seed: int, days: int, calls: int, per_minute: int, stale: int) -> None:
    measured_from = BEGIN + (days - 1) * DAY
    print(f"seed {seed}, {calls:,} calls a day, {days} days, the last is measured")
    shares = "".join(f"{word:>10}" for word in HEAD)
    print(f"{'':<20}{shares}{'upstream':>10}{'warm':>9}{'saved':>10}")
    plain = await System(stale=stale).replay(trace(seed, days, calls), measured_from)
    print(plain.line("cache"))
    system = System(per_minute, stale)
    warm = await system.replay(trace(seed, days, calls), measured_from)
    print(warm.line("cache and warming"))
    gain = system.foresight.gain
    print(
        f"warming: {warm.warm:,} calls, for {gain.useful:,} of which somebody asked; "
        f"{system.refused:,} more were above {per_minute} a minute"
    )
    print(
        f"hits {100 * (warm.hits - plain.hits):+.1f} points, fresh ones "
        f"{100 * (warm.fresh / warm.calls - plain.fresh / plain.calls):+.1f}; "
        f"{warm.upstream - plain.upstream:+,} calls upstream"
    )
    verdict = "met" if warm.hits >= LEAST_HITS and warm.saved >= LEAST_SAVED else "MISSED"
    print(
        f"aim: {LEAST_HITS:.0%} hits, {LEAST_SAVED:.0%} fewer calls upstream than calls: {verdict}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--calls", type=int, default=300_000, help="a day")
    parser.add_argument("--per-minute", type=int, default=60)
    help_of_stale = "seconds that every route lets stale answers be served, at least"
    parser.add_argument("--stale", type=int, default=0, help=help_of_stale)
    asyncio.run(main(**vars(parser.parse_args())))
