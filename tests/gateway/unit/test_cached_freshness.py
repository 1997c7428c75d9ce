"""Kept answers that grow old: fetched again behind, asked about, and served where none else is."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from providers.snapshot import TargetSpec
from tenants.limits import LimitMetric, RateLimit, Scope
from tenants.quotas import Metric, Quota, QuotaScope
from tenants.windows import Window
from tests.gateway.unit.rig import (
    Reply,
    Rig,
    data_provider,
    data_target,
    failure,
    held,
    route,
    whole,
)
from tests.gateway.unit.test_caching import (
    FX,
    GEO,
    KEPT,
    NO_SUCH,
    OSLO,
    RATE,
    SAID,
    places,
    rates,
    said,
    tables,
)
from tests.loops import eventually, on_loop


@on_loop
async def test_what_is_fetched_again_on_a_credential_of_its_own_is_nobody_elses(rig: Rig) -> None:
    rates(rig)
    houses = replace(data_provider("frankfurter"), needs_credential=True)
    houses = replace(houses, secrets={None: held("sk-house")})
    owned = replace(houses, secrets={1: held("sk-own"), None: held("sk-house")})
    served = [route(TargetSpec(s), operation=FX, name=FX, cache=KEPT) for s in (houses, owned)]
    rig.serve(served[0])
    await rig.ask(RATE)
    rig.clock.advance(310)
    rig.journal.turns = 20
    asking = asyncio.create_task(rig.ask(RATE))
    while not rig.gateway.cache.figures.stale:
        await asyncio.sleep(0)
    rig.serve(served[1])  # while its row is written
    assert (await asking).headers[SAID] == "stale"
    await eventually(lambda: not rig.gateway.cache.behind)
    rig.serve(served[0])
    told = await rig.ask(RATE, key=rig.callers.add(tenant=2))
    assert (told.headers[SAID], told.headers["age"]) == ("stale", "310")


@on_loop
async def test_a_stale_answer_is_served_while_it_is_fetched_again(rig: Rig) -> None:
    rates(rig)
    first = await rig.ask(RATE)
    rig.clock.advance(310)
    stale = await rig.ask(RATE)
    assert (stale.headers[SAID], stale.headers["age"]) == ("stale", "310")
    assert stale.json["meta"]["stale"] is True
    assert stale.json["meta"]["as_of"] == first.json["meta"]["as_of"]
    await eventually(lambda: not rig.gateway.cache.behind)
    assert [final.record.cache for final in rig.journal.finals] == ["", "stale", ""]
    assert len(rig.upstreams.sent) == 2
    fresh = await rig.ask(RATE)
    assert (fresh.headers[SAID], fresh.headers["age"]) == ("hit", "0")


@on_loop
async def test_who_may_make_one_call_at_a_time_has_it_fetched_again_too(rig: Rig) -> None:
    rates(rig)
    one = RateLimit(Scope.KEY, 1, 0, metric=LimitMetric.CONCURRENCY)
    rig.key = rig.callers.add(rate_limits=(one,))
    await rig.ask(RATE)
    rig.clock.advance(310)
    rig.journal.turns = 3  # while its row is written, the call is still one
    assert (await rig.ask(RATE)).headers[SAID] == "stale"
    await eventually(lambda: not rig.gateway.cache.behind)
    assert (await rig.ask(RATE)).headers[SAID] == "hit"


@on_loop
async def test_a_provider_is_asked_whether_what_it_said_still_holds(rig: Rig) -> None:
    rates(rig)
    body = {"amount": 1.0, "base": "EUR", "date": "2027-01-15", "rates": {"SEK": 11.5}}
    rig.upstreams.script = lambda request: whole(
        body, etag='"v1"', **{"cache-control": "max-age=100, must-revalidate"}
    )
    first = await rig.ask(RATE)
    rig.clock.advance(200)
    rig.upstreams.script = lambda request: Reply(
        [], 304, {"etag": '"v1"', "cache-control": "max-age=100, must-revalidate"}
    )
    renewed = await rig.ask(RATE)
    assert rig.upstreams.sent[1].headers["if-none-match"] == '"v1"'
    assert (renewed.status, renewed.headers[SAID]) == (200, "miss")
    assert renewed.json["data"] == first.json["data"]
    assert renewed.json["meta"]["attempts"][0]["outcome"] == "ok"
    row = rig.journal.finals[1].record
    assert (row.provider, row.cache, row.units) == ("frankfurter", "", 1)
    assert (row.estimate, row.input_tokens, row.output_tokens) == ("", 0, 0)
    assert (await rig.ask(RATE)).headers[SAID] == "hit"
    assert len(rig.upstreams.sent) == 2


@on_loop
async def test_the_same_again_is_no_change_though_it_is_of_later(rig: Rig) -> None:
    places(rig)  # whose provider does not say of when an answer is
    adaptive = {"ttl": 100, "min_ttl": 50, "max_ttl": 900, "adaptive": True}
    of = data_target("open-meteo-geocoding")
    rig.serve(route(of, operation=GEO, name=GEO, cache={**KEPT, **adaptive}))
    first = await rig.ask(OSLO)
    rig.clock.advance(1000)
    again = await rig.ask(OSLO)
    assert again.headers[SAID] == "miss" and again.headers["etag"] == first.headers["etag"]
    assert again.json["meta"]["as_of"] > first.json["meta"]["as_of"]
    rig.clock.advance(149)
    hit = await rig.ask(OSLO)  # it is fresh for longer, since nothing changed
    assert (hit.headers[SAID], hit.json["meta"]["as_of"]) == ("hit", again.json["meta"]["as_of"])


@on_loop
async def test_its_terms_hold_also_for_what_a_provider_said_still_holds(rig: Rig) -> None:
    rates(rig)
    spec = data_provider("frankfurter")
    spec = replace(spec, manifest={**(spec.manifest or {}), "cache": {"max_retention": 60}})
    rig.serve(route(TargetSpec(spec), operation=FX, name=FX, cache={"ttl": 50}))
    body = {"amount": 1.0, "base": "EUR", "date": "2027-01-15", "rates": {"SEK": 11.5}}
    rig.upstreams.script = lambda request: whole(body, etag='"1"')
    await rig.ask(RATE)
    rig.clock.advance(55)
    rig.upstreams.script = lambda request: Reply([], 304, {"etag": '"1"'})
    await rig.ask(RATE, headers={"X-Patchbay-Cache-Control": "no-cache"})
    rig.upstreams.script = lambda request: failure(503)
    told = []
    for seconds in (49, 10, 1):
        rig.clock.advance(seconds)
        told.append((await rig.ask(RATE)).headers.get(SAID))
    assert told == ["hit", "stale", None]


@on_loop
async def test_another_provider_is_not_asked_about_it(rig: Rig) -> None:
    rates(rig)
    rig.serve(
        route(
            data_target("frankfurter"),
            data_target("open-er-api"),
            operation=FX,
            name=FX,
            cache={**KEPT, "stale_while_revalidate": 0},
        )
    )
    body = {"amount": 1.0, "base": "EUR", "date": "2027-01-15", "rates": {"SEK": 11.5}}
    rig.upstreams.script = lambda request: whole(body, etag='"1"')
    await rig.ask(RATE)
    rig.clock.advance(400)
    rig.upstreams.by_provider(
        **{
            "frankfurter": lambda: failure(500),
            "open-er-api": lambda: Reply([], 304, {"etag": '"1"'}),
        }
    )
    told = await rig.ask(RATE)
    assert rig.upstreams.asked[1:] == ["frankfurter", "open-er-api"]
    assert "if-none-match" in rig.upstreams.sent[1].headers
    assert "if-none-match" not in rig.upstreams.sent[2].headers
    assert told.headers[SAID] == "stale"  # nobody asked for a 304, so it is no answer


@on_loop
async def test_when_nobody_can_answer_a_stale_answer_does(rig: Rig) -> None:
    rates(rig)
    await rig.ask(RATE)
    rig.clock.advance(1000)
    rig.upstreams.script = lambda request: failure(503)
    stale = await rig.ask(RATE)
    assert (stale.status, stale.headers[SAID]) == (200, "stale")
    meta = stale.json["meta"]
    assert (meta["stale"], meta["cached"]) == (True, True)
    assert meta["attempts"][0]["outcome"] == "upstream_unavailable"
    row = rig.journal.finals[-1].record
    assert (row.status, row.code, row.cache, row.charge) == (200, "ok", "stale", 0)
    assert row.attempts == len(meta["attempts"]) > 0
    rig.clock.advance(3600)
    assert (await rig.ask(RATE)).status == 503


@on_loop
async def test_errors_are_never_kept_and_nothing_found_only_for_a_while(rig: Rig) -> None:
    places(rig)
    found, rig.upstreams.script = rig.upstreams.script, lambda request: failure(500)
    assert (await rig.ask(OSLO)).status == 503
    rig.upstreams.script = lambda request: whole({"results": []})
    assert await said([await rig.ask(OSLO), await rig.ask(OSLO)]) == ["miss", "hit"]
    rig.upstreams.script = found
    rig.clock.advance(95)  # 30 seconds, and 60 for which it may be served while fetched again
    told = await rig.ask(OSLO)
    assert (told.headers[SAID], len(told.json["data"])) == ("miss", 1)


@on_loop
async def test_when_providers_have_no_room_a_stale_answer_is_served(rig: Rig) -> None:
    rates(rig)
    quota = Quota(QuotaScope.PROVIDER, Metric.REQUESTS, Window.DAY, 1)
    spec = replace(data_provider("frankfurter"), quotas=(quota,))
    rig.serve(route(TargetSpec(spec), operation=FX, name=FX, cache=KEPT))
    await rig.ask(RATE)
    rig.clock.advance(1000)
    stale = await rig.ask(RATE)
    assert (stale.status, stale.headers[SAID]) == (200, "stale")
    assert (await rig.ask(RATE.replace("SEK", "NOK"))).status == 503
    assert len(rig.upstreams.sent) == 1
    rig.key = rig.callers.add(rate_limits=(RateLimit(Scope.KEY, 1, 60),))
    assert [(await rig.ask(RATE)).status for _ in range(2)] == [200, 429]


@on_loop
async def test_what_there_is_no_longer_is_not_served_any_longer(rig: Rig) -> None:
    tables(rig)
    await rig.ask(RATE)
    rig.upstreams.script = lambda request: whole(NO_SUCH, 404)
    rig.clock.advance(310)
    assert (await rig.ask(RATE)).headers[SAID] == "stale"
    await eventually(lambda: not rig.gateway.cache.behind)
    assert (await rig.ask(RATE)).status == 404
    rig.upstreams.script = lambda request: failure(503)
    assert (await rig.ask(RATE)).status == 503
