"""A route's checks: a failed one never reaches the client, falls over, and is paid by nobody's
tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from billing.book import PriceBook, PriceVersion
from providers.answer_checks import parse
from providers.call import Verdict
from providers.prices import Prices
from providers.transport import TransportFault
from tenants.keys import Mode
from tests.gateway.unit.rig import (
    COUNT,
    DONE,
    FOREVER,
    Reply,
    Rig,
    chat,
    data_target,
    event,
    failure,
    nothing_runs,
    route,
    stream,
    target,
    whole,
)
from tests.loops import eventually, on_loop

SECRET = "the forbidden word"
NOT_SAID = {"forbidden": ["forbidden"], "not_empty": True}
FX = "finance.fx_rate"
RATE = "/api/v1/finance/fx_rate?base=EUR&quote=USD"


def checked(rig: Rig, *slugs: str, **checks: Any) -> None:
    rig.serve(route(*(target(slug) for slug in slugs), checks=parse(checks or NOT_SAID)))


def said(**message: Any) -> Reply:
    finish = message.pop("finish_reason", "stop")
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return whole({"id": "1", "object": "chat.completion", "choices": [choice], "usage": COUNT})


def streamed(*texts: str) -> Reply:
    return stream(*map(event, texts), event(), event(usage=COUNT), DONE)


def verdicts(rig: Rig) -> list[str]:
    return [attempt.verdict for attempt in rig.final.attempts]


def attempts_told(attempts: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(attempt["provider"], attempt["outcome"]) for attempt in attempts]


@on_loop
async def test_the_next_target_takes_over(rig: Rig) -> None:
    checked(rig, "one", "two")
    rig.upstreams.by_provider(one=lambda: chat(SECRET))
    client = await rig.chat()
    assert (client.status, client.headers["x-patchbay-provider"]) == (200, "two")
    assert SECRET.encode() not in client.body
    assert verdicts(rig) == ["invalid_answer", "ok"]
    assert all(reply.closed for reply in rig.upstreams.replies)


@on_loop
async def test_when_none_is_left_the_caller_learns_what_failed_and_not_the_answer(rig: Rig) -> None:
    checked(rig, "one", "two")
    rig.upstreams.script = lambda request: chat(SECRET)
    client = await rig.chat()
    assert (client.status, client.error["code"]) == (502, "upstream_rejected")
    assert "pattern 1 of `forbidden`" in client.error["message"]
    assert attempts_told(client.error["attempts"]) == [
        ("one", "invalid_answer"),
        ("two", "invalid_answer"),
    ]
    assert SECRET.encode() not in client.body


@on_loop
async def test_when_the_last_one_failed_otherwise_the_call_may_be_tried_again(rig: Rig) -> None:
    checked(rig, "one", "two")
    rig.upstreams.by_provider(one=lambda: chat(SECRET), two=failure)
    client = await rig.chat()
    assert (client.status, client.error["code"]) == (503, "provider_unavailable")


@on_loop
async def test_the_provider_is_paid_and_no_tenant_pays(rig: Rig) -> None:
    one, two = target("one"), target("two")
    spec = route(one, two, checks=parse(NOT_SAID))
    rig.serve(spec, prices={"one/gpt-x": Prices(1_000_000, 2_000_000)})
    rig.upstreams.by_provider(one=lambda: chat(SECRET))
    assert (await rig.chat()).status == 200
    lost, served = rig.final.attempts
    assert (lost.tokens, lost.units, lost.cost) == (10, 1, 13)
    record = rig.final.record
    assert (record.provider, record.input_tokens, record.output_tokens) == ("two", 7, 3)
    assert (record.cost, served.cost) == (13, 13)


@pytest.mark.parametrize("as_stream", [False, True])
@on_loop
async def test_what_fails_everywhere_costs_the_tenant_nothing(rig: Rig, as_stream: bool) -> None:
    checked(rig, "one")
    rig.upstreams.script = lambda request: streamed(SECRET) if as_stream else chat(SECRET)
    client = await rig.chat(stream=as_stream)
    assert client.status == 502
    record, (lost,) = rig.final.record, rig.final.attempts
    assert (record.charge, record.cost, record.input_tokens) == (0, 0, 0)
    assert (lost.verdict, lost.tokens, lost.cost) == ("invalid_answer", 10, 13)


@on_loop
async def test_usage_that_was_not_told_is_estimated_from_the_text(rig: Rig) -> None:
    checked(rig, "one", "two")
    rig.upstreams.by_provider(one=lambda: chat(SECRET * 10, usage={}))
    await rig.chat()
    lost, _ = rig.final.attempts
    assert lost.tokens > len(SECRET * 10) // 4 and lost.cost > 0


@on_loop
async def test_test_mode_is_free(rig: Rig) -> None:
    checked(rig, "one", "two")
    rig.upstreams.by_provider(one=lambda: chat(SECRET))
    client = await rig.chat(key=rig.callers.add(mode=Mode.TEST))
    assert client.status == 200
    assert [attempt.cost for attempt in rig.final.attempts] == [0, 0]


@on_loop
async def test_failed_checks_open_the_breaker(rig: Rig) -> None:
    checked(rig, "one", "two")
    rig.upstreams.by_provider(one=lambda: chat(SECRET))
    for _ in range(7):
        assert (await rig.chat()).status == 200
    assert rig.upstreams.asked.count("one") == 5
    assert rig.gateway.scores.of("one/gpt-x").reliability(rig.clock.monotonic()) < 0.5


@on_loop
async def test_a_route_without_checks_lets_all_through(rig: Rig) -> None:
    rig.upstreams.script = lambda request: chat("")
    assert (await rig.chat()).status == 200


PASSES: dict[str, Callable[[], Reply]] = {
    "a call of a tool": lambda: said(
        content=None,
        tool_calls=[{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        finish_reason="tool_calls",
    ),
    "a refusal": lambda: said(content=None, refusal="I would rather not."),
    "a filtered answer": lambda: said(content="", finish_reason="content_filter"),
    "JSON as it was asked for": lambda: said(content='{"a": 1}'),
}
FAILS: dict[str, Callable[[], Reply]] = {
    "nothing": lambda: said(content=""),
    "no content at all": said,
    "white space": lambda: said(content=" \n"),
    "no JSON": lambda: said(content="hello"),
    "half of an answer that was filtered": lambda: said(
        content='{"a": ', finish_reason="content_filter"
    ),
    "something forbidden beside a call": lambda: said(
        content=SECRET, tool_calls=[{"id": "1", "function": {"name": "f", "arguments": "{}"}}]
    ),
    "something forbidden in a refusal": lambda: said(content=None, refusal=SECRET),
    "a second choice": lambda: whole(
        {
            "choices": [
                {"message": {"content": text}, "finish_reason": "stop"} for text in ('{"a": 1}', "")
            ]
        }
    ),
}
ALL = {**NOT_SAID, "schema": {"required": ["a"]}}


@pytest.mark.parametrize("answer", PASSES.values(), ids=PASSES.keys())
@on_loop
async def test_what_passes(rig: Rig, answer: Callable[[], Reply]) -> None:
    checked(rig, "one", **ALL)
    rig.upstreams.script = lambda request: answer()
    assert (await rig.chat()).status == 200


@pytest.mark.parametrize("answer", FAILS.values(), ids=FAILS.keys())
@on_loop
async def test_what_fails(rig: Rig, answer: Callable[[], Reply]) -> None:
    checked(rig, "one", "two", **ALL)
    rig.upstreams.by_provider(one=answer, two=PASSES["JSON as it was asked for"])
    client = await rig.chat()
    assert (client.status, verdicts(rig)) == (200, ["invalid_answer", "ok"])


@on_loop
async def test_a_stream_is_told_in_one_go_once_it_passed(rig: Rig) -> None:
    checked(rig, "one")
    rig.upstreams.script = lambda request: streamed("hello ", "back")
    client = await rig.chat(stream=True, stream_options={"include_usage": True})
    assert (client.text, client.body.endswith(DONE)) == ("hello back", True)
    assert b'"prompt_tokens":7' in client.body.replace(b" ", b"")
    record = rig.final.record
    assert (record.streamed, record.output_tokens, record.charge) == (True, 3, 13)
    assert len(rig.journal.opened) == 1


STREAMS: dict[str, Callable[[], Reply]] = {
    "forbidden over two chunks": lambda: streamed("the forb", "idden word"),
    "empty": streamed,
    "cut": lambda: stream(event("hello ")),
    "broken off": lambda: stream(event("hello "), TransportFault(Verdict.UNREACHABLE, "cut")),
    "an error event midway": lambda: stream(
        event("hello "), b'data: {"error": {"message": "overloaded"}}\n\n'
    ),
}


@pytest.mark.parametrize("answer", STREAMS.values(), ids=STREAMS.keys())
@on_loop
async def test_a_stream_that_fails_has_sent_nothing_and_falls_over(
    rig: Rig, answer: Callable[[], Reply]
) -> None:
    checked(rig, "one", "two")
    rig.upstreams.by_provider(one=answer, two=lambda: streamed("fine"))
    client = await rig.chat(stream=True)
    assert (client.status, client.text) == (200, "fine")
    assert rig.final.record.attempts == 2
    assert all(reply.closed for reply in rig.upstreams.replies)


@on_loop
async def test_a_stream_that_was_answered_whole_is_checked_too(rig: Rig) -> None:
    checked(rig, "one", "two")
    rig.upstreams.by_provider(one=lambda: chat(SECRET), two=lambda: chat("fine"))
    client = await rig.chat(stream=True)
    assert client.text == "fine"


@on_loop
async def test_a_client_that_leaves_while_a_stream_is_held_back(rig: Rig) -> None:
    checked(rig, "one")
    rig.upstreams.script = lambda request: stream(event("hello "), FOREVER)
    client = rig.client(
        b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": true}'
    )
    running = asyncio.create_task(rig.run(client))
    await eventually(lambda: bool(rig.upstreams.replies))
    client.gone.set()
    await asyncio.wait_for(running, 5)
    assert client.messages == []
    assert (rig.final.record.code, rig.final.record.charge) == ("hung_up", 0)
    assert rig.upstreams.replies[0].closed and await nothing_runs()


@on_loop
async def test_the_deadline_ends_a_stream_that_is_held_back(rig: Rig) -> None:
    checked(rig, "one")
    rig.upstreams.script = lambda request: stream(event("hello "), FOREVER)
    client = await rig.chat(stream=True, headers={"x-patchbay-deadline-ms": "60"})
    assert (client.status, client.error["code"]) == (504, "deadline_exceeded")
    assert rig.upstreams.replies[0].closed


@on_loop
async def test_no_stream_fills_the_memory(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.checks.MOST_HELD", 10_000)
    checked(rig, "one", "two")
    rig.upstreams.by_provider(one=lambda: streamed(*["hello "] * 100), two=lambda: streamed("fine"))
    client = await rig.chat(stream=True)
    assert (client.text, verdicts(rig)) == ("fine", ["bad_payload", "ok"])


@on_loop
async def test_checks_of_data(rig: Rig) -> None:
    targets = data_target("frankfurter"), data_target("open-er-api")
    checks = parse({"schema": {"required": ["as_of"]}, "forbidden": ['"rate":"0"']})
    rig.serve(route(*targets, name=FX, operation=FX, checks=checks))
    price = PriceVersion(1, Prices(call=500))
    rig.gateway.live.prices = PriceBook([(("frankfurter", "", ""), price)])
    nothing = {"base": "EUR", "date": "2026-11-20", "rates": {"USD": 0}}
    table = {
        "result": "success",
        "base_code": "EUR",
        "time_last_update_unix": 1_795_132_800,
        "rates": {"USD": 1.1},
    }
    rig.upstreams.by_provider(
        **{"frankfurter": lambda: whole(nothing), "open-er-api": lambda: whole(table)}
    )
    client = await rig.ask(RATE)
    assert (client.status, client.json["data"]["rate"]) == (200, "1.1")
    assert attempts_told(client.json["meta"]["attempts"]) == [
        ("frankfurter", "invalid_answer"),
        ("open-er-api", "ok"),
    ]
    lost, _ = rig.final.attempts
    assert (lost.units, lost.cost, rig.final.record.charge) == (1, 500, 0)
