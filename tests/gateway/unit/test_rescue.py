"""Mid-stream rescue: one whole answer from several halves, nothing twice, everything on record."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rescue import RESTATED, Diverged, Seam, Text
from providers.call import Verdict
from providers.transport import TransportFault
from tests.gateway.unit.rig import (
    COUNT,
    DONE,
    FOREVER,
    HELLO,
    Client,
    Part,
    Reply,
    Rig,
    event,
    failure,
    nothing_runs,
    route,
    stream,
    target,
)
from tests.loops import eventually, on_loop

WORDS = ("All happy ", "families ", "are alike; ", "each ", "unhappy ", "family ", "is so.")
FULL = "".join(WORDS)
OTHERWISE = ("Call ", "me ", "Ishmael.")


def lost() -> Exception:
    return TransportFault(Verdict.UNREACHABLE, "the answer was cut off")


def stalled() -> Exception:
    return TransportFault(Verdict.TIMEOUT, "the answer stalled")


def told(pieces: Sequence[str]) -> list[Part]:
    return [event(piece) for piece in pieces]


def whole_of(pieces: Sequence[str]) -> list[Part]:
    return [*told(pieces), event(), event(usage=COUNT), DONE]


ENDS: dict[str, list[Part]] = {
    "reset": [lost()],
    "stall": [stalled()],
    "clean": [],
    "half an event": [event("never whole")[:30], lost()],
    "error event": [b'data: {"error": {"message": "overloaded"}}\n\n'],
    "garbage": [b"data: {{{\n\n"],
}


def serve(rig: Rig, mode: str, *slugs: str, **fields: Any) -> None:
    rig.serve(route(*(target(slug) for slug in slugs or ("one", "two")), rescue=mode, **fields))


def asked_of(rig: Rig, slug: str) -> dict[str, Any]:
    (request,) = (r for r in rig.upstreams.sent if r.url.startswith(f"https://{slug}."))
    document: dict[str, Any] = json.loads(request.body or b"")
    return document


def verdicts(rig: Rig) -> list[tuple[str, str]]:
    return [(a.provider, a.verdict) for a in rig.final.attempts]


def ends_badly(client: Client) -> bool:
    return b'"error"' in client.body and not client.body.endswith(DONE)


@pytest.mark.parametrize("after", range(1, len(WORDS) + 1))
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("by", ["words", "letters", "at once"])
@on_loop
async def test_restart_makes_one_whole_answer_at_every_cut(
    rig: Rig, end: list[Part], after: int, by: str
) -> None:
    pieces = {"words": WORDS, "letters": FULL, "at once": (FULL,)}[by]
    serve(rig, "restart")
    rig.upstreams.by_provider(
        one=lambda: stream(*told(WORDS[:after]), *end), two=lambda: stream(*whole_of(pieces))
    )
    client = await rig.chat(stream=True)
    assert client.text == FULL
    assert client.body.endswith(DONE) and client.body.count(DONE) == 1
    assert client.body.count(b'"finish_reason":"stop"') == 1
    assert asked_of(rig, "one")["messages"] == asked_of(rig, "two")["messages"] == HELLO
    (_, broke), (_, ended) = verdicts(rig)
    assert broke != "ok" and ended == "ok"
    assert all(reply.closed for reply in rig.upstreams.replies)


@pytest.mark.parametrize("after", range(1, len(WORDS)))
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@on_loop
async def test_continue_hands_over_what_was_said_at_every_cut(
    rig: Rig, end: list[Part], after: int
) -> None:
    serve(rig, "continue")
    rig.upstreams.by_provider(
        one=lambda: stream(*told(WORDS[:after]), *end),
        two=lambda: stream(*whole_of(WORDS[after:])),
    )
    client = await rig.chat(stream=True)
    assert client.text == FULL
    assert client.body.endswith(DONE)
    said = {"role": "assistant", "content": "".join(WORDS[:after])}
    assert asked_of(rig, "two")["messages"] == [*HELLO, said]
    assert asked_of(rig, "one")["messages"] == HELLO


@on_loop
async def test_who_repeats_what_it_should_continue_is_not_heard_twice(rig: Rig) -> None:
    serve(rig, "continue")
    rig.upstreams.by_provider(
        one=lambda: stream(*told(WORDS[:3]), lost()), two=lambda: stream(*whole_of(FULL))
    )
    assert (await rig.chat(stream=True)).text == FULL


@on_loop
async def test_the_use_of_both_is_on_record_and_the_caller_pays_for_one_answer(rig: Rig) -> None:
    serve(rig, "restart")
    rig.upstreams.by_provider(
        one=lambda: stream(*told(WORDS[:3]), lost()), two=lambda: stream(*whole_of(WORDS))
    )
    await rig.chat(stream=True)
    record, (broken, answered) = rig.final.record, rig.final.attempts
    assert (record.provider, record.code, record.estimate) == ("two", "ok", "")
    assert (record.input_tokens, record.output_tokens, record.attempts) == (7, 3, 2)
    assert record.charge == record.cost == answered.cost == 13
    assert answered.tokens == 10
    said = -(-len("".join(WORDS[:3])) // 4)
    assert (broken.verdict, broken.units) == ("unreachable", 1)
    assert broken.tokens > said and broken.cost > 2 * said
    assert len(rig.journal.finals) == 1


@on_loop
async def test_an_answer_that_begins_otherwise_is_not_glued_on(rig: Rig) -> None:
    serve(rig, "restart")
    rig.upstreams.by_provider(
        one=lambda: stream(*told(WORDS[:3]), lost()), two=lambda: stream(*whole_of(OTHERWISE))
    )
    client = await rig.chat(stream=True)
    assert client.text == "".join(WORDS[:3])
    assert ends_badly(client)
    assert verdicts(rig) == [("one", "unreachable"), ("two", "diverged")]
    assert (rig.final.record.provider, rig.final.record.code) == ("one", "stream_cut")
    assert rig.final.attempts[1].tokens > 0
    assert all(reply.closed for reply in rig.upstreams.replies)


@on_loop
async def test_one_that_ends_sooner_is_none_either(rig: Rig) -> None:
    serve(rig, "restart")
    rig.upstreams.by_provider(
        one=lambda: stream(*told(WORDS[:3]), lost()), two=lambda: stream(*whole_of(WORDS[:2]))
    )
    client = await rig.chat(stream=True)
    assert client.text == "".join(WORDS[:3]) and ends_badly(client)


@pytest.mark.parametrize("mode", ["restart", "continue"])
@on_loop
async def test_third_and_fourth_carry_on_what_breaks_again(rig: Rig, mode: str) -> None:
    serve(rig, mode, "one", "two", "three", "four")
    goes_on = mode == "continue"
    rig.upstreams.by_provider(
        one=lambda: stream(*told(WORDS[:2]), lost()),
        two=failure,
        three=lambda: stream(*told(WORDS[2:4] if goes_on else WORDS[:4]), lost()),
        four=lambda: stream(*whole_of(WORDS[4:] if goes_on else WORDS)),
    )
    client = await rig.chat(stream=True)
    assert client.text == FULL
    assert [provider for provider, _ in verdicts(rig)] == ["one", "two", "three", "four"]
    assert rig.final.record.provider == "four"
    assert sum(a.cost > 0 for a in rig.final.attempts) == 3


@on_loop
async def test_the_next_is_asked_where_one_diverges(rig: Rig) -> None:
    serve(rig, "restart", "one", "two", "three")
    rig.upstreams.by_provider(
        one=lambda: stream(*told(WORDS[:2]), lost()),
        two=lambda: stream(*whole_of(OTHERWISE)),
        three=lambda: stream(*whole_of(WORDS)),
    )
    assert (await rig.chat(stream=True)).text == FULL
    assert [verdict for _, verdict in verdicts(rig)] == ["unreachable", "diverged", "ok"]


@on_loop
async def test_without_opting_in_nobody_is_asked(rig: Rig) -> None:
    serve(rig, "none")
    rig.upstreams.by_provider(one=lambda: stream(*told(WORDS[:3]), lost()))
    client = await rig.chat(stream=True)
    assert ends_badly(client)
    assert rig.upstreams.asked == ["one"]


@pytest.mark.parametrize("mode", ["restart", "continue"])
@on_loop
async def test_nobody_left_means_a_cut_stream(rig: Rig, mode: str) -> None:
    serve(rig, mode)
    rig.upstreams.by_provider(one=lambda: stream(*told(WORDS[:3]), lost()), two=failure)
    client = await rig.chat(stream=True)
    assert client.text == "".join(WORDS[:3]) and ends_badly(client)
    assert rig.final.record.code == "stream_cut"
    assert rig.final.record.output_tokens > 0


@on_loop
async def test_half_a_tool_call_is_not_rescued(rig: Rig) -> None:
    chunk = json.loads(event("x").removeprefix(b"data: "))
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
    chunk["choices"][0]["delta"] = {"tool_calls": [call]}
    begun = b"data: " + json.dumps(chunk).encode() + b"\n\n"
    serve(rig, "restart")
    rig.upstreams.by_provider(one=lambda: stream(begun, lost()))
    assert ends_badly(await rig.chat(stream=True))
    assert rig.upstreams.asked == ["one"]


@on_loop
async def test_a_continued_answer_stays_within_the_output_asked_for(rig: Rig) -> None:
    serve(rig, "continue")
    rig.upstreams.by_provider(
        one=lambda: stream(*told(WORDS[:4]), lost()), two=lambda: stream(*whole_of(WORDS[4:]))
    )
    await rig.chat(stream=True, max_tokens=20)
    said = len("".join(WORDS[:4])) // 4
    assert asked_of(rig, "two")["max_tokens"] == 20 - said


@pytest.mark.parametrize("sent", [0, 5], ids=["before it goes on", "after"])
@on_loop
async def test_who_leaves_during_a_rescue_ends_it(rig: Rig, sent: int) -> None:
    serve(rig, "restart")
    rig.upstreams.by_provider(
        one=lambda: stream(*told(WORDS[:3]), lost()),
        two=lambda: stream(*told(WORDS[: sent or 1]), FOREVER),
    )
    client = rig.client(json.dumps({"model": "m", "stream": True, "messages": HELLO}).encode())
    asked = asyncio.create_task(rig.run(client))
    await eventually(lambda: len(rig.upstreams.replies) == 2)
    for _ in range(20):
        await asyncio.sleep(0)
    client.gone.set()
    await asked
    assert rig.final.record.code == "hung_up"
    assert rig.final.record.provider == ("two" if sent else "one")
    assert all(a.tokens > 0 for a in rig.final.attempts)
    assert all(reply.closed for reply in rig.upstreams.replies)
    assert await nothing_runs()


@on_loop
async def test_the_deadline_ends_a_rescue_too(rig: Rig) -> None:
    serve(rig, "restart")
    rig.upstreams.by_provider(
        one=lambda: stream(*told(WORDS[:3]), lost()),
        two=lambda: Reply([FOREVER], 200, {"content-type": "text/event-stream"}),
    )
    client = await rig.chat(stream=True, headers={"X-Patchbay-Deadline-Ms": "40"})
    assert ends_badly(client)
    assert rig.final.record.code == "stream_cut"
    assert await nothing_runs()


@on_loop
async def test_what_broke_off_counts_against_its_breaker(rig: Rig) -> None:
    serve(rig, "restart")
    rig.upstreams.by_provider(
        one=lambda: stream(*told(WORDS[:3]), lost()), two=lambda: stream(*whole_of(WORDS))
    )
    for _ in range(6):
        assert (await rig.chat(stream=True)).text == FULL
    assert rig.upstreams.asked.count("one") == 5


@on_loop
async def test_all_chunks_have_one_id(rig: Rig) -> None:
    serve(rig, "continue")
    other = [part.replace(b"chatcmpl-1", b"chatcmpl-2") for part in whole_of(WORDS[2:])]  # type: ignore[union-attr]
    rig.upstreams.by_provider(
        one=lambda: stream(*told(WORDS[:2]), lost()), two=lambda: stream(*other)
    )
    client = await rig.chat(stream=True)
    events = [e.removeprefix(b"data: ") for e in client.body.split(b"\n\n") if e]
    assert {json.loads(e)["id"] for e in events if e != b"[DONE]"} == {"chatcmpl-1"}


# The seam alone


def joined(said: str, pieces: Sequence[str], mode: str) -> str:
    text = Text()
    text.sent([event(said)] if said else [])
    seam = Seam(text, mode)
    events = [e for piece in [*pieces, None] for e in seam.join(event(piece))]
    chunks = [json.loads(e.removeprefix(b"data: ")) for e in events]
    return said + "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)


def in_pieces(text: str, cuts: Sequence[int]) -> list[str]:
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in itertools.pairwise(edges)]


CUTS = st.lists(st.integers(0, 500), max_size=5)


@given(st.text(max_size=30), st.integers(0, 30), CUTS)
def test_however_it_is_cut_the_answer_is_whole(full: str, at: int, cuts: list[int]) -> None:
    assert joined(full[:at], in_pieces(full, cuts), "restart") == full


@given(st.text(max_size=30), st.text(max_size=30), CUTS)
def test_another_answer_is_refused_and_never_mixed(said: str, other: str, cuts: list[int]) -> None:
    if other.startswith(said):
        assert joined(said, in_pieces(other, cuts), "restart") == other
    else:
        with pytest.raises(Diverged):
            joined(said, in_pieces(other, cuts), "restart")


@given(st.text(max_size=30), st.text(max_size=30), CUTS)
def test_what_goes_on_is_added_whole(said: str, more: str, cuts: list[int]) -> None:
    repeated = len(said) >= RESTATED and more.startswith(said)
    expected = more if repeated else said + more
    assert joined(said, in_pieces(more, cuts), "continue") == expected
