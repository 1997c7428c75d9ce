"""`?strategy=` through the whole gateway, on virtual time: who is asked, what is told of failures,
what it costs whom, and that nothing is left behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from accounts.identities import Identities
from billing.book import PriceBook, PriceVersion
from cache.cache import Cache
from gateway.app import Gateway, Options
from providers.breaker import State
from providers.prices import Prices
from providers.snapshot import RouteSpec, TargetSpec
from tenants.keys import Mode
from tenants.limits import LimitMetric, RateLimit, Scope
from tenants.quotas import Metric, Quota, QuotaScope
from tenants.windows import Window
from tests.gateway.unit.rig import (
    SANDBOX,
    Client,
    Reply,
    Rig,
    data_target,
    failure,
    held,
    nothing_runs,
    route,
    slug_of,
    whole,
)
from tests.virtual_time import LoopClock, on_virtual_loop
from usage.admission import Admissions
from usage.counters.memory import MemoryCounters
from usage.ledger import Ledger

GEOCODE = "/api/v1/geo/geocode?q=Stockholm"
ONE, TWO, THREE = "open-meteo-geocoding", "photon", "nominatim"
ALL_THREE = (ONE, TWO, THREE)
LAT, LON = 59.33, 18.07


def found(slug: str, name: str = "Stockholm", lat: float = LAT) -> Any:
    """One place, in a provider's own words."""
    if slug == ONE:
        place = {"name": name, "admin1": "Stockholm", "country": "Sweden"}
        return {"results": [{**place, "latitude": lat, "longitude": LON}]}
    if slug == TWO:
        properties = {"name": name, "country": "Sweden", "countrycode": "SE", "osm_value": "city"}
        point = {"type": "Point", "coordinates": [LON, lat]}
        return {
            "type": "FeatureCollection",
            "features": [{"properties": properties, "geometry": point}],
        }
    return [{"lat": str(lat), "lon": str(LON), "display_name": f"{name}, Sverige", "name": name}]


@dataclass
class Late(Reply):
    """An answer that takes `seconds` to come."""

    seconds: float = 0.0

    async def chunks(self) -> AsyncIterator[bytes]:
        await asyncio.sleep(self.seconds)
        async for part in super().chunks():
            yield part


@dataclass
class Stage:
    """A gateway on virtual time. `delays`: seconds that a provider takes; `replies`: what it
    says, if not one place."""

    rig: Rig
    delays: dict[str, float] = field(default_factory=dict)
    replies: dict[str, Reply] = field(default_factory=dict)

    def serve(self, *targets: TargetSpec, **fields: Any) -> None:
        self.rig.serve(geocoders(*targets, **fields))

    def answer(self, request: Any) -> Reply:
        slug = slug_of(request)
        reply = self.replies.get(slug) or whole(found(slug))
        return Late(reply.parts, reply.status, reply.headers, seconds=self.delays.get(slug, 0.05))

    async def ask(self, strategy: str, more: str = "", **request: Any) -> Client:
        return await self.rig.ask(f"{GEOCODE}&strategy={strategy}{more}", **request)

    @property
    def verdicts(self) -> dict[str, str]:
        return {note.provider: note.verdict for note in self.rig.journal.finals[-1].attempts}

    def is_at_rest(self) -> bool:
        assert all(reply.closed for reply in self.rig.upstreams.replies)
        counters = self.rig.gateway.admissions.counters
        assert isinstance(counters, MemoryCounters)
        return not counters._holds and not any(counters._slots.values())


def geocoders(*targets: TargetSpec, **fields: Any) -> RouteSpec:
    targets = targets or tuple(map(data_target, ALL_THREE))
    return route(*targets, operation="geo.geocode", name="geo.geocode", **fields)


def prices_of(by_slug: dict[str, int]) -> PriceBook:
    """µUSD a call."""
    return PriceBook(
        ((slug, "", ""), PriceVersion(number, Prices(call=price)))
        for number, (slug, price) in enumerate(by_slug.items(), 1)
    )


@pytest.fixture
def stage(rig: Rig) -> Stage:
    rig.clock = LoopClock()  # type: ignore[assignment]
    rig.gateway = Gateway(
        Options(sandbox_url=SANDBOX),
        Ledger(rig.journal),
        Identities(rig.clock),
        Admissions(MemoryCounters(rig.clock), rig.book, rig.clock),
        clock=rig.clock,
        transport=rig.upstreams,
        cache=Cache(b"a secret of the rig's", clock=rig.clock),
    )
    made = Stage(rig)
    rig.upstreams.script = made.answer
    made.serve()
    return made


@on_virtual_loop
async def test_fastest_serves_the_first_and_cancels_the_others(stage: Stage) -> None:
    stage.delays = {ONE: 5.0, TWO: 0.01, THREE: 5.0}
    stage.rig.gateway.live.prices = prices_of({ONE: 40, TWO: 7, THREE: 30})
    client = await stage.ask("fastest")
    assert (client.status, client.headers["x-patchbay-provider"]) == (200, TWO)
    assert asyncio.get_running_loop().time() < 1
    assert sorted(stage.rig.upstreams.asked) == sorted(ALL_THREE)
    assert stage.verdicts == {ONE: "hedged_away", THREE: "hedged_away", TWO: "ok"}
    record = stage.rig.journal.finals[-1].record
    assert (record.provider, record.cost, record.charge, record.units) == (TWO, 7, 7, 1)
    costs = {note.provider: note.cost for note in stage.rig.journal.finals[-1].attempts}
    assert costs == {ONE: 40, TWO: 7, THREE: 30}  # the losers are the house's to pay
    assert stage.is_at_rest() and await nothing_runs()


@on_virtual_loop
async def test_fastest_waits_for_a_good_answer(stage: Stage) -> None:
    stage.delays = {ONE: 0.01, TWO: 0.02, THREE: 0.3}
    stage.replies = {ONE: failure(503), TWO: whole({"error": "what?"}, 400)}
    client = await stage.ask("fastest")
    assert (client.status, client.headers["x-patchbay-provider"]) == (200, THREE)
    assert stage.verdicts[ONE] == "upstream_unavailable"
    assert stage.is_at_rest() and await nothing_runs()


@pytest.mark.parametrize("strategy", ["fastest", "all", "merge"])
@on_virtual_loop
async def test_when_nobody_answers_it_is_told_as_ever(stage: Stage, strategy: str) -> None:
    stage.replies = {slug: failure(503) for slug in ALL_THREE}
    client = await stage.ask(strategy)
    assert (client.status, client.error["code"]) == (503, "provider_unavailable")
    assert {each["provider"] for each in client.error["attempts"]} == set(ALL_THREE)
    assert sorted(stage.rig.upstreams.asked) == sorted(ALL_THREE)  # each once
    record = stage.rig.journal.finals[-1].record
    assert (record.status, record.charge) == (503, 0)
    assert stage.is_at_rest() and await nothing_runs()


@on_virtual_loop
async def test_all_tells_each_answer_and_each_failure(stage: Stage) -> None:
    stage.replies = {TWO: failure(500)}
    client = await stage.ask("all")
    body = client.json
    one, two, three = body["data"]
    assert [part["provider"] for part in body["data"]] == list(ALL_THREE)
    assert one["data"][0]["name"] == three["data"][0]["name"] == "Stockholm"
    assert one["page"]["limit"] == 10
    assert one["as_of"] and one["attribution"]
    assert set(two) == {"provider", "problem"}
    assert (two["problem"]["code"], two["problem"]["status"]) == ("provider_unavailable", 503)
    assert "request_id" not in two["problem"]
    assert "page" not in body
    assert body["meta"]["strategy"] == "all"
    outcomes = {each["provider"]: each["outcome"] for each in body["meta"]["attempts"]}
    assert outcomes == {ONE: "ok", TWO: "upstream_unavailable", THREE: "ok"}
    assert client.headers["x-patchbay-provider"] == f"{ONE}, {THREE}"
    assert client.headers["x-patchbay-attempts"] == "3"
    assert stage.is_at_rest() and await nothing_runs()


@pytest.mark.parametrize("strategy", ["all", "merge"])
@on_virtual_loop
async def test_one_row_costs_what_all_that_answered_take(stage: Stage, strategy: str) -> None:
    stage.rig.gateway.live.prices = prices_of({ONE: 40, TWO: 7, THREE: 30})
    stage.replies = {TWO: failure(500)}
    key = stage.rig.callers.add(markup=1000)
    client = await stage.ask(strategy, key=key)
    final = stage.rig.final
    assert (final.record.cost, final.record.charge, final.record.units) == (70, 77, 2)
    assert (final.record.provider, final.record.price_id) == (ONE, None)
    assert client.headers["x-patchbay-cost-microusd"] == "77"
    costs = {note.provider: (note.cost, note.units) for note in final.attempts}
    assert costs == {ONE: (40, 1), TWO: (0, 0), THREE: (30, 1)}


@on_virtual_loop
async def test_merge_tells_each_place_once_and_who_has_it(stage: Stage) -> None:
    stage.replies = {THREE: whole(found(THREE, "Sundsvall", 62.39))}
    client = await stage.ask("merge")
    first, second = client.json["data"]
    assert (first["name"], first["sources"]) == ("Stockholm", [ONE, TWO])
    assert first["label"] == "Stockholm, Stockholm, Sweden"  # the first one's words
    assert first["country_code"] == "SE"  # which only the second says
    assert (second["name"], second["sources"]) == ("Sundsvall", [THREE])
    assert client.json["page"] == {"total": None, "limit": 10, "next_cursor": None}
    meta = client.json["meta"]
    assert [each["provider"] for each in meta["sources"]] == list(ALL_THREE)
    assert [each["items"] for each in meta["sources"]] == [1, 1, 1]
    assert len(meta["attribution"]) >= 2


@on_virtual_loop
async def test_who_is_late_at_the_deadline_is_left_out(stage: Stage) -> None:
    stage.delays = {TWO: 60.0}
    client = await stage.ask("all", headers={"x-patchbay-deadline-ms": "400"})
    assert client.status == 200
    codes = [part.get("problem", {}).get("code") for part in client.json["data"]]
    assert codes == [None, "deadline_exceeded", None]
    assert asyncio.get_running_loop().time() < 1
    assert stage.verdicts == {ONE: "ok", TWO: "deadline", THREE: "ok"}
    assert stage.is_at_rest() and await nothing_runs()


@pytest.mark.parametrize("strategy", ["fastest", "merge"])
@on_virtual_loop
async def test_a_deadline_that_all_miss_is_the_answer(stage: Stage, strategy: str) -> None:
    stage.delays = dict.fromkeys(ALL_THREE, 60.0)
    client = await stage.ask(strategy, headers={"x-patchbay-deadline-ms": "400"})
    assert (client.status, client.error["code"]) == (504, "deadline_exceeded")
    assert stage.is_at_rest() and await nothing_runs()


@on_virtual_loop
async def test_an_open_breaker_is_passed_over_and_told(stage: Stage) -> None:
    stage.rig.gateway.dispatcher.breakers.of(TWO).follow(State.OPEN, 60.0)
    client = await stage.ask("all")
    assert sorted(stage.rig.upstreams.asked) == sorted((ONE, THREE))
    assert client.json["data"][1]["problem"]["code"] == "circuit_open"
    assert stage.verdicts[TWO] == "skipped_circuit_open"
    for slug in ALL_THREE:
        stage.rig.gateway.dispatcher.breakers.of(slug).follow(State.OPEN, 60.0)
    client = await stage.ask("merge")
    assert (client.status, client.error["code"]) == (503, "circuit_open")
    assert stage.is_at_rest()


@pytest.mark.parametrize("strategy", ["fastest", "all"])
@on_virtual_loop
async def test_each_provider_that_is_asked_counts_it(stage: Stage, strategy: str) -> None:
    quota = Quota(QuotaScope.PROVIDER, Metric.REQUESTS, Window.DAY, 1)
    targets = [data_target(slug) for slug in ALL_THREE]
    stage.serve(*(replace(t, provider=replace(t.provider, quotas=(quota,))) for t in targets))
    assert (await stage.ask(strategy)).status == 200
    counters = stage.rig.gateway.admissions.counters
    assert isinstance(counters, MemoryCounters)
    cells = {key[0].split(":")[1]: cell for key, cell in counters._cells.items()}
    assert {slug: (cell.used, cell.reserved) for slug, cell in cells.items()} == dict.fromkeys(
        ALL_THREE, (1, 0)
    )
    assert (await stage.ask(strategy)).status == 503


@on_virtual_loop
async def test_one_that_has_no_room_is_passed_over(stage: Stage) -> None:
    slots = RateLimit(Scope.PROVIDER, 0, 0, metric=LimitMetric.CONCURRENCY)
    first, second, third = map(data_target, ALL_THREE)
    full = replace(second, provider=replace(second.provider, rate_limits=(slots,)))
    stage.serve(first, full, third)
    client = await stage.ask("all")
    assert stage.verdicts[TWO] == "skipped_quota"
    assert client.json["data"][1]["problem"]["code"] == "provider_unavailable"
    assert stage.is_at_rest()


@pytest.mark.parametrize(("strategy", "limit", "status"), [("all", 2, 429), ("fastest", 1, 200)])
@on_virtual_loop
async def test_what_all_of_them_may_take_is_reserved_beforehand(
    stage: Stage, strategy: str, limit: int, status: int
) -> None:
    quota = Quota(QuotaScope.TENANT, Metric.CREDITS, Window.DAY, limit)
    key = stage.rig.callers.add(quotas=(quota,))
    client = await stage.ask(strategy, key=key)
    assert client.status == status
    if status == 429:
        assert client.error["code"] == "quota_exceeded"
        assert stage.rig.upstreams.sent == []


@on_virtual_loop
async def test_a_call_is_one_request_whoever_answers_it(stage: Stage) -> None:
    quota = Quota(QuotaScope.TENANT, Metric.REQUESTS, Window.DAY, 2)
    key = stage.rig.callers.add(quotas=(quota,))
    assert [(await stage.ask("all", key=key)).status for _ in range(3)] == [200, 200, 429]


@on_virtual_loop
async def test_who_has_no_words_for_a_call_takes_nobodys_place(stage: Stage) -> None:
    """A bank that tells what its own currency is worth, and no other."""
    banks = ("cnb-cz", "nbr-ro")
    able = {
        "frankfurter": {"base": "EUR", "date": "2027-01-15", "rates": {"SEK": 11.5}},
        "open-er-api": {"result": "success", "base_code": "EUR", "rates": {"SEK": 11.4}},
    }
    able["open-er-api"]["time_last_update_unix"] = 1
    stage.replies = {slug: whole(answer) for slug, answer in able.items()}
    rates = "finance.fx_rate"
    targets = map(data_target, (*banks, *able))
    stage.rig.serve(route(*targets, operation=rates, name=rates, fan_out=2))
    path = "/api/v1/finance/fx_rate?base=EUR&quote=SEK&strategy=all&explain=true"
    body = (await stage.rig.ask(path)).json
    assert [part["provider"] for part in body["data"]] == [*able]
    reasons = {each["provider"]: each["reason"] for each in body["meta"]["explain"]["targets"]}
    assert reasons == dict.fromkeys(able, "served") | dict.fromkeys(banks, "unsupported")


@on_virtual_loop
async def test_no_more_are_asked_than_the_route_and_the_plan_allow(stage: Stage) -> None:
    stage.serve(fan_out=2)
    client = await stage.ask("all", "&explain=true")
    assert sorted(stage.rig.upstreams.asked) == sorted((ONE, TWO))
    reasons = {t["provider"]: t["reason"] for t in client.json["meta"]["explain"]["targets"]}
    assert reasons == {ONE: "served", TWO: "served", THREE: "fan_out"}
    stage.serve()
    stage.rig.upstreams.sent.clear()
    await stage.ask("fastest", key=stage.rig.callers.add(fan_out=2))
    assert sorted(stage.rig.upstreams.asked) == sorted((ONE, TWO))


@pytest.mark.parametrize("whose", ["route", "plan"])
@on_virtual_loop
async def test_staff_may_forbid_it(stage: Stage, whose: str) -> None:
    stage.serve(fan_out=1 if whose == "route" else 5)
    key = stage.rig.callers.add(fan_out=1 if whose == "plan" else 20)
    client = await stage.ask("fastest", key=key)
    assert (client.status, client.error["code"]) == (403, "forbidden")
    assert stage.rig.upstreams.sent == []
    assert (await stage.ask("first", key=key)).status == 200
    assert stage.rig.upstreams.asked == [ONE]


@pytest.mark.parametrize(
    "query",
    [
        f"strategy=all&provider={TWO}",
        "strategy=fastest&fallback=false",
        "strategy=merge&cursor=abc",
        "strategy=both",
        "strategy=",
    ],
)
@on_virtual_loop
async def test_what_makes_no_sense_is_refused(stage: Stage, query: str) -> None:
    client = await stage.rig.ask(f"{GEOCODE}&{query}")
    assert (client.status, client.error["code"]) == (400, "invalid_request")
    assert client.error["errors"][0]["pointer"] == "/strategy"
    assert stage.rig.upstreams.sent == []


@on_virtual_loop
async def test_what_cannot_be_merged_is_refused(stage: Stage) -> None:
    stage.rig.serve(
        route(data_target("open-meteo"), operation="weather.current", name="weather.current")
    )
    client = await stage.rig.ask("/api/v1/weather/current?lat=59&lon=18&strategy=merge")
    assert client.status == 400
    assert client.error["detail"] == "strategy: Must be first, fastest or all."


@on_virtual_loop
async def test_first_is_as_if_nothing_had_been_said(stage: Stage) -> None:
    plain, first = await stage.rig.ask(GEOCODE), await stage.ask("first", "&fallback=false")
    assert plain.json["data"] == first.json["data"]
    assert plain.json.keys() == first.json.keys()
    assert plain.json["meta"].keys() == first.json["meta"].keys()
    assert stage.rig.upstreams.asked == [ONE, ONE]


@pytest.mark.parametrize("strategy", ["fastest", "all"])
@pytest.mark.parametrize("after", [0.0, 0.02, 0.06])
@on_virtual_loop
async def test_a_client_that_leaves_lets_all_go(stage: Stage, strategy: str, after: float) -> None:
    stage.delays = {ONE: 9.0, TWO: 9.0, THREE: 0.055 if strategy == "all" else 9.0}
    client = stage.rig.client()
    task = asyncio.create_task(stage.rig.run(client, f"{GEOCODE}&strategy={strategy}"))
    await asyncio.sleep(after)
    client.gone.set()
    await task
    assert asyncio.get_running_loop().time() < 5
    (final,) = stage.rig.journal.finals
    assert (final.record.status, final.record.charge) == (499, 0)
    assert Counter(stage.verdicts.values())["hung_up"] >= 2
    assert stage.is_at_rest() and await nothing_runs()


@on_virtual_loop
async def test_a_tenants_own_credential_is_not_asked_beside_the_houses(stage: Stage) -> None:
    def keyed(slug: str, secrets: dict[int | None, str]) -> TargetSpec:
        made = data_target(slug)
        owned = {owner: held(secret) for owner, secret in secrets.items()}
        return replace(made, provider=replace(made.provider, secrets=owned))

    stage.serve(keyed(ONE, {None: "house"}), keyed(TWO, {1: "own"}), data_target(THREE))
    assert (await stage.ask("all")).status == 200
    assert sorted(stage.rig.upstreams.asked) == sorted((TWO, THREE))


@on_virtual_loop
async def test_a_batch_may_ask_several(stage: Stage) -> None:
    params = {"q": "Stockholm", "strategy": "merge"}
    body = {"requests": [{"operation": "geo.geocode", "params": params}]}
    client = await stage.rig.ask("/api/v1/batch", body=body)
    (item,) = client.json["data"]
    assert item["body"]["data"][0]["sources"] == list(ALL_THREE)


@on_virtual_loop
async def test_in_test_mode_the_sandbox_plays_all_of_them_for_nothing(stage: Stage) -> None:
    stage.rig.gateway.live.prices = prices_of({ONE: 40, TWO: 7, THREE: 30})
    key = stage.rig.callers.add(mode=Mode.TEST)
    client = await stage.ask("all", key=key)
    assert len(client.json["data"]) == 3
    assert all(request.url.startswith(SANDBOX) for request in stage.rig.upstreams.sent)
    assert stage.rig.final.record.cost == 0


KEPT = {"ttl": 100}


@pytest.mark.parametrize("strategy", ["fastest", "all", "merge"])
@on_virtual_loop
async def test_what_is_kept_is_kept_by_strategy(stage: Stage, strategy: str) -> None:
    stage.serve(cache=KEPT)
    assert (await stage.rig.ask(GEOCODE)).headers["x-patchbay-cache"] == "miss"
    missed = await stage.ask(strategy)
    assert missed.headers["x-patchbay-cache"] == "miss"
    stage.rig.upstreams.sent.clear()
    hit = await stage.ask(strategy)
    assert hit.headers["x-patchbay-cache"] == "hit"
    assert stage.rig.upstreams.sent == []
    assert hit.json["data"] == missed.json["data"]
    assert hit.json.get("page") == missed.json.get("page")
    for name in ("strategy", "sources", "as_of", "attribution"):
        assert hit.json["meta"].get(name) == missed.json["meta"].get(name)
    assert hit.json["meta"]["cached"] is True
    assert stage.rig.journal.finals[-1].record.charge == 0


@on_virtual_loop
async def test_it_is_kept_for_as_long_as_the_shortest_of_its_parts(stage: Stage) -> None:
    stage.serve(cache=KEPT)
    reply = whole(found(TWO), **{"cache-control": "max-age=10"})
    stage.replies = {TWO: reply}
    await stage.ask("merge")
    await asyncio.sleep(5)
    assert (await stage.ask("merge")).headers["x-patchbay-cache"] == "hit"
    await asyncio.sleep(6)
    assert (await stage.ask("merge")).headers["x-patchbay-cache"] != "hit"


@on_virtual_loop
async def test_each_providers_name_takes_it_out_of_the_cache(stage: Stage) -> None:
    stage.serve(cache=KEPT)
    for slug in ALL_THREE:
        await stage.ask("merge")
        assert (await stage.ask("merge")).headers["x-patchbay-cache"] == "hit"
        await stage.rig.gateway.cache.invalidate([f"provider:{slug}"])
        assert (await stage.ask("merge")).headers["x-patchbay-cache"] == "miss"


@pytest.mark.parametrize("fault", ["failure", "no-store"])
@on_virtual_loop
async def test_what_is_not_whole_is_not_kept(stage: Stage, fault: str) -> None:
    stage.serve(cache=KEPT)
    bad = failure(500) if fault == "failure" else whole(found(TWO), **{"cache-control": "no-store"})
    stage.replies = {TWO: bad}
    await stage.ask("merge")
    stage.replies = {}
    again = await stage.ask("merge")
    assert again.headers["x-patchbay-cache"] == "miss"
    assert again.json["data"][0]["sources"] == list(ALL_THREE)
    assert (await stage.ask("merge")).headers["x-patchbay-cache"] == "hit"


@on_virtual_loop
async def test_calls_that_wait_for_the_same_answer_ask_once(stage: Stage) -> None:
    stage.serve(cache=KEPT)
    clients = await asyncio.gather(*(stage.ask("merge") for _ in range(10)))
    assert [client.status for client in clients] == [200] * 10
    assert sorted(stage.rig.upstreams.asked) == sorted(ALL_THREE)


@on_virtual_loop
async def test_a_stale_answer_is_served_while_all_are_asked_behind(stage: Stage) -> None:
    stage.serve(cache={"ttl": 10, "stale_while_revalidate": 100})
    await stage.ask("merge")
    await asyncio.sleep(30)
    stage.replies = {THREE: whole(found(THREE, "Sundsvall", 62.39))}
    stale = await stage.ask("merge")
    assert (stale.headers["x-patchbay-cache"], len(stale.json["data"])) == ("stale", 1)
    await asyncio.sleep(1)
    fresh = await stage.ask("merge")
    assert (fresh.headers["x-patchbay-cache"], len(fresh.json["data"])) == ("hit", 2)
    assert len(stage.rig.upstreams.sent) == 6


@on_virtual_loop
async def test_a_stale_answer_serves_when_all_fail(stage: Stage) -> None:
    stage.serve(cache={"ttl": 10, "stale_while_revalidate": 0, "stale_if_error": 3600})
    before = await stage.ask("merge")
    await asyncio.sleep(60)
    stage.replies = {slug: failure(503) for slug in ALL_THREE}
    after = await stage.ask("merge")
    assert (after.status, after.headers["x-patchbay-cache"]) == (200, "stale")
    assert after.json["data"] == before.json["data"]


RATES = ("open-er-api", "frankfurter")
FX = "/api/v1/finance/fx_rate?base=EUR&quote=SEK"


@on_virtual_loop
async def test_a_figure_is_the_median_with_its_spread(stage: Stage) -> None:
    targets = tuple(map(data_target, RATES))
    stage.rig.serve(route(*targets, operation="finance.fx_rate", name="finance.fx_rate"))
    stage.replies = {
        "frankfurter": whole({"base": "EUR", "date": "2026-11-20", "rates": {"SEK": 11.02}}),
        "open-er-api": whole(
            {
                "result": "success",
                "time_last_update_unix": 1_795_000_000,
                "base_code": "EUR",
                "rates": {"SEK": 11.05},
            }
        ),
    }
    client = await stage.rig.ask(f"{FX}&strategy=merge")
    data, meta = client.json["data"], client.json["meta"]
    assert (data["rate"], data["spread"]) == ("11.035", "0.03")
    assert [(each["provider"], each["value"]) for each in meta["sources"]] == [
        ("open-er-api", "11.05"),
        ("frankfurter", "11.02"),
    ]
    assert data["as_of"] == meta["as_of"] == min(each["as_of"] for each in meta["sources"])
