"""Hedged reads through the whole gateway, on virtual time: faster at the end of the tail, hardly
more asked, nothing paid twice, nothing left behind."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from accounts.identities import Identities
from billing.book import PriceBook, PriceVersion
from gateway.app import Gateway, Options
from gateway.hedging import LEAST
from providers.breaker import State
from providers.prices import Prices
from providers.snapshot import RouteSpec, TargetSpec
from tenants.limits import LimitMetric, RateLimit, Scope
from tenants.quotas import Metric, Quota, QuotaScope
from tenants.windows import Window
from tests.gateway.unit.rig import (
    Client,
    Reply,
    Rig,
    chat,
    data_target,
    failure,
    held,
    nothing_runs,
    route,
    slug_of,
    target,
    whole,
)
from tests.virtual_time import LoopClock, on_virtual_loop
from usage.admission import Admissions
from usage.counters.memory import MemoryCounters
from usage.ledger import Ledger

GEOCODE = "/api/v1/geo/geocode?q=Stockholm"
ONE, TWO, THREE = "open-meteo-geocoding", "photon", "nominatim"
PLACE = {"name": "Stockholm", "admin1": "Stockholm", "country": "Sweden"}
FOUND: dict[str, Any] = {
    ONE: {"results": [{**PLACE, "latitude": 59.33, "longitude": 18.07}]},
    TWO: {"type": "FeatureCollection", "features": []},
}
FAST = 0.05


@dataclass
class Late(Reply):
    """An answer that takes `seconds` to come."""

    seconds: float = 0.0

    async def chunks(self) -> AsyncIterator[bytes]:
        await asyncio.sleep(self.seconds)
        async for part in super().chunks():
            yield part


def late(slug: str, seconds: float) -> Late:
    return Late(whole(FOUND[slug]).parts, seconds=seconds)


@dataclass
class Stage:
    """A gateway on virtual time, with a route of two providers. `delays` says how long a
    provider takes; without it, FAST."""

    rig: Rig
    delays: dict[str, Callable[[], float]] = field(default_factory=dict)

    def serve(self, *targets: TargetSpec, hedge: bool = True, **fields: Any) -> None:
        self.rig.serve(hedged(*targets, hedge=hedge), **fields)
        self.rig.upstreams.script = lambda request: late(
            slug := slug_of(request), self.delays.get(slug, lambda: FAST)()
        )

    async def ask(self, **request: Any) -> Client:
        return await self.rig.ask(GEOCODE, **request)

    async def warm(self) -> None:
        """So many calls that the percentile is known, and a hedge has been earned."""
        for _ in range(LEAST):
            assert (await self.ask()).status == 200

    async def slow_call(self) -> Client:
        self.delays[ONE] = lambda: 1.0
        self.rig.upstreams.sent.clear()
        self.rig.upstreams.replies.clear()
        return await self.ask()

    @property
    def verdicts(self) -> list[tuple[str, str]]:
        return [(note.provider, note.verdict) for note in self.rig.journal.finals[-1].attempts]

    def is_at_rest(self) -> bool:
        assert all(reply.closed for reply in self.rig.upstreams.replies)
        counters = self.rig.gateway.admissions.counters
        assert isinstance(counters, MemoryCounters)
        return not counters._holds and not any(counters._slots.values())


def hedged(*targets: TargetSpec, hedge: bool = True) -> RouteSpec:
    targets = targets or (data_target(ONE), data_target(TWO))
    return route(*targets, operation="geo.geocode", name="geo.geocode", hedge=hedge)


@pytest.fixture
def stage(rig: Rig) -> Stage:
    rig.clock = LoopClock()  # type: ignore[assignment]
    rig.gateway = Gateway(
        Options(),
        Ledger(rig.journal),
        Identities(rig.clock),
        Admissions(MemoryCounters(rig.clock), rig.book, rig.clock),
        clock=rig.clock,
        transport=rig.upstreams,
    )
    return Stage(rig)


def percentile(seconds: list[float], percent: int) -> float:
    return sorted(seconds)[len(seconds) * percent // 100]


async def tail(stage: Stage, *, hedge: bool, calls: int = 1000) -> tuple[float, float]:
    """The 99th percentile, and what was asked for each call; 5 % of all are slow at either
    provider. The calls come ten at a time."""
    pick = random.Random(42)

    def delay() -> float:
        return pick.uniform(0.8, 1.2) if pick.random() < 0.05 else pick.uniform(0.03, 0.06)

    stage.delays = {ONE: delay, TWO: delay}
    stage.serve(hedge=hedge)
    seconds: list[float] = []

    async def client() -> None:
        for _ in range(calls // 10):
            begun = asyncio.get_running_loop().time()
            assert (await stage.ask()).status == 200
            seconds.append(asyncio.get_running_loop().time() - begun)

    asked_before = len(stage.rig.upstreams.sent)
    await asyncio.gather(*(client() for _ in range(10)))
    return percentile(seconds, 99), (len(stage.rig.upstreams.sent) - asked_before) / calls


@on_virtual_loop
@pytest.mark.unmeasured
async def test_the_tail_is_cut_for_hardly_any_more_load(stage: Stage) -> None:
    plain, once = await tail(stage, hedge=False)
    assert once == 1.0
    helped, asked = await tail(stage, hedge=True)
    print(f"p99 {plain * 1000:.0f} ms → {helped * 1000:.0f} ms, {asked:.3f} asked a call")
    assert helped <= 0.6 * plain
    assert asked <= 1.05
    finals = stage.rig.journal.finals
    assert len({final.record.request_id for final in finals}) == len(finals) == 2000
    assert stage.is_at_rest()


@on_virtual_loop
async def test_the_loser_is_cancelled_at_once_and_paid_by_the_house_alone(stage: Stage) -> None:
    stage.serve()
    stage.rig.gateway.live.prices = prices_of({ONE: Prices(call=40), TWO: Prices(call=7)})
    await stage.warm()
    client = await stage.slow_call()
    assert client.headers["x-patchbay-provider"] == TWO
    assert client.headers["x-patchbay-attempts"] == "2"
    assert stage.verdicts == [(ONE, "hedged_away"), (TWO, "ok")]
    loser, winner = stage.rig.journal.finals[-1].attempts
    assert (loser.number, winner.number) == (1, 2)
    assert loser.latency_ms < 200  # not the second that it would have taken
    record = stage.rig.journal.finals[-1].record
    assert (record.provider, record.units, record.cost) == (TWO, 1, 7)
    assert (loser.cost, winner.cost) == (40, 7)
    assert [a["outcome"] for a in client.json["meta"]["attempts"]] == ["hedged_away", "ok"]
    assert stage.is_at_rest() and await nothing_runs()


def prices_of(by_slug: dict[str, Prices]) -> PriceBook:
    return PriceBook(
        ((slug, "", ""), PriceVersion(number, prices))
        for number, (slug, prices) in enumerate(by_slug.items(), 1)
    )


@on_virtual_loop
async def test_a_first_that_answers_after_all_wins_and_the_second_is_cancelled(
    stage: Stage,
) -> None:
    stage.serve()
    await stage.warm()
    stage.delays = {ONE: lambda: 0.2, TWO: lambda: 9.0}
    client = await stage.ask()
    assert client.headers["x-patchbay-provider"] == ONE
    assert stage.verdicts == [(TWO, "hedged_away"), (ONE, "ok")]
    assert stage.is_at_rest()


@on_virtual_loop
async def test_of_a_hundred_slow_calls_only_five_are_hedged(stage: Stage) -> None:
    stage.serve()
    await stage.warm()
    await asyncio.gather(*(stage.slow_call() for _ in range(80)))
    finals = stage.rig.journal.finals
    assert sum(len(final.attempts) > 1 for final in finals) == 5


@pytest.mark.parametrize("why", ["not asked for", "AI", "alone", "open", "half open", "full"])
@on_virtual_loop
async def test_who_may_not_be_hedged_waits(stage: Stage, why: str) -> None:
    slots = RateLimit(Scope.PROVIDER, 0, 0, metric=LimitMetric.CONCURRENCY)
    second = data_target(TWO)
    if why == "full":
        second = replace(second, provider=replace(second.provider, rate_limits=(slots,)))
    targets = (data_target(ONE),) if why == "alone" else (data_target(ONE), second)
    stage.serve(*targets, hedge=why != "not asked for")
    await stage.warm()
    breaker = stage.rig.gateway.dispatcher.breakers.of(TWO)
    if why in ("open", "half open"):
        breaker.follow(State.OPEN, 60.0 if why == "open" else 0.0)
    if why == "AI":
        stage.rig.serve(route(target("lab"), target("lab2"), hedge=True))
        stage.rig.upstreams.script = lambda request: Late(chat().parts, seconds=1.0)
        for _ in range(LEAST + 2):
            assert (await stage.rig.chat()).headers["x-patchbay-provider"] == "lab"
        return
    client = await stage.slow_call()
    assert client.headers["x-patchbay-provider"] == ONE
    assert stage.rig.upstreams.asked == [ONE]
    assert stage.verdicts == []
    assert stage.is_at_rest()


@on_virtual_loop
async def test_a_tenants_own_credential_is_never_helped_out_by_the_houses(stage: Stage) -> None:
    def keyed(slug: str, secrets: dict[int | None, str]) -> TargetSpec:
        made = data_target(slug)
        owned = {owner: held(secret) for owner, secret in secrets.items()}
        return replace(made, provider=replace(made.provider, secrets=owned))

    own, house = keyed(ONE, {1: "tenants"}), keyed(TWO, {None: "houses"})
    key = stage.rig.callers.add(tenant=1, allow_house_fallback=True)
    stage.serve(own, house)
    for _ in range(LEAST):
        await stage.ask(key=key)
    stage.delays[ONE] = lambda: 1.0
    assert (await stage.ask(key=key)).headers["x-patchbay-provider"] == ONE
    assert TWO not in stage.rig.upstreams.asked


@on_virtual_loop
async def test_when_both_fail_the_second_is_not_asked_again(stage: Stage) -> None:
    stage.serve()
    await stage.warm()
    stage.rig.upstreams.sent.clear()
    stage.rig.upstreams.script = lambda request: Late(failure(503).parts, 503, seconds=0.3)
    client = await stage.ask()
    assert client.status == 503
    assert stage.rig.upstreams.asked[:2] == [ONE, TWO]
    assert set(stage.rig.upstreams.asked[2:]) <= {ONE}  # within its own budget of retries
    assert stage.verdicts[:2] == [(ONE, "upstream_unavailable"), (TWO, "upstream_unavailable")]
    breakers = stage.rig.gateway.dispatcher.breakers
    assert breakers.of(TWO).failures_in_a_row == 1
    assert stage.is_at_rest()


@pytest.mark.parametrize("after", [0.02, 0.051, 0.08])
@on_virtual_loop
async def test_a_client_that_leaves_lets_both_go(stage: Stage, after: float) -> None:
    stage.serve()
    await stage.warm()
    stage.delays = {ONE: lambda: 9.0, TWO: lambda: 9.0}
    client = stage.rig.client()
    task = asyncio.create_task(stage.rig.run(client, GEOCODE))
    await asyncio.sleep(after)
    client.gone.set()
    await task
    assert asyncio.get_running_loop().time() < 5
    verdicts = Counter(note.verdict for note in stage.rig.journal.finals[-1].attempts)
    assert set(verdicts) == {"hung_up"}
    assert stage.is_at_rest() and await nothing_runs()


@on_virtual_loop
async def test_each_attempt_counts_at_its_own_provider(stage: Stage) -> None:
    quota = Quota(QuotaScope.PROVIDER, Metric.REQUESTS, Window.DAY, LEAST + 2)
    targets = [data_target(ONE), data_target(TWO)]
    limited = [replace(t, provider=replace(t.provider, quotas=(quota,))) for t in targets]
    stage.serve(*limited)
    await stage.warm()
    await stage.slow_call()
    assert stage.verdicts == [(ONE, "hedged_away"), (TWO, "ok")]
    counters = stage.rig.gateway.admissions.counters
    assert isinstance(counters, MemoryCounters)
    cells = {key[0].split(":")[1]: cell for key, cell in counters._cells.items()}
    assert {slug: (cell.used, cell.reserved) for slug, cell in cells.items()} == {
        ONE: (LEAST + 1, 0),
        TWO: (1, 0),
    }
