"""Warm calls on their way through the gateway: what they may use, who pays, and that clients come
first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from prometheus_client import REGISTRY

from accounts.credentials import WarmCredential
from accounts.identity import HOUSE, WARM, Identity, Record
from gateway.warming import Question, _begins
from lib.problems import Unavailable
from providers.snapshot import ProviderSpec, TargetSpec
from providers.warm_requests import WarmSpec
from tenants.keys import Mode
from tenants.limits import RateLimit, Scope
from tenants.quotas import Metric, Quota, QuotaScope
from tenants.windows import Window
from tests.gateway.unit.rig import (
    Rig,
    chat,
    data_provider,
    data_target,
    failure,
    route,
    target,
    whole,
)
from tests.gateway.unit.test_cursors import ASK as ART
from tests.gateway.unit.test_cursors import gallery
from tests.loops import on_loop

FX, GEO = "finance.fx_rate", "geo.geocode"
RATE = "/api/v1/finance/fx_rate?base=EUR&quote=SEK"
OSLO = "/api/v1/geo/geocode?q=Oslo"
KEPT = {"ttl": 300}
EURO = WarmSpec(1, None, FX, {"base": "eur", "quote": "SEK"}, 240)
SAID = "x-patchbay-cache"


def rates(rig: Rig, *requests: WarmSpec, spec: ProviderSpec | None = None, **cache: Any) -> None:
    """An operation whose answers are everybody's, and what of it is kept warm."""
    of = TargetSpec(spec or data_provider("frankfurter"))
    rig.serve(route(of, operation=FX, name=FX, cache=KEPT | cache), warm_requests=tuple(requests))
    rig.upstreams.script = lambda request: whole(
        {"amount": 1.0, "base": "EUR", "date": "2027-01-15", "rates": {"SEK": 11.5}}
    )


def places(rig: Rig, *requests: WarmSpec) -> None:
    """One whose answers are their tenant's alone."""
    of = TargetSpec(data_provider("open-meteo-geocoding"))
    rig.serve(route(of, operation=GEO, name=GEO, cache=KEPT), warm_requests=tuple(requests))
    place = {"name": "Oslo", "latitude": 59.9, "longitude": 10.7}
    rig.upstreams.script = lambda request: whole({"results": [place]})


@pytest.fixture
def tenants(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, Record]]:
    """Whom the gateway can ask as: the house and tenant 1, unless a test says otherwise."""
    everything = frozenset({"*"})
    known = {
        number: Record(
            Identity(
                kind=WARM,
                mode=Mode.LIVE,
                scopes=everything,
                tenant_id=number,
                tenant_public_id=f"ten_{number}",
            )
        )
        for number in (HOUSE, 1)
    }
    monkeypatch.setattr(WarmCredential, "find", lambda shown: known.get(shown._tenant_id))
    yield known


class Notes:
    def __init__(self, rig: Rig) -> None:
        self.outcomes: list[tuple[int, str]] = []
        rig.gateway.live.note_warmed = self.note  # type: ignore[method-assign]

    async def note(self, request_id: int, outcome: str) -> None:
        self.outcomes.append((request_id, outcome))


@contextlib.asynccontextmanager
async def warming(rig: Rig) -> AsyncIterator[Callable[[], Any]]:
    """`await turn()`: a turn, and all that it had to do."""
    runs = rig.gateway.warming
    assert runs is not None
    workers = [asyncio.create_task(runs.work()) for _ in range(3)]

    async def turn(seconds: float = 0.0) -> list[tuple[int, str]]:
        rig.clock.advance(seconds)
        before = len(notes.outcomes)
        runs.turn()
        await runs.jobs.join()
        return notes.outcomes[before:]

    notes = Notes(rig)
    try:
        yield turn
    finally:
        for worker in workers:
            worker.cancel()


def spent(why: str, result: str) -> float:
    labels = {"why": why, "result": result}
    return REGISTRY.get_sample_value("patchbay_cache_warm_calls_total", labels) or 0.0


def quota(limit: int) -> Quota:
    return Quota(QuotaScope.PROVIDER, Metric.REQUESTS, Window.DAY, limit)


@on_loop
async def test_what_is_declared_is_there_for_whoever_asks_first(
    rig: Rig, tenants: dict[int, Record]
) -> None:
    rates(rig, EURO)
    before = spent("declared", "ok")
    async with warming(rig) as turn:
        assert await turn() == [(1, "ok")]
        assert await turn(1) == []
        answers = [await rig.ask(RATE), await rig.ask(RATE, key=rig.callers.add(tenant=2))]
    assert [answer.headers[SAID] for answer in answers] == ["hit", "hit"]
    assert len(rig.upstreams.sent) == 1 and spent("declared", "ok") == before + 1


@on_loop
async def test_it_is_asked_once_a_period_and_only_if_it_would_get_stale(
    rig: Rig, tenants: dict[int, Record]
) -> None:
    rates(rig, EURO, replace_every(EURO, 2, 60))
    outcomes = []
    async with warming(rig) as turn:
        for _ in range(1200 // 5):
            outcomes += await turn(5)
    often = [outcome for number, outcome in outcomes if number == 2]
    assert 20 <= len(often) <= 21
    assert len([outcome for number, outcome in outcomes if number == 1]) in (5, 6)
    assert 4 <= len(rig.upstreams.sent) <= 6  # one answer is good for 300 s
    assert {outcome for _, outcome in outcomes} <= {"ok", "fresh", "under_way"}


def replace_every(spec: WarmSpec, number: int, every: int) -> WarmSpec:
    return spec._replace(id=number, every=every)


@on_loop
async def test_the_houses_calls_are_the_houses_bill(rig: Rig, tenants: dict[int, Record]) -> None:
    rates(rig, EURO)
    async with warming(rig) as turn:
        await turn()
    row = rig.final.record
    assert (row.tenant_id, row.key_id, row.user_id, row.cache) == (HOUSE, None, None, "warm")
    assert (row.provider, row.status, row.code, row.mode) == ("frankfurter", 200, "ok", "live")


@on_loop
async def test_a_tenants_are_asked_as_that_tenant(rig: Rig, tenants: dict[int, Record]) -> None:
    places(rig, WarmSpec(7, 1, GEO, {"q": "Oslo"}, 60))
    async with warming(rig) as turn:
        assert await turn() == [(7, "ok")]
        others = await rig.ask(OSLO, key=rig.callers.add(tenant=2))
        own = await rig.ask(OSLO)
    assert (own.headers[SAID], others.headers[SAID]) == ("hit", "miss")
    assert rig.journal.finals[0].record.tenant_id == 1


@on_loop
async def test_of_its_tenants_limits_too_it_uses_a_share_and_leaves_the_rest_to_calls(
    rig: Rig, tenants: dict[int, Record]
) -> None:
    """Ten per cent of twenty a day: calls find eighteen, whatever is kept warm."""
    twenty = RateLimit(Scope.TENANT, 20, 86_400)
    tenants[1] = replace(tenants[1], identity=replace(tenants[1].identity, rate_limits=(twenty,)))
    places(rig, *(WarmSpec(n, 1, GEO, {"q": f"Oslo {n}"}, 60) for n in range(4)))
    async with warming(rig) as turn:
        outcomes = sorted(outcome for _, outcome in await turn())
    assert outcomes == ["ok", "ok", "rate_limit_exceeded", "rate_limit_exceeded"]
    key = rig.callers.add(rate_limits=(twenty,))
    answers = [await rig.ask(OSLO, key=key) for _ in range(19)]
    assert [answer.status for answer in answers] == [200] * 18 + [429]


@on_loop
async def test_staff_have_one_asked_at_once_by_one_gateway(
    rig: Rig, tenants: dict[int, Record]
) -> None:
    rates(rig, EURO._replace(every=86_400))
    async with warming(rig) as turn:
        assert await turn() == [(1, "ok")]
        rig.clock.advance(3600)
        rates(rig, EURO._replace(every=86_400, asked_at=rig.clock.now()))
        assert await turn(1) == [(1, "ok")]
        assert await turn(1) == []
    assert len(rig.upstreams.sent) == 2


@on_loop
async def test_a_tenants_own_limits_hold_for_what_is_kept_warm_for_it(
    rig: Rig, tenants: dict[int, Record]
) -> None:
    one = RateLimit(Scope.TENANT, 1, 86_400)
    tenants[1] = replace(tenants[1], identity=replace(tenants[1].identity, rate_limits=(one,)))
    requests = [WarmSpec(n, 1, GEO, {"q": f"Oslo {n}"}, 60) for n in (1, 2)]
    places(rig, *requests)
    async with warming(rig) as turn:
        outcomes = sorted(outcome for _, outcome in await turn())
    assert outcomes == ["ok", "rate_limit_exceeded"]
    assert len(rig.upstreams.sent) == 1


@on_loop
async def test_a_tenant_that_is_suspended_or_gone_is_not_asked_for(
    rig: Rig, tenants: dict[int, Record]
) -> None:
    tenants[1] = replace(tenants[1], suspended=True)
    places(
        rig,
        WarmSpec(1, 1, GEO, {"q": "Oslo"}, 60),
        WarmSpec(2, 99, GEO, {"q": "Oslo"}, 60),
    )
    async with warming(rig) as turn:
        assert sorted(await turn()) == [(1, "tenant_suspended"), (2, "unauthenticated")]
    assert rig.upstreams.sent == []


@on_loop
async def test_a_models_answer_is_kept_warm_for_its_tenant(
    rig: Rig, tenants: dict[int, Record]
) -> None:
    question = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0}
    rig.serve(
        route(target("lab"), cache=KEPT),
        warm_requests=(WarmSpec(1, 1, "chat.completions", question, 60),),
    )
    rig.upstreams.script = lambda request: chat()
    async with warming(rig) as turn:
        assert await turn() == [(1, "ok")]
    assert (await rig.ask(body=question)).headers[SAID] == "hit"


@on_loop
async def test_what_is_not_kept_is_not_asked_for(rig: Rig, tenants: dict[int, Record]) -> None:
    rates(rig, EURO, ttl=0)
    async with warming(rig) as turn:
        assert await turn() == [(1, "not_kept")]
    assert rig.upstreams.sent == []


@on_loop
async def test_no_more_than_its_share_of_a_providers_quota(
    make_rig: Callable[..., Rig], tenants: dict[int, Record]
) -> None:
    rig = make_rig(warm_percent=20)
    spec = replace(data_provider("frankfurter"), quotas=(quota(10),))
    quotes = ["SEK", "USD", "NOK", "DKK"]
    requests = [
        WarmSpec(n, None, FX, {"base": "EUR", "quote": quote}, 60) for n, quote in enumerate(quotes)
    ]
    rates(rig, *requests, spec=spec)
    rig.upstreams.script = lambda request: whole(
        {"amount": 1.0, "base": "EUR", "date": "2027-01-15", "rates": dict.fromkeys(quotes, 1.5)}
    )
    async with warming(rig) as turn:
        outcomes = [outcome for _, outcome in await turn()]
    assert sorted(outcomes) == ["ok", "ok", "provider_unavailable", "provider_unavailable"]
    again = {"headers": {"X-Patchbay-Cache-Control": "no-cache"}}
    statuses = [(await rig.ask(RATE, **again)).status for _ in range(9)]
    assert statuses == [200] * 8 + [503]  # in the whole, warm calls count like all


@on_loop
async def test_a_share_of_less_than_one_call_is_none(rig: Rig, tenants: dict[int, Record]) -> None:
    rates(rig, EURO, spec=replace(data_provider("frankfurter"), quotas=(quota(9),)))
    async with warming(rig) as turn:
        assert await turn() == [(1, "provider_unavailable")]
    assert rig.upstreams.sent == []


@on_loop
async def test_no_more_than_so_many_a_minute_whoever_they_are_for(
    make_rig: Callable[..., Rig], tenants: dict[int, Record]
) -> None:
    rig = make_rig(warm_per_minute=3)
    places(rig, *(WarmSpec(n, 1, GEO, {"q": f"Oslo {n}"}, 86_400) for n in range(5)))
    async with warming(rig) as turn:
        outcomes = [outcome for _, outcome in await turn()]
    assert sorted(outcomes) == ["ok"] * 3 + ["rate_limit_exceeded"] * 2
    assert (await rig.ask(OSLO)).status == 200


@on_loop
async def test_it_waits_while_the_worker_is_busy(rig: Rig, tenants: dict[int, Record]) -> None:
    rates(rig, EURO)
    async with warming(rig) as turn:
        rig.gateway.shedder.busy = True
        assert await turn() == []
        rig.gateway.shedder.busy = False
        assert await turn(1) == [(1, "ok")]


@on_loop
async def test_it_waits_while_the_provider_rests(rig: Rig, tenants: dict[int, Record]) -> None:
    rates(rig, EURO)
    warmer = rig.gateway.warming
    assert warmer is not None
    resting = True
    warmer.resting = lambda candidate: resting
    async with warming(rig) as turn:
        assert await turn() == [] and rig.upstreams.sent == []
        resting = False
        assert await turn(1) == [(1, "ok")]


@on_loop
async def test_a_failure_is_told_and_the_old_answer_stays(
    rig: Rig, tenants: dict[int, Record]
) -> None:
    rates(rig, EURO)
    async with warming(rig) as turn:
        await turn()
        rig.upstreams.script = lambda request: failure()
        ((_, outcome),) = await turn(240)
        assert outcome == "provider_error" or outcome.startswith("provider")
    assert (await rig.ask(RATE)).headers[SAID] == "hit"


@on_loop
async def test_what_many_ask_for_is_fetched_again_before_it_is_stale(
    rig: Rig, tenants: dict[int, Record]
) -> None:
    rates(rig)
    said = []
    async with warming(rig) as turn:
        for second in range(900):
            await turn(1)
            if second % 20 == 0:
                said.append((await rig.ask(RATE)).headers[SAID])
    assert said[0] == "miss" and set(said[1:]) == {"hit"}
    rows = [final.record for final in rig.journal.finals]
    warm = [row for row in rows if row.cache == "warm"]
    assert len(rig.upstreams.sent) == 1 + len(warm) and len(warm) in (2, 3)
    assert {row.tenant_id for row in warm} == {HOUSE}
    warmer = rig.gateway.warming
    assert warmer is not None and warmer.foresight.gain.hits >= 25


@on_loop
async def test_private_answers_are_learned_only_from_tenants_that_want_it(
    rig: Rig, tenants: dict[int, Record]
) -> None:
    places(rig)
    willing = rig.callers.add(tenant=1, keep_warm=True)
    warmer = rig.gateway.warming
    assert warmer is not None
    await rig.ask(OSLO)
    await rig.ask(OSLO, key=rig.callers.add(tenant=2))
    warmer.turn()
    assert len(warmer.foresight) == 0
    await rig.ask(OSLO, key=willing)
    warmer.turn()
    (known,) = warmer.foresight._known.values()
    assert known.question == Question(1, GEO, {"q": "Oslo"})


@on_loop
async def test_nothing_is_learned_from_test_mode_models_and_those_who_want_no_cache(
    rig: Rig, tenants: dict[int, Record]
) -> None:
    rates(rig)
    fields = {"tenant": 1, "keep_warm": True}
    await rig.ask(RATE, headers={"X-Patchbay-Cache-Control": "no-cache"})
    await rig.ask(RATE, headers={"X-Patchbay-Cache-Control": "no-store"})
    asking = {"X-Patchbay-Cache-Control": "max-age=60"}
    await rig.ask(RATE, key=rig.callers.add(mode=Mode.TEST, **fields), headers=asking)
    rig.serve(route(target("lab"), cache=KEPT))
    rig.upstreams.script = lambda request: chat()
    await rig.chat(temperature=0, key=rig.callers.add(**fields))
    warmer = rig.gateway.warming
    assert warmer is not None
    warmer.turn()
    assert len(warmer.foresight) == 0


@on_loop
async def test_of_a_list_its_beginning_is_learned_and_not_what_several_say_of_it(
    rig: Rig, tenants: dict[int, Record]
) -> None:
    two = [data_target(slug) for slug in ("artic", "cleveland-museum")]
    rig.serve(route(*two, operation="images.art_search", name="art", cache=KEPT))
    rig.upstreams.script = gallery
    mine = {"key": rig.callers.add(tenant=1, keep_warm=True)}
    first = await rig.ask(ART, **mine)
    cursor = quote(first.json["page"]["next_cursor"])
    for more in (f"&cursor={cursor}", "&strategy=fastest"):
        assert (await rig.ask(ART + more, **mine)).status == 200
    warmer = rig.gateway.warming
    assert warmer is not None and len(warmer.asked) == 3
    warmer.turn()
    assert len(warmer.foresight) == 1


@on_loop
async def test_what_a_caller_wished_is_asked_again_as_it_was(
    rig: Rig, tenants: dict[int, Record]
) -> None:
    rates(rig)
    warmer = rig.gateway.warming
    assert warmer is not None
    await rig.ask(RATE + "&provider=frankfurter&fallback=false&include=extra")
    ((key, *_),) = warmer.asked
    warmer.turn()
    prepared = await warmer._prepare(warmer.foresight.question(key))
    assert not isinstance(prepared, str) and prepared.ask.key == key


@on_loop
async def test_after_a_change_of_the_route_nothing_of_before_is_fetched(
    rig: Rig, tenants: dict[int, Record]
) -> None:
    rates(rig)
    async with warming(rig) as turn:
        for _ in range(100):
            await rig.ask(RATE)
        await turn(1)
        rates(rig, ttl=200)
        old = rig.gateway.live.snapshot.routes[FX, ""]
        rig.serve(replace(old, version="another"))
        await turn(298)
    assert len(rig.upstreams.sent) == 1


@on_loop
async def test_nothing_runs_and_nothing_is_learned_where_it_is_switched_off(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(warm_per_minute=0)
    rates(rig, EURO)
    await rig.ask(RATE)
    assert rig.gateway.warming is None and rig.gateway.caching.asked is None


@on_loop
async def test_no_caller_can_be_the_house(rig: Rig, tenants: dict[int, Record]) -> None:
    rates(rig)
    for text in ("warm#0", "warm#1", f"Bearer warm#{HOUSE}"):
        refused = await rig.ask(RATE, key=None, headers={"authorization": text})
        assert refused.status == 401
        assert (await rig.ask(RATE, key=text)).status == 401


@on_loop
async def test_the_database_away_is_told_by_the_outcome_and_ends_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(shown: WarmCredential) -> None:
        raise Unavailable(code="store_unavailable")

    monkeypatch.setattr(WarmCredential, "find", away)
    rates(rig, EURO)
    async with warming(rig) as turn:
        assert await turn() == [(1, "store_unavailable")]


def test_what_runs_is_told_apart_over_the_period() -> None:
    """Requests with the same period begin at different moments of it."""
    begun = {_begins(EURO._replace(id=number), 1_800_000_000.0) for number in range(50)}
    assert len(begun) > 35
    assert all(0 <= 1_800_000_000.0 - at < EURO.every for at in begun)
