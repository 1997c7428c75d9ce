"""A stream that may be kept: who waits for it has it when the provider's end has come, and the
client that asked first may take its time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from cache.compression import MOST_BYTES
from gateway import recording as recording_module
from gateway.recording import LINGER, Parts, Recording
from tests.gateway.unit.rig import (
    DONE,
    HELLO,
    WHOLE_STREAM,
    Client,
    Reply,
    Rig,
    event,
    nothing_runs,
    route,
    stream,
    target,
)
from tests.loops import eventually, on_loop
from usage.reservation import HungUp

BODY = json.dumps({"model": "m", "messages": HELLO, "stream": True, "temperature": 0}).encode()
SAID = "x-patchbay-cache"


class SlowClient(Client):
    """Takes the head and one event, and then nothing until it `reads`."""

    def __init__(self, rig: Rig) -> None:
        super().__init__([BODY], rig.journal)
        self.reads = asyncio.Event()

    async def send(self, message: dict[str, Any]) -> None:
        if len(self.messages) > 1:
            waiting = [asyncio.ensure_future(each.wait()) for each in (self.reads, self.gone)]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waiting:
                    each.cancel()
            if self.gone.is_set():
                return  # as a server does whose client has left
        await super().send(message)


async def asked(
    rig: Rig, reply: Callable[[], Reply] = stream
) -> tuple[SlowClient, asyncio.Task[Client]]:
    """A slow client's call, whose answer has begun."""
    rig.serve(route(target("lab"), cache={"ttl": 300}))
    rig.upstreams.script = lambda request: reply()
    client = SlowClient(rig)
    call = asyncio.create_task(rig.run(client))
    await eventually(lambda: len(client.messages) > 1)
    return client, call


@on_loop
async def test_a_client_that_reads_slowly_holds_nobody_up(rig: Rig) -> None:
    leader, call = await asked(rig)
    followers = [rig.chat(temperature=0, stream=each) for each in (True, False)]
    streamed, whole = await asyncio.gather(*followers)
    assert not leader.ended and not call.done()
    assert [each.headers[SAID] for each in (streamed, whole)] == ["hit", "hit"]
    assert streamed.text == "hello back"
    assert rig.journal.finals[0].record.code == "ok"  # and nobody has more than its row says
    leader.reads.set()
    await call
    assert leader.body == streamed.body
    assert len(rig.upstreams.sent) == 1 and await nothing_runs()


@on_loop
async def test_a_client_that_leaves_at_the_end_takes_nothing_from_the_others(rig: Rig) -> None:
    leader, call = await asked(rig)
    assert (await rig.chat(temperature=0)).headers[SAID] == "hit"
    leader.gone.set()
    await call
    assert len(rig.journal.finals) == 2 and await nothing_runs()


@on_loop
async def test_a_client_that_takes_nothing_is_left_in_the_end(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording_module, "LINGER", 0.0)
    rig.gateway.reading = replace(rig.gateway.reading, seconds=0.03)
    leader, call = await asked(rig)
    await call
    assert not leader.ended and await nothing_runs()
    assert (await rig.chat(temperature=0)).headers[SAID] == "hit"


@on_loop
async def test_no_more_waits_for_a_client_than_may_be_kept(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording_module, "MOST_BYTES", 1000)
    taken = 0

    class Long(Reply):
        async def chunks(self) -> AsyncIterator[bytes]:
            nonlocal taken
            for _ in range(100):
                taken += 1
                await asyncio.sleep(0)
                yield event("x" * 100)
            for each in WHOLE_STREAM[2:]:
                yield each

    leader, call = await asked(rig, lambda: Long([], 200, stream().headers))
    await nothing_runs()
    assert 2 < taken < 12 and not call.done()
    leader.reads.set()
    await call
    assert leader.text == "x" * 10_000
    rig.upstreams.script = lambda request: stream()
    assert (await rig.chat(temperature=0, stream=True)).headers[SAID] == "miss"


async def passed(*bodies: bytes) -> tuple[Recording, list[bytes]]:
    """What becomes of a stream's parts, the last of which is its end."""
    sent: list[bytes] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message["body"])
        await asyncio.sleep(0)

    recording = Recording(0.0)
    through = recording.through(send)
    for body in bodies:
        await through({"type": "http.response.body", "body": body, "more_body": True})
    await through({"type": "http.response.body", "body": b""})
    return recording, sent


@on_loop
async def test_what_is_sent_is_what_is_replayed_but_for_comments(rig: Rig) -> None:
    bodies = [b"data: 1\n\n", b"data: 2\n\ndata: [DO"]
    recording, sent = await passed(*bodies)
    assert sent == [*bodies, b""]
    assert recording.events(b"NE]\n\n") == [b"data: 1\n\n", b"data: 2\n\n", DONE]
    assert recording.events(b"data: 3\n\n") == []
    quiet, sent = await passed(b": keep-alive\n\n", b"data: 1\n\n", b": keep-alive\n\n")
    assert sent == [b": keep-alive\n\n", b"data: 1\n\n", b""]  # the second would have to wait
    assert quiet.events(DONE) == [b"data: 1\n\n", DONE]


@on_loop
async def test_more_than_is_kept_is_sent_and_forgotten(rig: Rig) -> None:
    body = b"data: " + b"x" * (MOST_BYTES // 2) + b"\n\n"
    recording, sent = await passed(body, body)
    assert sent == [body, body, b""]
    assert recording.events(DONE) == []


@on_loop
async def test_what_sending_raises_is_raised(rig: Rig) -> None:
    async def send(message: dict[str, Any]) -> None:
        raise ConnectionResetError

    through = Recording(0.0).through(send)
    await through({"type": "http.response.body", "body": b"1", "more_body": True})
    with pytest.raises(ConnectionResetError):
        await through({"type": "http.response.body", "body": b""})


@on_loop
async def test_who_lets_go_leaves_nothing_behind(rig: Rig) -> None:
    async def send(message: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    with pytest.raises(HungUp), Recording(0.0) as recording:
        through = recording.through(send)
        await through({"type": "http.response.body", "body": b"1", "more_body": True})
        await asyncio.sleep(0)
        raise HungUp
    assert await nothing_runs()


def test_parts_beyond_the_bound_leave_nothing() -> None:
    parts = Parts(3)
    parts.add(b"ab")
    parts.add(b"c")
    assert (parts.fit, parts.joined()) == (True, b"abc")
    parts.add(b"d")
    assert (parts.fit, parts.joined()) == (False, b"")
    assert LINGER > 0
