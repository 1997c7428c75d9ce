"""A client may leave at any instant. Whenever it does: one final row or, where nobody was asked,
none; the provider is let go; and nothing is left running."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.hangup import CancelWhenClientLeaves
from providers.call import Verdict
from providers.transport import TransportFault
from tests.gateway.unit.rig import (
    HELLO,
    Client,
    Reply,
    Rig,
    chat,
    failure,
    nothing_runs,
    route,
    stream,
    target,
)
from tests.loops import eventually, on_loop
from usage.reservation import HungUp

STEPS = range(61)
ASK: dict[str, Any] = {"model": "m", "messages": HELLO}


@pytest.fixture(autouse=True)
def watched_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that every turn of the loop is one at which a client's leaving is noticed."""
    monkeypatch.setattr("gateway.hangup.UNWATCHED.seconds", 0)


def cut() -> Exception:
    return TransportFault(Verdict.UNREACHABLE, "the answer was cut off")


SHAPES: dict[str, tuple[dict[str, Any], Callable[[], Reply | Exception], int]] = {
    # the request, what the second target answers (the first fails), turns that a commit takes
    "whole": (ASK, chat, 0),
    "whole, slow ledger": (ASK, chat, 5),
    "stream": ({**ASK, "stream": True}, stream, 0),
    "stream, slow ledger": ({**ASK, "stream": True}, stream, 5),
    "cut stream": ({**ASK, "stream": True}, lambda: stream(stream().parts[0], cut()), 3),
    "nobody answers": (ASK, failure, 2),
}


async def leave_after(steps: int, client: Client) -> None:
    for _ in range(steps):
        await asyncio.sleep(0)
    client.gone.set()


def check(rig: Rig, client: Client) -> None:
    finals = rig.journal.finals
    assert len(finals) == bool(rig.upstreams.sent)
    assert all(reply.closed for reply in rig.upstreams.replies)
    if client.ended:
        assert client.rows_at_the_end == 1
    if not finals:
        assert rig.journal.opened == []
        return
    (final,) = finals
    record = final.record
    assert final.was_open == bool(rig.journal.opened)
    assert record.attempts == len(rig.upstreams.sent)
    if client.messages:
        assert client.status in {200, record.status}
    if record.status == 499:
        assert record.code == "hung_up"
        assert not client.ended
        # The worst case was only put down in case this process died.
        assert record.output_tokens < 50
        assert record.estimate == ("hung_up" if rig.journal.opened else "")
        assert record.provider == ("two" if rig.journal.opened else "")
    if record.code == "ok":
        assert (record.input_tokens, record.output_tokens, record.estimate) == (7, 3, "")


@pytest.mark.parametrize(("ask", "answer", "turns"), SHAPES.values(), ids=SHAPES.keys())
@on_loop
@pytest.mark.unmeasured
async def test_leaving_at_every_step(
    make_rig: Callable[..., Rig], ask: dict[str, Any], answer: Any, turns: int
) -> None:
    ends = set()
    for steps in STEPS:
        rig = make_rig()
        await rig.chat()  # the key is known from now on, so that each run takes the same steps
        rig.journal.entries.clear()
        rig.upstreams.sent.clear()
        rig.serve(route(target("one"), target("two")))
        rig.upstreams.by_provider(one=failure, two=answer)
        rig.journal.turns = turns
        client = rig.client(json.dumps(ask).encode())
        leaving = asyncio.create_task(leave_after(steps, client))
        await rig.run(client)
        await leaving
        await rig.settled()
        check(rig, client)
        assert await nothing_runs()
        ends.add(rig.journal.finals[0].record.code if rig.journal.finals else "nothing")
    assert {"hung_up"} < ends, "the steps reach from the beginning to beyond the end"


@on_loop
async def test_leaving_while_the_key_is_looked_up(rig: Rig) -> None:
    client = rig.client(json.dumps(ASK).encode())
    client.gone.set()
    await rig.run(client)
    assert client.messages == []
    assert rig.journal.entries == []


@on_loop
async def test_what_was_sent_is_billed_and_the_worst_case_is_not(rig: Rig) -> None:
    rig.upstreams.script = lambda request: stream(*stream().parts[:1], *[b": wait\n\n"] * 500)
    client = rig.client(json.dumps({**ASK, "stream": True}).encode())
    asked = asyncio.create_task(rig.run(client))
    await eventually(lambda: len(client.messages) > 1)
    client.gone.set()
    await asked
    record = rig.final.record
    assert (record.status, record.code, record.estimate) == (499, "hung_up", "hung_up")
    assert 0 < record.output_tokens < 10


@on_loop
async def test_an_empty_rest_of_the_body_is_no_hang_up(rig: Rig) -> None:
    client = rig.client(json.dumps(ASK).encode())
    normal, rest = client.receive, [{"type": "http.request", "body": b"", "more_body": False}] * 3

    async def receive() -> dict[str, Any]:
        if client.received and rest:
            return rest.pop()
        return await normal()

    client.receive = receive  # type: ignore[method-assign]
    await rig.run(client)
    assert client.status == 200
    assert rest == []


@on_loop
async def test_the_servers_own_cancellation_is_no_hang_up(rig: Rig) -> None:
    """A server that shuts down cancels the call: that is passed on, and still accounted for."""
    rig.upstreams.script = lambda request: stream(*stream().parts[:1], *[b": wait\n\n"] * 500)
    client = rig.client(json.dumps({**ASK, "stream": True}).encode())
    asked = asyncio.create_task(rig.run(client))
    await eventually(lambda: len(client.messages) > 1)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await rig.settled()
    assert (rig.final.record.status, rig.final.record.code) == (503, "shutting_down")
    assert rig.upstreams.replies[0].closed
    assert await nothing_runs()


async def left() -> dict[str, Any]:
    return {"type": "http.disconnect"}


@on_loop
async def test_an_error_on_the_way_out_is_not_hidden_by_the_hang_up() -> None:
    with pytest.raises(ZeroDivisionError), CancelWhenClientLeaves(left):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ZeroDivisionError from None
    assert await nothing_runs()


@on_loop
async def test_after_a_hang_up_the_task_is_not_being_cancelled_any_more() -> None:
    with pytest.raises(HungUp), CancelWhenClientLeaves(left):
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


@on_loop
async def test_work_that_shields_itself_from_a_hang_up_still_ends_as_one() -> None:
    with (
        pytest.raises(HungUp),
        CancelWhenClientLeaves(left),
        contextlib.suppress(asyncio.CancelledError),
    ):
        await asyncio.Event().wait()
