"""One call, several targets: who is tried next, who is left in peace, and when it is over."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from providers.call import Verdict
from providers.timeouts import Timeouts
from providers.transport import TransportFault
from tenants.keys import Mode
from tests.gateway.unit.rig import (
    DONE,
    FOREVER,
    ONCE,
    WHOLE_STREAM,
    Client,
    Part,
    Reply,
    Rig,
    chat,
    event,
    failure,
    provider,
    route,
    stream,
    target,
    whole,
)
from tests.loops import eventually, on_loop

OPEN_AFTER = 5  # failures in a row
REST = 60.0  # seconds a breaker stays open


def outcomes(client: Client) -> list[tuple[str, str]]:
    return [(a["provider"], a["outcome"]) for a in client.error["attempts"]]


def unreachable() -> Exception:
    return TransportFault(Verdict.UNREACHABLE, "the connection was refused")


def garbled() -> Reply:
    return Reply([b"<html>"])


FAULTS: dict[str, tuple[Any, str]] = {
    "500": (failure, "upstream_unavailable"),
    "401": (lambda: failure(401), "auth"),
    "429": (lambda: failure(429), "rate_limited"),
    "no JSON": (garbled, "bad_payload"),
    "unreachable": (unreachable, "unreachable"),
    "cut within the body": (lambda: Reply([b'{"id', unreachable()]), "unreachable"),
}


@pytest.mark.parametrize(("fault", "outcome"), FAULTS.values(), ids=FAULTS.keys())
@on_loop
async def test_the_next_target_takes_over(rig: Rig, fault: Any, outcome: str) -> None:
    rig.serve(route(target("one"), target("two")))
    rig.upstreams.by_provider(one=fault)
    client = await rig.chat()
    assert client.status == 200
    assert rig.upstreams.asked == ["one", "two"]
    assert [a.verdict for a in rig.final.attempts] == [outcome, "ok"]
    assert rig.final.record.provider == "two"
    assert all(reply.closed for reply in rig.upstreams.replies)


BEFORE_THE_FIRST_EVENT: dict[str, list[Part]] = {
    "nothing at all": [b""],
    "an error event": [b'data: {"error": {"message": "overloaded"}}\n\n'],
    "no event": [b"data: {{{{\n\n"],
    "a cut": [b": hello\n\n", unreachable()],
    "nothing but its end": [DONE],
    "only comments": [b": one\n\n", b": two\n\n"],
}


@pytest.mark.parametrize(
    "parts", BEFORE_THE_FIRST_EVENT.values(), ids=BEFORE_THE_FIRST_EVENT.keys()
)
@on_loop
async def test_a_stream_may_still_fall_over_before_its_first_event(
    rig: Rig, parts: list[Part]
) -> None:
    rig.serve(route(target("one"), target("two")))
    rig.upstreams.by_provider(one=lambda: stream(*parts), two=stream)
    client = await rig.chat(stream=True)
    assert client.text == "hello back"
    assert client.body.endswith(DONE)
    assert rig.upstreams.asked == ["one", "two"]
    assert all(reply.closed for reply in rig.upstreams.replies)
    assert rig.final.record.attempts == 2


@on_loop
async def test_the_callers_fault_is_nobody_elses(rig: Rig) -> None:
    rig.serve(route(target("one"), target("two")))
    refusal = {"error": {"message": "temperature too high", "param": "temperature"}}
    rig.upstreams.by_provider(one=lambda: whole(refusal, 400))
    client = await rig.chat()
    assert client.status == 400
    assert rig.upstreams.asked == ["one"]
    assert rig.final.record.status == 400


@on_loop
async def test_all_fail_and_each_is_named(rig: Rig) -> None:
    rig.serve(route(target("one"), target("two")))
    rig.upstreams.by_provider(one=failure, two=unreachable)
    client = await rig.chat()
    assert (client.status, client.error["code"]) == (503, "provider_unavailable")
    assert outcomes(client) == [("one", "upstream_unavailable"), ("two", "unreachable")]
    assert int(client.headers["retry-after"]) >= 1
    assert rig.final.record.code == "provider_unavailable"
    assert rig.final.record.charge == 0


@on_loop
async def test_what_one_dialect_cannot_say_another_may(rig: Rig) -> None:
    claude = target(provider("claude", "anthropic"))
    rig.serve(route(claude, target("lab")))
    client = await rig.chat(logit_bias={"50256": -100})
    assert client.status == 200
    assert rig.upstreams.asked == ["lab"]


@on_loop
async def test_what_no_dialect_can_say_is_the_callers_to_change(rig: Rig) -> None:
    rig.serve(route(target(provider("claude", "anthropic"))))
    client = await rig.chat(logit_bias={"50256": -100})
    assert (client.status, client.error["param"]) == (400, "logit_bias")
    assert rig.upstreams.sent == []
    assert rig.journal.entries == []


@on_loop
async def test_unsupported_by_one_and_failed_at_the_other_is_a_failure(rig: Rig) -> None:
    rig.serve(route(target(provider("claude", "anthropic")), target("lab")))
    rig.upstreams.by_provider(lab=failure)
    client = await rig.chat(logit_bias={"50256": -100})
    assert client.status >= 500
    assert ("lab", "upstream_unavailable") in outcomes(client)


@on_loop
async def test_unsupported_by_one_while_the_other_rests_is_no_fault_of_the_callers(
    rig: Rig,
) -> None:
    rig.serve(route(target(provider("claude", "anthropic")), target("lab")))
    rig.upstreams.by_provider(lab=failure)
    for _ in range(OPEN_AFTER + 1):
        client = await rig.chat(logit_bias={"50256": -100})
    assert (client.status, client.error["code"]) == (503, "circuit_open")
    assert outcomes(client) == [("lab", "skipped_circuit_open")]
    assert len(rig.upstreams.sent) == OPEN_AFTER


@on_loop
async def test_a_probe_that_was_never_sent_is_given_back(rig: Rig) -> None:
    """A half-open breaker lets one call through; one its dialect cannot express is none."""
    rig.serve(route(target(provider("claude", "anthropic"))))
    rig.upstreams.script = lambda request: failure()
    for _ in range(OPEN_AFTER):
        await rig.chat()
    rig.clock.advance(REST)
    assert (await rig.chat(logit_bias={"1": 1})).status == 400
    sent = len(rig.upstreams.sent)
    await rig.chat()
    assert len(rig.upstreams.sent) == sent + 1


async def broken(rig: Rig, key: str | None = None) -> None:
    """Fails until the breaker is open."""
    rig.upstreams.script = lambda request: failure()
    for _ in range(OPEN_AFTER):
        await rig.chat(key=key or rig.key)
    rig.upstreams.sent.clear()
    rig.upstreams.replies.clear()


@on_loop
async def test_a_target_that_fails_in_a_row_rests(rig: Rig) -> None:
    await broken(rig)
    rows = len(rig.journal.finals)
    client = await rig.chat()
    assert (client.status, client.error["code"]) == (503, "circuit_open")
    assert rig.upstreams.sent == []
    assert outcomes(client) == [("lab", "skipped_circuit_open")]
    assert 0 < int(client.headers["retry-after"]) <= REST + 1
    assert len(rig.journal.finals) <= rows + 1
    assert sum(final.record.charge for final in rig.journal.finals) == 0


@on_loop
async def test_retry_after_is_true(rig: Rig) -> None:
    await broken(rig)
    rig.clock.advance(17.3)
    wait = int((await rig.chat()).headers["retry-after"])
    rig.upstreams.script = lambda request: chat()
    rig.clock.advance(wait)
    assert (await rig.chat()).status == 200


@on_loop
async def test_the_next_target_serves_while_one_rests(rig: Rig) -> None:
    rig.serve(route(target("one"), target(provider("two", retry=ONCE))))
    rig.upstreams.by_provider(one=failure)
    for _ in range(OPEN_AFTER + 1):
        client = await rig.chat()
        assert client.status == 200
    assert rig.upstreams.asked.count("one") == OPEN_AFTER
    rig.upstreams.by_provider(one=failure, two=failure)
    refused = await rig.chat()
    assert outcomes(refused) == [("one", "skipped_circuit_open"), ("two", "upstream_unavailable")]


@on_loop
async def test_after_its_rest_one_probe_goes_and_the_rest_wait(rig: Rig) -> None:
    await broken(rig)
    rig.clock.advance(REST)
    rig.upstreams.script = lambda request: chat()
    clients = await asyncio.gather(*(rig.chat() for _ in range(5)))
    assert sorted(client.status for client in clients) == [200, 503, 503, 503, 503]
    assert len(rig.upstreams.sent) == 1
    clients = await asyncio.gather(*(rig.chat() for _ in range(5)))
    assert {client.status for client in clients} == {200}


@on_loop
async def test_a_failed_probe_means_another_rest(rig: Rig) -> None:
    await broken(rig)
    rig.clock.advance(REST)
    await rig.chat()
    rig.clock.advance(REST - 1)
    assert (await rig.chat()).error["code"] == "circuit_open"
    assert len(rig.upstreams.sent) == 1


@on_loop
async def test_a_probe_whose_client_left_is_none(rig: Rig) -> None:
    await broken(rig)
    rig.clock.advance(REST)
    rig.upstreams.script = lambda request: Reply([FOREVER])
    client = rig.client(b'{"model": "m", "messages": [{"role": "user", "content": "x"}]}')
    asked = asyncio.create_task(rig.run(client))
    await eventually(lambda: rig.upstreams.replies)
    client.gone.set()
    await asked
    assert len(rig.upstreams.sent) == 1
    rig.upstreams.script = lambda request: chat()
    assert (await rig.chat()).status == 200


@on_loop
async def test_refusals_open_no_breaker(rig: Rig) -> None:
    rig.upstreams.script = lambda request: whole({"error": {"message": "no"}}, 400)
    for _ in range(OPEN_AFTER * 2):
        assert (await rig.chat()).status == 400


@on_loop
async def test_scripted_failures_rest_only_the_tenants_own_target(rig: Rig) -> None:
    one, two = (rig.callers.add(mode=Mode.TEST, tenant=tenant) for tenant in (1, 2))
    await broken(rig, one)
    rig.upstreams.script = lambda request: chat()
    assert (await rig.chat(key=one)).status == 503
    assert (await rig.chat(key=two)).status == 200
    assert (await rig.chat()).status == 200


@pytest.mark.parametrize("ask", [{}, {"stream": True}], ids=["whole", "stream"])
@on_loop
async def test_too_late_a_first_byte_is_a_time_out(rig: Rig, ask: dict[str, Any]) -> None:
    rig.serve(route(target("slow"), target("fast")))
    rig.upstreams.by_provider(
        slow=lambda: TransportFault(Verdict.TIMEOUT, "slow"), fast=stream if ask else chat
    )
    client = await rig.chat(**ask)
    assert client.status == 200
    assert [a.verdict for a in rig.final.attempts] == ["timeout", "ok"]


@on_loop
async def test_a_stream_without_a_first_event_in_time_falls_over(rig: Rig) -> None:
    slow = provider("slow", timeouts=Timeouts(first_byte=0.02))
    rig.serve(route(target(slow), target("fast")))
    rig.upstreams.by_provider(slow=lambda: stream(b": wait\n\n", FOREVER), fast=stream)
    client = await rig.chat(stream=True)
    assert client.text == "hello back"
    assert all(reply.closed for reply in rig.upstreams.replies)


@pytest.mark.parametrize("ask", [{}, {"stream": True}], ids=["whole", "stream"])
@on_loop
async def test_the_deadline_ends_the_call_and_asks_nobody_else(
    rig: Rig, ask: dict[str, Any]
) -> None:
    rig.serve(route(target("one"), target("two")))
    kind = {"content-type": "text/event-stream"} if ask else {"content-type": "application/json"}
    rig.upstreams.script = lambda request: Reply([FOREVER], 200, kind)
    started = time.monotonic()
    client = await rig.chat(headers={"X-Patchbay-Deadline-Ms": "30"}, **ask)
    assert time.monotonic() - started < 5
    assert (client.status, client.error["code"]) == (504, "deadline_exceeded")
    assert outcomes(client) == [("one", "deadline")]
    assert rig.upstreams.replies[0].closed
    assert rig.final.record.code == "deadline_exceeded"


@on_loop
async def test_a_body_that_stops_coming_runs_into_the_deadline(rig: Rig) -> None:
    rig.upstreams.script = lambda request: Reply([b'{"id"', FOREVER])
    client = await rig.chat(headers={"X-Patchbay-Deadline-Ms": "30"})
    assert client.error["code"] == "deadline_exceeded"


@on_loop
async def test_deadlines_count_against_no_breaker(rig: Rig) -> None:
    rig.upstreams.script = lambda request: Reply([FOREVER])
    for _ in range(OPEN_AFTER + 1):
        await rig.chat(headers={"X-Patchbay-Deadline-Ms": "5"})
    rig.upstreams.script = lambda request: chat()
    assert (await rig.chat()).status == 200


@pytest.mark.parametrize("asked", ["0", "-5", "soon", "3600001", "", "1.5", "\xb2"])
@on_loop
async def test_deadlines_that_are_none(rig: Rig, asked: str) -> None:
    client = await rig.chat(headers={"X-Patchbay-Deadline-Ms": asked})
    assert (client.status, client.error["code"]) == (400, "invalid_request")
    assert rig.upstreams.sent == []


@on_loop
async def test_whoever_leaves_while_a_provider_thinks_sets_it_free(rig: Rig) -> None:
    rig.upstreams.script = lambda request: Reply([FOREVER])
    client = rig.client(b'{"model": "m", "messages": [{"role": "user", "content": "x"}]}')
    asked = asyncio.create_task(rig.run(client))
    await eventually(lambda: rig.upstreams.replies)
    client.gone.set()
    await asked
    assert client.messages == []
    assert rig.upstreams.replies[0].closed
    final = rig.final
    assert (final.record.status, final.record.code) == (499, "hung_up")
    assert [attempt.verdict for attempt in final.attempts] == ["hung_up"]


@on_loop
async def test_a_whole_answer_to_a_stream_request_is_told_as_a_stream(rig: Rig) -> None:
    rig.upstreams.script = lambda request: chat("all at once")
    client = await rig.chat(stream=True, stream_options={"include_usage": True})
    assert client.headers["content-type"].startswith("text/event-stream")
    assert client.text == "all at once"
    assert client.body.endswith(DONE)
    assert b'"prompt_tokens":7' in client.body
    record = rig.final.record
    assert (record.input_tokens, record.output_tokens, record.estimate) == (7, 3, "")


@on_loop
async def test_a_prompt_that_was_blocked_is_an_answer(rig: Rig) -> None:
    rig.serve(route(target(provider("gem", "gemini"))))
    blocked = {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 4},
    }
    for ask in ({}, {"stream": True}):
        rig.upstreams.script = lambda request: whole(blocked)
        client = await rig.chat(**ask)
        assert client.status == 200
        assert b'"content_filter"' in client.body


@on_loop
async def test_an_event_stream_that_is_no_success_is_judged_as_a_failure(rig: Rig) -> None:
    rig.upstreams.script = lambda request: Reply(
        [event("x")], 500, {"content-type": "text/event-stream"}
    )
    assert (await rig.chat(stream=True)).status == 503


@on_loop
async def test_the_order_of_unusual_content_types(rig: Rig) -> None:
    shouted = {"content-type": "Text/Event-Stream;charset=UTF-8"}
    rig.upstreams.script = lambda request: Reply(WHOLE_STREAM, 200, shouted)
    assert (await rig.chat(stream=True)).text == "hello back"


@on_loop
async def test_embeddings_take_the_same_way(rig: Rig) -> None:
    rig.serve(route(target("lab", operation="embeddings"), name="m"))
    vectors = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}],
        "model": "gpt-x",
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }
    rig.upstreams.script = lambda request: whole(vectors)
    body = {"model": "m", "input": "hello", "encoding_format": "float"}
    client = await rig.ask("/api/v1/embeddings", body=body)
    assert client.json["data"][0]["embedding"] == [0.5, 0.25]
    assert rig.final.record.input_tokens == 2
