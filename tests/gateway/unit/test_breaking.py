"""Breakers before real calls: what counts against a provider, and what gives a probe back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from providers.breaker import State
from providers.breaker_policy import parse
from providers.breakers import Permits
from providers.call import Verdict
from providers.transport import TransportFault
from tests.gateway.unit.rig import (
    FOREVER,
    ONCE,
    Part,
    Rig,
    chat,
    event,
    failure,
    provider,
    route,
    stream,
    target,
)
from tests.loops import eventually, on_loop


def row(rig: Rig, name: str = "lab/gpt-x") -> int:
    return rig.gateway.dispatcher.breakers.of(name).failures_in_a_row


CUTS: dict[str, list[Part]] = {
    "reset": [event("hel"), TransportFault(Verdict.UNREACHABLE, "reset")],
    "silence": [event("hel"), TransportFault(Verdict.TIMEOUT, "idle")],
    "just ended": [event("hel")],
    "no event": [event("hel"), b"data: {{{\n\n"],
}


@pytest.mark.parametrize("parts", CUTS.values(), ids=CUTS)
@on_loop
async def test_a_stream_that_is_cut_counts_once_as_a_failure(rig: Rig, parts: list[Part]) -> None:
    for number in range(1, 4):
        rig.upstreams.script = lambda request: stream(*parts)
        await rig.chat(stream=True)
        assert row(rig) == row(rig, "lab") == number
    rig.upstreams.script = lambda request: stream()
    await rig.chat(stream=True)
    assert row(rig) == row(rig, "lab") == 0


@on_loop
async def test_streams_that_always_break_rest_their_target(rig: Rig) -> None:
    rig.upstreams.script = lambda request: stream(event("hel"))
    for _ in range(5):
        await rig.chat(stream=True)
    assert (await rig.chat(stream=True)).error["code"] == "circuit_open"


@on_loop
async def test_a_deadline_or_a_client_that_leaves_within_a_stream_is_no_failure(rig: Rig) -> None:
    rig.upstreams.script = lambda request: stream(event("hel"), FOREVER)
    client = await rig.chat(stream=True, headers={"X-Patchbay-Deadline-Ms": "30"})
    assert client.status == 200 and row(rig) == 0
    client = rig.client(b'{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}')
    asked = asyncio.create_task(rig.run(client))
    await eventually(lambda: len(client.messages) > 1)
    client.gone.set()
    await asked
    assert row(rig) == 0
    assert rig.gateway.dispatcher.breakers.of("lab").buffered.calls == 2


@on_loop
async def test_a_probe_that_streams_lets_others_in_at_its_first_event(rig: Rig) -> None:
    rig.upstreams.script = lambda request: failure()
    for _ in range(5):
        await rig.chat()
    rig.clock.advance(60)
    rig.upstreams.script = lambda request: stream(event("hel"), FOREVER)
    client = rig.client(b'{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}')
    asked = asyncio.create_task(rig.run(client))
    await eventually(lambda: len(client.messages) > 1)
    rig.upstreams.script = lambda request: chat()
    assert (await rig.chat()).status == 200
    client.gone.set()
    await asked


@on_loop
async def test_a_provider_goes_by_its_own_policy(rig: Rig) -> None:
    policies = parse({"preset": "development", "provider": {"consecutive_failures": 4}})
    lab = provider("lab", breaker=policies)
    rig.serve(route(target(lab)), route(target(lab, "other"), name="n"))
    rig.upstreams.script = lambda request: failure()
    for _ in range(3):
        assert (await rig.chat()).error["code"] != "circuit_open"
    assert (await rig.chat()).error["code"] == "circuit_open"
    assert (await rig.chat(model="n")).error["code"] != "circuit_open"
    refused = await rig.chat(model="n")  # the provider's fourth failure was its other target's
    assert refused.error["code"] == "circuit_open"
    assert 0 < int(refused.headers["retry-after"]) <= 31
    rig.clock.advance(30)
    rig.upstreams.script = lambda request: chat()
    assert (await rig.chat(model="n")).status == 200
    states = rig.gateway.dispatcher.breakers.states()
    assert (states["lab"], states["lab/other"]) == (State.CLOSED, State.CLOSED)


@on_loop
async def test_slow_calls_rest_their_target_too(rig: Rig) -> None:
    slow = {"slow_call_seconds": 2, "minimum_calls": 3, "window": {"type": "count", "calls": 3}}
    rig.serve(route(target(provider("lab", breaker=parse(slow)))))

    def sluggish(request: Any) -> Any:
        rig.clock.advance(3)
        return chat()

    rig.upstreams.script = sluggish
    for _ in range(3):
        assert (await rig.chat()).status == 200
    assert (await rig.chat()).error["code"] == "circuit_open"


@on_loop
async def test_whatever_ends_a_call_early_gives_its_probe_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Permits] = []
    admit = rig.gateway.dispatcher.breakers.admit

    async def noted(*args: Any, **kwargs: Any) -> Permits | None:
        permits = await admit(*args, **kwargs)
        given.extend([permits] if permits else [])
        return permits

    monkeypatch.setattr(rig.gateway.dispatcher.breakers, "admit", noted)
    rig.serve(route(target(provider("lab", retry=ONCE))))
    ways: list[Any] = [
        chat,
        failure,
        lambda: failure(400),
        lambda: failure(429),
        stream,
        lambda: stream(event("x")),
        lambda: RuntimeError("a bug"),
    ]
    for way in ways:
        rig.upstreams.script = lambda request, way=way: way()
        for streams in (False, True):
            await rig.chat(stream=streams)
            rig.clock.advance(1)  # a credential that was limited rests so long
    assert len(given) == 2 * len(ways)
    assert all(permit.over for permits in given for permit in permits._each)


@on_loop
async def test_a_new_policy_is_in_force_with_its_snapshot(rig: Rig) -> None:
    lab = provider("lab")
    rig.upstreams.script = lambda request: failure()
    await rig.chat()
    rig.serve(route(target(replace(lab, breaker=parse({"consecutive_failures": 1})))))
    await rig.chat()
    assert (await rig.chat()).error["code"] == "circuit_open"
