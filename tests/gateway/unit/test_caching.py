"""The cache in a call's way: who is served from it, what that costs, and what never is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from providers.snapshot import TargetSpec
from tenants.keys import Mode
from tenants.limits import RateLimit, Scope
from tenants.quotas import Metric, Quota, QuotaScope
from tenants.windows import Window
from tests.gateway.unit.rig import (
    DONE,
    FOREVER,
    HELLO,
    WHOLE_STREAM,
    Client,
    Reply,
    Rig,
    chat,
    data_provider,
    data_target,
    event,
    failure,
    held,
    route,
    stream,
    target,
    whole,
)
from tests.loops import eventually, on_loop

KEPT = {"ttl": 300, "stale_while_revalidate": 60, "stale_if_error": 3600}
FX = "finance.fx_rate"
GEO = "geo.geocode"
RATE = "/api/v1/finance/fx_rate?base=EUR&quote=SEK"
OSLO = "/api/v1/geo/geocode?q=Oslo"
SAID = "x-patchbay-cache"
NO_SUCH = {"result": "error", "error-type": "unsupported-code"}


def chats(rig: Rig, cache: dict[str, Any] | None = None, **fields: Any) -> None:
    rig.serve(route(target("lab"), cache=KEPT if cache is None else cache, **fields))


def rates(rig: Rig, **fields: Any) -> None:
    """An operation whose answers are everybody's."""
    rig.serve(route(data_target("frankfurter"), operation=FX, name=FX, cache=KEPT, **fields))
    rig.upstreams.script = lambda request: whole(
        {"amount": 1.0, "base": "EUR", "date": "2027-01-15", "rates": {"SEK": 11.5}}
    )


def tables(rig: Rig) -> None:
    """The same of a provider that knows all: where it knows none (NO_SUCH), there is none."""
    rig.serve(route(data_target("open-er-api"), operation=FX, name=FX, cache=KEPT))
    table = {"base_code": "EUR", "time_last_update_unix": 1, "rates": {"SEK": 11.5}}
    rig.upstreams.script = lambda request: whole({"result": "success", **table})


def places(rig: Rig) -> None:
    """One whose answers are their tenant's alone."""
    rig.serve(route(data_target("open-meteo-geocoding"), operation=GEO, name=GEO, cache=KEPT))
    place = {"name": "Oslo", "latitude": 59.9, "longitude": 10.7}
    rig.upstreams.script = lambda request: whole({"results": [place]})


async def cold(rig: Rig, **request: Any) -> Client:
    """A chat call whose answer is the same each time."""
    return await rig.chat(temperature=0, **request)


async def said(calls: list[Client]) -> list[str]:
    return [call.headers[SAID] for call in calls]


@on_loop
async def test_an_equal_question_needs_no_provider(rig: Rig) -> None:
    chats(rig)
    first, second = await cold(rig), await cold(rig)
    assert (first.headers[SAID], second.headers[SAID]) == ("miss", "hit")
    assert first.body == second.body
    assert len(rig.upstreams.sent) == 1
    assert second.headers["age"] == "0"
    assert second.headers["x-patchbay-cost-microusd"] == "0"
    assert second.rows_at_the_end == 2
    rig.clock.advance(299)
    assert (await cold(rig)).headers["age"] == "299"


@on_loop
async def test_a_hit_has_a_row_of_its_own_and_its_own_price(rig: Rig) -> None:
    rig.key = rig.callers.add(hit_price=7, markup=1000)
    chats(rig)
    await cold(rig)
    hit = await cold(rig)
    row = rig.journal.finals[1].record
    assert (row.cache, row.provider, row.model) == ("hit", "lab", "gpt-x")
    assert (row.cost, row.charge, row.price_id, row.estimate) == (0, 7, None, "")
    assert (row.input_tokens, row.output_tokens, row.attempts, row.units) == (0, 0, 0, 1)
    assert (row.status, row.code, row.operation) == (200, "ok", "chat.completions")
    assert hit.headers["x-patchbay-cost-microusd"] == "7"
    assert rig.journal.finals[0].record.cache == ""
    assert hit.headers["x-request-id"] == row.request_id


@on_loop
async def test_fresh_hits_are_counted_for_what_they_saved_and_stale_ones_are_not(rig: Rig) -> None:
    rates(rig)
    other = rig.callers.add(tenant=2)
    await rig.ask(RATE)
    for key in (rig.key, other, other):
        assert (await rig.ask(RATE, key=key)).headers[SAID] == "hit"
    rig.clock.advance(1000)
    rig.upstreams.script = lambda request: failure(503)
    assert (await rig.ask(RATE)).headers[SAID] == "stale"
    savings = rig.gateway.cache.savings
    hits = {tenant: each.hits for (_, tenant), each in savings.saved().items()}
    assert hits == {1: 1, 2: 2}
    (asked,) = savings.most_asked(9)
    assert (asked.operation, asked.route, asked.fields, asked.hits) == (FX, FX, 2, 3)
    assert rig.gateway.cache.memory.peek(asked.key) is not None
    chats(rig)
    rig.upstreams.script = lambda request: chat()
    await cold(rig)
    paid = rig.journal.finals[-1].record.cost
    await cold(rig, stream=True)
    assert savings.saved()["chat.completions", 1].cost == paid > 0


@on_loop
async def test_what_is_made_by_chance_is_kept_only_if_somebody_asks(rig: Rig) -> None:
    chats(rig)
    assert await said([await rig.chat(), await rig.chat(temperature=1)]) == ["bypass"] * 2
    asking = {"headers": {"X-Patchbay-Cache-Control": "max-age=60"}}
    assert await said([await rig.chat(**asking), await rig.chat(**asking)]) == ["miss", "hit"]
    chats(rig, {**KEPT, "sampled": True})
    assert await said([await rig.chat(top_p=1), await rig.chat(top_p=1)]) == ["miss", "hit"]


@on_loop
async def test_what_the_client_says_counts(rig: Rig) -> None:
    chats(rig)

    async def saying(words: str) -> Client:
        return await cold(rig, headers={"X-Patchbay-Cache-Control": words})

    nothing = await saying("only-if-cached")
    assert (nothing.status, nothing.error["code"]) == (504, "not_cached")
    assert rig.upstreams.sent == rig.journal.finals == []
    assert await said([await saying("no-store"), await saying("no-store")]) == ["bypass"] * 2
    assert await said([await saying("no-cache"), await saying("no-cache")]) == ["miss"] * 2
    assert len(rig.upstreams.sent) == 4
    assert (await saying("only-if-cached")).headers[SAID] == "hit"
    rig.clock.advance(100)
    assert (await saying("max-age=99")).headers[SAID] == "miss"
    assert (await saying("max-age=99")).headers[SAID] == "hit"
    refused = await saying("max-age=soon")
    assert (refused.status, refused.error["param"]) == (400, "X-Patchbay-Cache-Control")


@on_loop
async def test_what_is_said_in_several_lines_is_said_together(rig: Rig) -> None:
    chats(rig)
    said, tags = "X-Patchbay-Cache-Control", "X-Patchbay-Cache-Tags"
    refused = await cold(rig, headers=[(said, "no-store"), (said, "max-age=60")])
    assert (refused.status, refused.error["param"]) == (400, said)
    await cold(rig, headers=[(tags, "one"), (tags, "two")])
    await rig.gateway.cache.invalidate(["client:1:one"])
    assert (await cold(rig)).headers[SAID] == "miss"


@on_loop
async def test_how_it_is_spelled_does_not_count_and_what_it_says_does(rig: Rig) -> None:
    chats(rig)

    async def spelled(text: str) -> str:
        return (await rig.ask(body=text.encode())).headers[SAID]

    hello = json.dumps(HELLO)
    assert await spelled(f'{{"model":"m","messages":{hello},"temperature":0}}') == "miss"
    same = [
        f'{{"temperature": 0.0, "messages": {hello}, "model": "m"}}',
        f'{{"model":"\\u006d","messages":{hello},"temperature":0e5}}',
        f'{{"model":"m","messages":{hello},"temperature":0,"stream":false}}',
    ]
    assert [await spelled(text) for text in same] == ["hit"] * 3
    others = [
        f'{{"model":"m","messages":{hello},"temperature":0,"seed":1}}',
        f'{{"model":"m","messages":{hello},"temperature":0,"max_tokens":5}}',
        f'{{"model":"m","messages":{hello},"temperature":0,"user":"someone"}}',
    ]
    assert [await spelled(text) for text in others] == ["miss"] * 3


@on_loop
async def test_a_stream_answers_a_whole_call_and_the_other_way_round(rig: Rig) -> None:
    chats(rig)
    rig.upstreams.script = lambda request: stream()
    first, again = await cold(rig, stream=True), await cold(rig, stream=True)
    assert again.headers[SAID] == "hit"
    assert again.body == first.body
    assert again.headers["content-type"].startswith("text/event-stream")
    one = await cold(rig)
    (choice,) = one.json["choices"]
    assert choice["message"]["content"] == "hello back"
    assert one.json["usage"]["completion_tokens"] == 3
    counted = await cold(rig, stream=True, stream_options={"include_usage": True})
    assert counted.headers[SAID] == "hit"
    assert b'"prompt_tokens":7' in counted.body.replace(b" ", b"")
    assert len(rig.upstreams.sent) == 1

    chats(rig, {**KEPT, "ttl": 299})  # another configuration
    rig.upstreams.script = lambda request: chat()
    await cold(rig)
    told = await cold(rig, stream=True)
    assert (told.headers[SAID], told.text) == ("hit", "hello back")
    assert told.body.endswith(DONE)


@on_loop
async def test_only_a_whole_stream_is_kept(rig: Rig) -> None:
    chats(rig)
    cuts: list[Callable[[], Reply]] = [
        lambda: stream(*WHOLE_STREAM[:2]),
        lambda: stream(event("hel"), OSError("reset")),
        failure,
        lambda: whole({"nonsense": True}),
    ]
    for cut in cuts:
        rig.upstreams.script = lambda request, cut=cut: cut()  # type: ignore[misc]
        await cold(rig, stream=True)
    rig.upstreams.script = lambda request: stream()
    assert (await cold(rig, stream=True)).headers[SAID] == "miss"
    assert (await cold(rig, stream=True)).headers[SAID] == "hit"


@on_loop
async def test_a_client_that_leaves_a_stream_keeps_nothing(rig: Rig) -> None:
    chats(rig)
    rig.upstreams.script = lambda request: stream(event("hello "), FOREVER)
    client = rig.client(
        json.dumps({"model": "m", "messages": HELLO, "stream": True, "temperature": 0}).encode()
    )
    call = asyncio.create_task(rig.run(client))
    await eventually(lambda: len(client.messages) > 1)
    client.gone.set()
    await call
    rig.upstreams.script = lambda request: stream()
    assert (await cold(rig, stream=True)).headers[SAID] == "miss"


@on_loop
async def test_a_tenants_answers_are_its_own(rig: Rig) -> None:
    places(rig)
    other = rig.callers.add(tenant=2)
    assert await said([await rig.ask(OSLO), await rig.ask(OSLO)]) == ["miss", "hit"]
    assert (await rig.ask(OSLO, key=other)).headers[SAID] == "miss"
    colleague = rig.callers.add(tenant=1)
    assert (await rig.ask(OSLO, key=colleague)).headers[SAID] == "hit"


@on_loop
async def test_what_is_everybodys_is_asked_for_once(rig: Rig) -> None:
    rates(rig)
    other = rig.callers.add(tenant=2)
    first, second = await rig.ask(RATE), await rig.ask(RATE, key=other)
    assert await said([first, second]) == ["miss", "hit"]
    assert second.json["data"] == first.json["data"]
    meta = second.json["meta"]
    assert (meta["cached"], meta["stale"], meta["provider"]) == (True, False, "frankfurter")
    assert meta["attempts"] == []
    assert meta["attribution"] == first.json["meta"]["attribution"]
    assert meta["request_id"] == second.headers["x-request-id"]
    assert second.headers["etag"].startswith('W/"')
    assert rig.journal.finals[1].record.tenant_id == 2


@on_loop
async def test_what_a_tenants_own_credential_gets_is_nobody_elses(rig: Rig) -> None:
    rates(rig)
    spec = data_provider("frankfurter")
    spec = replace(spec, needs_credential=True, secrets={2: held("sk-own"), None: held("sk-house")})
    rig.serve(route(TargetSpec(spec), operation=FX, name=FX, cache=KEPT))
    other, third = rig.callers.add(tenant=2), rig.callers.add(tenant=3)
    assert (await rig.ask(RATE, key=other)).headers[SAID] == "miss"
    assert (await rig.ask(RATE)).headers[SAID] == "miss"
    assert (await rig.ask(RATE, key=third)).headers[SAID] == "hit"
    assert (await rig.ask(RATE, key=other)).headers[SAID] == "hit"
    assert len(rig.upstreams.sent) == 2


@on_loop
async def test_test_mode_keeps_nothing_unless_asked_and_shares_with_nobody(rig: Rig) -> None:
    rates(rig)
    await rig.ask(RATE)
    mine = rig.callers.add(mode=Mode.TEST)
    theirs = rig.callers.add(tenant=2, mode=Mode.TEST)
    assert await said([await rig.ask(RATE, key=mine) for _ in range(2)]) == ["bypass"] * 2
    asking = {"X-Patchbay-Cache-Control": "max-age=60"}
    told = [await rig.ask(RATE, key=key, headers=asking) for key in (mine, mine, theirs)]
    assert await said(told) == ["miss", "hit", "miss"]


@on_loop
async def test_equal_calls_at_the_same_time_ask_once(rig: Rig) -> None:
    chats(rig)
    gate = asyncio.Event()

    class Slow(Reply):
        async def read(self) -> bytes:
            await gate.wait()
            return await super().read()

    answer = chat()
    rig.upstreams.script = lambda request: Slow(answer.parts, 200, answer.headers)
    calls = [asyncio.create_task(cold(rig)) for _ in range(200)]
    await eventually(lambda: rig.upstreams.replies)
    gate.set()
    clients = await asyncio.gather(*calls)
    assert {client.status for client in clients} == {200}
    assert len(rig.upstreams.sent) == 1
    assert sorted(await said(list(clients))) == ["hit"] * 199 + ["miss"]
    assert len({final.record.request_id for final in rig.journal.finals}) == 200
    assert sum(final.record.charge for final in rig.journal.finals) == 13


@on_loop
async def test_when_the_first_leaves_another_asks(rig: Rig) -> None:
    chats(rig)
    rig.upstreams.script = lambda request: Reply([FOREVER])
    body = json.dumps({"model": "m", "messages": HELLO, "temperature": 0}).encode()
    leader = rig.client(body)
    leading = asyncio.create_task(rig.run(leader))
    await eventually(lambda: rig.upstreams.replies)
    waiting = [asyncio.create_task(cold(rig)) for _ in range(20)]
    for _ in range(20):
        await asyncio.sleep(0)
    rig.upstreams.script = lambda request: chat()
    leader.gone.set()
    await leading
    clients = await asyncio.gather(*waiting)
    assert {client.status for client in clients} == {200}
    assert len(rig.upstreams.sent) == 2


@on_loop
async def test_who_waits_for_another_waits_no_longer_than_its_deadline(rig: Rig) -> None:
    chats(rig)
    rig.upstreams.script = lambda request: Reply([FOREVER])
    leading = asyncio.create_task(cold(rig))
    await eventually(lambda: rig.upstreams.replies)
    hurried = await cold(rig, headers={"X-Patchbay-Deadline-Ms": "30"})
    assert (hurried.status, hurried.error["code"]) == (504, "deadline_exceeded")
    leading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leading
    assert rig.gateway.admissions.counters._holds == {}  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [404, 422])
@on_loop
async def test_what_a_provider_refuses_it_is_asked_once_by_all_who_ask_it(
    rig: Rig, status: int
) -> None:
    served, ask = (tables, partial(rig.ask, RATE)) if status == 404 else (chats, partial(cold, rig))
    served(rig)
    rig.upstreams.script = lambda request: whole(NO_SUCH, status)
    clients = await asyncio.gather(*[ask() for _ in range(50)])
    assert {client.status for client in clients} == {status}
    assert len(rig.upstreams.sent) == 1
    assert len({client.error["request_id"] for client in clients}) == 50
    await ask()
    assert len(rig.upstreams.sent) == 2  # it was not kept


@on_loop
async def test_who_fails_with_others_hears_nothing_of_them(rig: Rig) -> None:
    rates(rig)
    rig.upstreams.script = lambda request: failure(503)
    others = [rig.callers.add(tenant=number) for number in (2, 3)]
    paths = (RATE, RATE + "&explain=true", RATE)
    calls = [rig.ask(path, key=key) for path, key in zip(paths, (rig.key, *others), strict=True)]
    told = [client.json for client in await asyncio.gather(*calls)]
    assert {document["code"] for document in told} == {"provider_unavailable"}
    assert ["explain" in document for document in told] == [False, True, False]


@pytest.mark.parametrize("stale", [False, True])
@on_loop
async def test_whose_time_is_over_takes_nobody_elses(rig: Rig, stale: bool) -> None:
    rates(rig)
    answer = rig.upstreams.script
    if stale:  # the hurried one is served that, and the others what comes
        await rig.ask(RATE)
        rig.clock.advance(1000)
    rig.upstreams.script = lambda request: Reply([FOREVER])
    asked = len(rig.upstreams.sent)
    hurried = asyncio.create_task(rig.ask(RATE, headers={"X-Patchbay-Deadline-Ms": "30"}))
    await eventually(lambda: len(rig.upstreams.replies) > asked)
    rig.upstreams.script = answer
    other = rig.callers.add(tenant=2)
    others = await asyncio.gather(*[rig.ask(RATE, key=other) for _ in range(20)])
    assert {(client.status, client.json["meta"]["stale"]) for client in others} == {(200, False)}
    assert len(rig.upstreams.sent) == asked + 2
    assert (await hurried).status == (200 if stale else 504)


@on_loop
async def test_a_hit_needs_no_room_at_any_provider_and_counts_in_the_callers_limits(
    rig: Rig,
) -> None:
    minute = RateLimit(Scope.PROVIDER, 1, 60)
    spec = replace(data_provider("frankfurter"), rate_limits=(minute,))
    rates(rig)
    rig.serve(route(TargetSpec(spec), operation=FX, name=FX, cache=KEPT))
    assert await said([await rig.ask(RATE), await rig.ask(RATE)]) == ["miss", "hit"]
    other = "/api/v1/finance/fx_rate?base=EUR&quote=NOK"
    assert (await rig.ask(other)).status == 503
    only = await rig.ask(other, headers={"X-Patchbay-Cache-Control": "only-if-cached"})
    assert (only.status, only.error["code"]) == (504, "not_cached")
    key = rig.callers.add(tenant=2, rate_limits=(RateLimit(Scope.KEY, 1, 60),))
    told = [await rig.ask(RATE, key=key) for _ in range(2)]
    assert [client.status for client in told] == [200, 429]


@on_loop
async def test_another_configuration_begins_anew(rig: Rig) -> None:
    chats(rig)
    await cold(rig)
    assert (await cold(rig)).headers[SAID] == "hit"
    rig.serve(route(target("lab"), cache=KEPT, version="2"))
    assert (await cold(rig)).headers[SAID] == "miss"
    rig.serve(route(target("lab"), target("lab2"), cache=KEPT, version="2"))
    assert (await cold(rig)).headers[SAID] == "miss"


@on_loop
async def test_what_is_invalidated_by_its_name_is_fetched_again(rig: Rig) -> None:
    chats(rig)
    await cold(rig)
    await rig.gateway.cache.invalidate(["operation:chat.completions"])
    assert (await cold(rig)).headers[SAID] == "miss"
    named = {"X-Patchbay-Cache-Tags": "nightly, report:7"}
    await cold(rig, seed=1, headers=named)
    assert (await cold(rig, seed=1)).headers[SAID] == "hit"
    await rig.gateway.cache.invalidate(["client:2:nightly"])
    assert (await cold(rig, seed=1)).headers[SAID] == "hit"
    await rig.gateway.cache.invalidate(["client:1:nightly"])
    assert (await cold(rig, seed=1)).headers[SAID] == "miss"


@on_loop
async def test_no_tenant_has_a_name_on_what_is_everybodys(rig: Rig) -> None:
    rates(rig)
    named = {"X-Patchbay-Cache-Tags": "nightly"}
    other = rig.callers.add(tenant=2)
    assert await said([await rig.ask(RATE, headers=named) for _ in range(2)]) == ["miss", "hit"]
    await rig.gateway.cache.invalidate(["client:1:nightly", "client:2:nightly"])
    told = [await rig.ask(RATE, key=key, headers=named) for key in (rig.key, other)]
    assert await said(told) == ["hit", "hit"]
    assert (await rig.ask(RATE, headers={"X-Patchbay-Cache-Tags": "né"})).status == 400
    await rig.gateway.cache.invalidate(["base:EUR"])
    assert (await rig.ask(RATE)).headers[SAID] == "miss"


@on_loop
async def test_quotas_count_a_hit_as_one_call_without_tokens(rig: Rig) -> None:
    quotas = tuple(
        Quota(QuotaScope.TENANT, metric, Window.DAY, limit)
        for metric, limit in ((Metric.REQUESTS, 3), (Metric.TOKENS, 1000))
    )
    rig.key = rig.callers.add(quotas=quotas)
    chats(rig)
    told = [await cold(rig) for _ in range(4)]
    assert [client.status for client in told] == [200, 200, 200, 429]
    assert sum(f.record.input_tokens + f.record.output_tokens for f in rig.journal.finals) == 10
