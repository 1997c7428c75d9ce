"""Idempotency-Key: the same POST sent again is answered again, and done and billed once."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from lib.ids import uuid7
from lib.stores import StoreAway
from tenants.keys import Mode
from tenants.limits import RateLimit, Scope
from tenants.quotas import Metric, Quota, QuotaScope
from tenants.windows import Window
from tests.gateway.unit.rig import (
    CHAT,
    DONE,
    FOREVER,
    HELLO,
    Client,
    Rig,
    chat,
    data_target,
    event,
    failure,
    provider,
    route,
    stream,
    target,
    whole,
)
from tests.loops import eventually, on_loop
from usage.idempotency import KEPT_SECONDS, Answer, Claim
from usage.models import IdempotentCall

pytestmark = pytest.mark.django_db(transaction=True)

BATCH = "/api/v1/batch"
GEO = "geo.geocode"
ASK = {"model": "m", "messages": HELLO}
TOLD = (
    "x-patchbay-provider",
    "x-patchbay-attempts",
    "x-patchbay-cache",
    "x-patchbay-cost-microusd",
)


async def keyed(rig: Rig, key: str = "k-1", **request: Any) -> Client:
    return await rig.chat(headers={"Idempotency-Key": key}, **request)


async def claims(rig: Rig) -> list[tuple[str, str]]:
    """The state and the request id of each key that is remembered."""

    def read() -> list[tuple[str, str]]:
        return list(IdempotentCall.objects.order_by("id").values_list("state", "request_id"))

    found: list[tuple[str, str]] = await asyncio.to_thread(read)
    return found


def assert_replays(second: Client, first: Client) -> None:
    assert (second.status, second.body) == (first.status, first.body)
    assert second.headers["content-type"] == first.headers["content-type"]
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["x-patchbay-original-request-id"] == first.headers["x-request-id"]
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    for name in TOLD:
        assert second.headers.get(name) == first.headers.get(name)


def assert_lost(client: Client, first_id: str) -> None:
    assert (client.status, client.error["code"]) == (409, "idempotency_conflict")
    assert client.error["status_url"] == f"/api/v1/requests/{first_id}"
    assert client.error["status_url"] in client.error["message"]
    assert "new key" in client.error["message"]
    assert "retry-after" not in client.headers


@on_loop
async def test_a_whole_answer_is_given_again(rig: Rig) -> None:
    first = await keyed(rig)
    assert "idempotency-replayed" not in first.headers
    assert first.headers["x-patchbay-cost-microusd"] == "13"
    second = await keyed(rig)
    assert_replays(second, first)
    assert len(rig.upstreams.sent) == len(rig.journal.finals) == 1


@on_loop
async def test_a_stream_is_given_again_byte_for_byte(rig: Rig) -> None:
    rig.upstreams.script = lambda request: stream()
    first = await keyed(rig, stream=True)
    assert first.body.endswith(DONE)
    second = await keyed(rig, stream=True)
    assert_replays(second, first)
    assert second.headers["cache-control"] == "no-cache"
    assert len(rig.upstreams.sent) == len(rig.journal.finals) == 1


@on_loop
async def test_embeddings_too(rig: Rig) -> None:
    rig.serve(route(target("lab", "e", operation="embeddings"), name="e"))
    vector = {"object": "embedding", "index": 0, "embedding": [0.1]}
    usage = {"prompt_tokens": 2, "total_tokens": 2}
    rig.upstreams.script = lambda request: whole(
        {"object": "list", "data": [vector], "model": "e", "usage": usage}
    )
    ask = {"model": "e", "input": "hello"}
    again = [
        await rig.ask("/api/v1/embeddings", body=ask, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert again[0].status == 200, again[0].body
    assert_replays(again[1], again[0])
    assert len(rig.upstreams.sent) == 1


@on_loop
async def test_what_the_cache_answered_is_given_again_and_billed_once(rig: Rig) -> None:
    rig.key = rig.callers.add(hit_price=7)
    rig.serve(route(target("lab"), cache={"ttl": 300}))
    await rig.chat(temperature=0)
    first = await keyed(rig, temperature=0)
    assert first.headers["x-patchbay-cache"] == "hit"
    rig.clock.advance(301)
    assert_replays(await keyed(rig, temperature=0), first)
    assert (await keyed(rig, temperature=0, seed=1)).status == 422
    assert [final.record.charge for final in rig.journal.finals] == [13, 7]


@on_loop
async def test_a_hundred_at_once_are_one_call(rig: Rig) -> None:
    gate = asyncio.Event()
    answers = [asyncio.create_task(keyed(rig)) for _ in range(100)]
    rig.upstreams.script = lambda request: stream(FOREVER) if not gate.is_set() else chat()
    # The first hangs at its provider; all others are told so.
    await eventually(lambda: sum(task.done() for task in answers) >= 99)
    answered = [task.result() for task in answers if task.done()]
    assert Counter(client.status for client in answered) == {409: 99}
    for client in answered:
        assert client.error["code"] == "idempotency_conflict"
        assert int(client.headers["retry-after"]) == 1
        assert client.error["status_url"].startswith("/api/v1/requests/")
    assert len(rig.upstreams.sent) == 1
    for task in answers:
        task.cancel()
    await asyncio.gather(*answers, return_exceptions=True)


@on_loop
async def test_whoever_asks_again_once_it_is_over_gets_the_answer(rig: Rig) -> None:
    clients = await asyncio.gather(*(keyed(rig) for _ in range(20)))
    (first,) = [c for c in clients if c.status == 200 and "idempotency-replayed" not in c.headers]
    for client in clients:
        assert client.status in (200, 409)
    assert_replays(await keyed(rig), first)
    assert len(rig.upstreams.sent) == len(rig.journal.finals) == 1


@on_loop
async def test_another_body_under_the_same_key_is_a_mistake(rig: Rig) -> None:
    await keyed(rig)
    client = await keyed(rig, temperature=1)
    assert (client.status, client.error["code"]) == (422, "idempotency_mismatch")
    assert len(rig.upstreams.sent) == 1


@on_loop
async def test_another_body_while_the_first_still_runs(rig: Rig) -> None:
    rig.upstreams.script = lambda request: stream(FOREVER)
    running = asyncio.create_task(keyed(rig))
    await eventually(lambda: rig.upstreams.sent)
    assert (await keyed(rig, temperature=1)).status == 422
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@on_loop
async def test_another_operation_under_the_same_key(rig: Rig) -> None:
    rig.serve(route(target("lab")), route(target("lab", operation="embeddings"), name="e"))
    both = {"model": "m", "messages": HELLO}
    await rig.ask(CHAT, body=both, headers={"Idempotency-Key": "k"})
    embeddings = {"model": "e", "input": "x"}
    client = await rig.ask("/api/v1/embeddings", body=embeddings, headers={"Idempotency-Key": "k"})
    assert client.status == 422


@on_loop
async def test_an_alias_is_the_same_operation(rig: Rig) -> None:
    headers = {"Idempotency-Key": "k"}
    first = await rig.ask(CHAT, headers=headers)
    assert_replays(await rig.ask("/api/chat", headers=headers), first)


SAME_KEY = [
    ("abc", '"abc"'),
    ('a"b', '"a\\"b"'),
    ("a\\b", '"a\\\\b"'),
    ("x" * 255, '"' + "x" * 255 + '"'),
    ('"' + "\\\\" * 255 + '"', "\\" * 255),
]


@pytest.mark.parametrize(("one", "other"), SAME_KEY)
@on_loop
async def test_quoted_or_bare_it_is_the_same_key(rig: Rig, one: str, other: str) -> None:
    first = await keyed(rig, one)
    assert_replays(await keyed(rig, other), first)


BAD_KEYS = ["", '""', '"', '"abc', "abc def", '"abc def"', '"a\\b"', '"a"b"', "x" * 256, "nyckel-å"]
BAD_KEYS += ['"' + "x" * 256 + '"', '"abc";p=1', "a\tb", "\x7f", '"abc" "d"', "\x00"]


@pytest.mark.parametrize("key", BAD_KEYS)
@on_loop
async def test_what_is_no_key(rig: Rig, key: str) -> None:
    client = await keyed(rig, key)
    assert (client.status, client.error["code"]) == (400, "invalid_request")
    assert "Idempotency-Key" in client.error["message"]
    assert client.error["param"] == "Idempotency-Key"
    assert rig.upstreams.sent == []
    assert await claims(rig) == []


@on_loop
async def test_two_keys_are_none(rig: Rig) -> None:
    client = await rig.chat(headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "a")])
    assert client.status == 400
    assert rig.upstreams.sent == []


@on_loop
async def test_no_client_sees_anothers_answer(rig: Rig) -> None:
    rig.upstreams.script = lambda request: chat(f"answer {len(rig.upstreams.sent)}")
    keys = [
        rig.key,
        rig.callers.add(tenant=2),
        rig.callers.add(tenant=1, mode=Mode.TEST),
        rig.callers.add(tenant=2, mode=Mode.TEST),
    ]
    headers = {"Idempotency-Key": "k"}
    firsts = [await rig.chat(headers=headers, key=key) for key in keys]
    assert len({client.body for client in firsts}) == len(keys)
    for key, first in zip(keys, firsts, strict=True):
        assert_replays(await rig.chat(headers=headers, key=key), first)


@on_loop
async def test_two_keys_of_a_tenant_are_the_same_client(rig: Rig) -> None:
    first = await keyed(rig)
    sibling = rig.callers.add()
    assert_replays(await rig.chat(headers={"Idempotency-Key": "k-1"}, key=sibling), first)


@on_loop
async def test_a_key_without_the_scope_gets_no_answer_of_its_siblings(rig: Rig) -> None:
    await keyed(rig)
    narrow = rig.callers.add(scopes=frozenset({"finance.*"}))
    client = await rig.chat(headers={"Idempotency-Key": "k-1"}, key=narrow)
    assert client.error["code"] == "insufficient_scope"


def served_places(rig: Rig) -> None:
    rig.serve(route(data_target("open-meteo-geocoding"), operation=GEO, name=GEO))
    place = {"name": "Oslo", "latitude": 59.9, "longitude": 10.7}
    rig.upstreams.script = lambda request: whole({"results": [place]})


@on_loop
async def test_a_get_does_not_hear_of_it(rig: Rig) -> None:
    served_places(rig)
    for _ in range(2):
        client = await rig.ask("/api/v1/geo/geocode?q=Oslo", headers={"Idempotency-Key": ""})
        assert client.status == 200
    assert len(rig.upstreams.sent) == 2
    assert await claims(rig) == []


async def rested(rig: Rig) -> Callable[[], None]:
    """Every target's breaker is open; it returns what ends that."""
    rig.upstreams.script = lambda request: failure()
    for _ in range(5):
        await rig.chat()

    def recover() -> None:
        rig.clock.advance(3600)
        rig.upstreams.script = lambda request: chat()

    return recover


async def without_a_route(rig: Rig) -> Callable[[], None]:
    rig.serve()
    return lambda: rig.serve(route(target("lab")))


async def unable(rig: Rig) -> Callable[[], None]:
    """The only provider cannot say what is asked."""
    rig.serve(route(target(provider("claude", "anthropic"))))
    return lambda: rig.serve(route(target("lab")))


async def out_of_allowance(rig: Rig) -> Callable[[], None]:
    rig.key = rig.callers.add(rate_limits=(RateLimit(Scope.KEY, 1, 60),))
    assert (await rig.chat()).status == 200
    return lambda: rig.clock.advance(120)


REFUSALS = {
    "circuit_open": rested,
    "not_found": without_a_route,
    "invalid_request": unable,
    "rate_limit_exceeded": out_of_allowance,
}


@pytest.mark.parametrize(("code", "arrange"), REFUSALS.items(), ids=REFUSALS)
@on_loop
async def test_what_was_refused_before_a_provider_was_asked_may_come_again(
    rig: Rig, code: str, arrange: Any
) -> None:
    recover = await arrange(rig)
    assert (await keyed(rig, logit_bias={"1": 1})).error["code"] == code
    assert await claims(rig) == []
    recover()
    client = await keyed(rig, logit_bias={"1": 1})
    assert client.status == 200
    assert "idempotency-replayed" not in client.headers


@on_loop
async def test_a_body_that_is_not_valid_claims_nothing(rig: Rig) -> None:
    assert (await keyed(rig, messages="no list")).status in (400, 422)
    client = await rig.ask(body=b"{", headers={"Idempotency-Key": "k-1"})
    assert client.status == 400
    assert await claims(rig) == []
    assert (await keyed(rig)).status == 200


@on_loop
async def test_a_deadline_that_is_none_is_refused_and_gives_the_key_back(rig: Rig) -> None:
    headers = {"Idempotency-Key": "k-1", "X-Patchbay-Deadline-Ms": "soon"}
    assert (await rig.chat(headers=headers)).status == 400
    assert (await keyed(rig)).status == 200


@pytest.mark.parametrize("status", [400, 401, 500])
@on_loop
async def test_a_providers_refusal_is_the_answer(rig: Rig, status: int) -> None:
    rig.upstreams.script = lambda request: failure(status)
    first = await keyed(rig)
    assert first.status >= 400
    rig.upstreams.script = lambda request: chat()
    second = await keyed(rig)
    assert_replays(second, first)
    assert len(rig.upstreams.sent) == 1


@on_loop
async def test_a_fallback_is_part_of_the_call(rig: Rig) -> None:
    rig.serve(route(target("one"), target("two")))
    rig.upstreams.by_provider(one=failure)
    first = await keyed(rig)
    assert first.headers["x-patchbay-provider"] == "two"
    assert_replays(await keyed(rig), first)
    assert rig.upstreams.asked == ["one", "two"]


@on_loop
async def test_a_cut_stream_is_never_repeated_nor_done_again(rig: Rig) -> None:
    rig.upstreams.script = lambda request: stream(event("half an answer"))  # and just ends
    first = await keyed(rig, stream=True)
    assert b"[DONE]" not in first.body
    assert rig.final.record.code == "stream_cut"
    assert_lost(await keyed(rig, stream=True), first.headers["x-request-id"])
    assert len(rig.upstreams.sent) == len(rig.journal.finals) == 1


@pytest.mark.parametrize("streamed", [False, True])
@on_loop
async def test_whoever_hangs_up_is_told_where_to_look(rig: Rig, streamed: bool) -> None:
    rig.upstreams.script = lambda request: stream(event("half an answer"), FOREVER)
    client = rig.client(json.dumps({**ASK, "stream": streamed}).encode())
    asking = asyncio.create_task(rig.run(client, headers={"Idempotency-Key": "k-1"}))
    await eventually(lambda: rig.upstreams.replies)
    client.gone.set()
    await asking
    assert rig.final.record.code == "hung_up"
    again = await keyed(rig, stream=streamed)
    assert_lost(again, rig.final.record.request_id)
    assert len(rig.upstreams.sent) == 1


@on_loop
async def test_a_call_that_the_end_of_the_server_broke_off(rig: Rig) -> None:
    rig.upstreams.script = lambda request: stream(FOREVER)
    asking = asyncio.create_task(keyed(rig))
    await eventually(lambda: rig.upstreams.sent)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert_lost(await keyed(rig), rig.final.record.request_id)


@on_loop
async def test_what_a_crash_left_behind_is_never_done_again(rig: Rig) -> None:
    """Its process died after the claim: whether a provider was asked, nobody knows."""
    dead = await keyed(rig)

    def revive() -> None:
        IdempotentCall.objects.update(state="running")

    await asyncio.to_thread(revive)
    running = await keyed(rig)
    assert (running.status, running.headers["retry-after"]) == (409, "1")
    rig.clock.advance(60 + 30)
    assert_lost(await keyed(rig), dead.headers["x-request-id"])
    rig.clock.advance(KEPT_SECONDS - 60 - 30 - 1)
    assert (await keyed(rig)).status == 409
    assert len(rig.upstreams.sent) == 1


@on_loop
async def test_a_key_is_new_again_after_a_day(rig: Rig) -> None:
    first = await keyed(rig)
    rig.clock.advance(KEPT_SECONDS - 1)
    assert_replays(await keyed(rig), first)
    rig.clock.advance(1)
    assert "idempotency-replayed" not in (await keyed(rig)).headers
    assert len(rig.upstreams.sent) == 2
    assert len(await claims(rig)) == 1


@pytest.mark.parametrize("streamed", [False, True])
@on_loop
async def test_the_answer_is_kept_before_its_last_byte_leaves(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    rig.upstreams.script = lambda request: stream() if streamed else chat()
    calls, kept = rig.gateway.idempotency.calls, []
    save = calls.save
    client = rig.client(json.dumps({**ASK, "stream": streamed}).encode())

    async def saved(claim: Claim, answer: Answer) -> None:
        await asyncio.sleep(0.01)
        assert not client.ended
        assert rig.journal.finals, "a row first"
        await save(claim, answer)
        assert not client.ended
        kept.append(answer)

    monkeypatch.setattr(type(calls), "save", staticmethod(saved))
    await rig.run(client, headers={"Idempotency-Key": "k-1"})
    assert client.ended
    assert [answer.body for answer in kept] == [client.body]


@on_loop
async def test_an_answer_that_cannot_be_kept_goes_out_all_the_same(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*args: object) -> None:
        raise StoreAway("OperationalError")

    with monkeypatch.context() as patch:
        patch.setattr(type(rig.gateway.idempotency.calls), "save", away)
        first = await keyed(rig)
    assert first.status == 200
    assert (await keyed(rig)).status == 409
    rig.clock.advance(90)
    assert_lost(await keyed(rig), first.headers["x-request-id"])
    assert len(rig.upstreams.sent) == 1


@on_loop
async def test_without_the_database_nothing_is_done(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*args: object) -> None:
        raise StoreAway("OperationalError")

    with monkeypatch.context() as patch:
        patch.setattr(type(rig.gateway.idempotency.calls), "_run", away)
        client = await keyed(rig)
    assert (client.status, client.error["code"]) == (503, "store_unavailable")
    assert int(client.headers["retry-after"]) > 0
    assert rig.upstreams.sent == []
    assert (await keyed(rig)).status == 200


@on_loop
async def test_an_answer_that_was_withheld_for_its_rows_sake_is_not_known(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider was asked, and the row may be there or not."""
    monkeypatch.setattr("usage.ledger.PATIENCE", 0.05)
    rig.journal.away = True
    first = await keyed(rig)
    assert (first.status, first.error["code"]) == (503, "store_unavailable")
    rig.journal.away = False
    assert_lost(await keyed(rig), first.headers["x-request-id"])
    assert len(rig.upstreams.sent) == 1


@pytest.mark.parametrize("streamed", [False, True])
@on_loop
async def test_what_is_too_large_is_not_kept(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    monkeypatch.setattr("gateway.idempotency.MAX_KEPT_BYTES", 1000)
    long = "word " * 300
    rig.upstreams.script = lambda request: (
        stream(event(long), event(), DONE) if streamed else chat(long)
    )
    first = await keyed(rig, stream=streamed)
    assert first.status == 200
    assert len(first.body) > 1000
    assert_lost(await keyed(rig, stream=streamed), first.headers["x-request-id"])
    assert len(rig.upstreams.sent) == 1


@on_loop
async def test_a_repeated_call_is_a_request_for_its_limits(rig: Rig) -> None:
    rig.key = rig.callers.add(rate_limits=(RateLimit(Scope.KEY, 3, 60),))
    answers = [await keyed(rig) for _ in range(4)]
    assert [client.status for client in answers] == [200, 200, 200, 429]
    left = [client.headers["x-ratelimit-remaining"] for client in answers]
    assert left == ["2", "1", "0", "0"]
    assert len(rig.upstreams.sent) == 1


@on_loop
async def test_a_repeated_call_uses_no_quota(rig: Rig) -> None:
    quota = Quota(QuotaScope.TENANT, Metric.REQUESTS, Window.DAY, 3)
    rig.key = rig.callers.add(quotas=(quota,))
    for _ in range(5):
        assert (await keyed(rig)).status == 200
    for _ in range(5):
        assert (await keyed(rig, temperature=1)).status == 422
    assert [(await rig.chat()).status for _ in range(3)] == [200, 200, 429]


@on_loop
async def test_without_the_header_the_database_is_not_asked(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(type(rig.gateway.idempotency.calls), "claim")
    assert (await rig.chat()).status == 200


async def batch(rig: Rig, *names: str, **request: Any) -> Client:
    items = [{"operation": GEO, "params": {"q": name}} for name in names]
    headers = {"Idempotency-Key": "k-1"}
    return await rig.ask(BATCH, body={"requests": items}, headers=headers, **request)


@on_loop
async def test_a_batch_is_repeated_as_a_whole(rig: Rig) -> None:
    served_places(rig)
    first = await batch(rig, "a", "b", "a")
    assert {item["status"] for item in first.json["data"]} == {200}
    assert_replays(await batch(rig, "a", "b", "a"), first)
    assert (await batch(rig, "a", "b")).status == 422
    assert len(rig.upstreams.sent) == len(rig.journal.finals) == 3
    assert await claims(rig) == [("answered", first.headers["x-request-id"])]


@on_loop
async def test_a_batch_that_was_broken_off_is_not_done_again(rig: Rig) -> None:
    served_places(rig)
    rig.upstreams.script = lambda request: stream(FOREVER)
    item = {"operation": GEO, "params": {"q": "a"}}
    client = rig.client(json.dumps({"requests": [item]}).encode())
    asking = asyncio.create_task(rig.run(client, BATCH, headers={"Idempotency-Key": "k-1"}))
    await eventually(lambda: rig.upstreams.sent)
    client.gone.set()
    await asking
    again = await batch(rig, "a")
    assert (again.status, again.error["code"]) == (409, "idempotency_conflict")
    assert len(rig.upstreams.sent) == 1


@on_loop
async def test_a_batch_of_a_key_that_may_less_is_another(rig: Rig) -> None:
    served_places(rig)
    await batch(rig, "a")
    narrow = rig.callers.add(scopes=frozenset({"finance.*"}))
    assert (await batch(rig, "a", key=narrow)).status == 422


@on_loop
async def test_repeated_batches_are_limited_too(rig: Rig) -> None:
    served_places(rig)
    rig.key = rig.callers.add(rate_limits=(RateLimit(Scope.KEY, 4, 60),))
    answers = [await batch(rig, "a") for _ in range(4)]
    assert [client.status for client in answers] == [200, 200, 200, 429]


def spelled(value: Any, chance: random.Random) -> str:
    """`value` as JSON, its spaces, members' order and escapes as it comes."""
    gap = chance.choice(["", " ", "\n", "\t "])
    if isinstance(value, dict):
        names = chance.sample(list(value), len(value))
        members = [f"{spelled(n, chance)}{gap}:{gap}{spelled(value[n], chance)}" for n in names]
        return "{" + gap + f"{gap},{gap}".join(members) + gap + "}"
    if isinstance(value, list):
        return "[" + f",{gap}".join(spelled(item, chance) for item in value) + gap + "]"
    return json.dumps(value, ensure_ascii=chance.random() < 0.5)


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


@hypothesis.settings(
    max_examples=40,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(VALUES, st.integers(0, 2**32))
def test_the_same_json_however_it_is_spelled(rig: Rig, value: Any, seed: int) -> None:
    rig.serve(route(target("lab", capabilities=frozenset({"tools"}))))
    ask, chance = {**ASK, "tools": [_tool(value)]}, random.Random(seed)
    headers = {"Idempotency-Key": uuid7()}

    async def send() -> Client:
        return await rig.ask(body=spelled(ask, chance).encode(), headers=headers)

    async def twice() -> tuple[Client, Client]:
        return await send(), await send()

    first, second = asyncio.run(twice())
    assert first.status == 200, first.body
    assert_replays(second, first)


def _tool(value: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {}, "default": value}
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}
