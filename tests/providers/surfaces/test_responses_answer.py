"""What a model said, as a Response: whole, and streamed however it was cut."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from lib.problems import RateLimited, UpstreamRejected
from providers import openai_wire as wire
from providers.adapters.anthropic import ADAPTER
from providers.call import Call, Outcome, Upstream, Usage, Verdict
from providers.sse import DONE, Decoder
from providers.surfaces import FORMS
from providers.surfaces.responses.sealing import opened

HEAD = wire.Head("chatcmpl-1", "gpt-x", 5)
USAGE = Usage(33, 12, cached_tokens=8, cache_write_tokens=5, reasoning_tokens=7)
COUNTS = {
    "input_tokens": 33,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 5},
    "output_tokens": 12,
    "output_tokens_details": {"reasoning_tokens": 7},
    "total_tokens": 45,
}
ASK: dict[str, Any] = {"model": "m", "input": "Hi"}
THOUGHT = {"type": "thinking", "thinking": "Well…", "signature": "c2ln"}
HIDDEN = {"type": "redacted_thinking", "data": "ZGF0YQ=="}
EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


def surface(**asked: Any) -> Any:
    one = FORMS["responses"].speak("req-1")
    one.chat({**ASK, **asked})
    return one


def completion(finish: str = "stop", **message: Any) -> bytes:
    choice = {"message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}
    return orjson.dumps(wire.completion(HEAD, choice, USAGE))


def whole(body: bytes, **asked: Any) -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(surface(**asked).whole(body))
    Response.model_validate(document)
    return document


def fed(*chunks: bytes) -> bytes:
    one = surface()
    return b"".join(one.feed(chunk) for chunk in chunks)


def told(stream: bytes) -> list[dict[str, Any]]:
    """The events, each of which the official client knows, in order and named as it says."""
    events = []
    for place, event in enumerate(Decoder().feed(stream)):
        document = orjson.loads(event.data)
        assert event.name == document["type"]
        assert document["sequence_number"] == place
        EVENT.validate_python(document)
        events.append(document)
    return events


def added_up(stream: bytes) -> dict[str, Any]:
    """The Response that ends a stream; the pieces, as the official client joins them, and what
    each item was told to be must say the same."""
    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    items: dict[int, Any] = {}
    said: dict[int, str] = {}
    events = told(stream)
    for event in events:
        state.handle_event(EVENT.validate_python(event))
        if event["type"].endswith(".delta"):
            index = event["output_index"]
            said[index] = said.get(index, "") + event["delta"]
        if event["type"] == "response.output_item.done":
            items[event["output_index"]] = event["item"]
    final: dict[str, Any] = events[-1]["response"]
    assert final["output"] == [items[index] for index in sorted(items)]
    for index, text in said.items():
        assert text == text_of(items[index])
    return final


def text_of(item: dict[str, Any]) -> str:
    if item["type"] == "function_call":
        return str(item["arguments"])
    parts = item["content"] if item["type"] == "message" else item["summary"]
    return "".join(part.get("text", part.get("refusal")) for part in parts)


def deltas(*said: dict[str, Any], finish: str = "stop") -> bytes:
    chunks = [wire.chunk(HEAD, delta) for delta in said]
    end = wire.chunk(HEAD, {}, finish_reason=finish)
    return b"".join([*chunks, end, wire.usage_chunk(HEAD, USAGE), DONE])


def called(index: int, call_id: str, arguments: str) -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    return {"index": index, "id": call_id, "type": "function", "function": function}


def told_as_chunks(body: bytes) -> bytes:
    chunks = wire.as_chunks(orjson.loads(body))
    return b"".join([*chunks, wire.usage_chunk(HEAD, USAGE), DONE])


def test_a_whole_answer_is_exactly_this() -> None:
    document = whole(
        completion(
            "tool_calls",
            content="I look.",
            reasoning_content="Hm.",
            tool_calls=[called(0, "c1", '{"a":1}')],
        ),
        instructions="Be kind.",
        metadata={"a": "b"},
        temperature=0.5,
        text={"format": {"type": "json_object"}},
        reasoning={"effort": "low"},
    )
    assert document == {
        "id": "resp_1",
        "object": "response",
        "created_at": 5,
        "model": "gpt-x",
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "output": [
            {
                "id": "rs_1_0",
                "type": "reasoning",
                "status": "completed",
                "summary": [{"type": "summary_text", "text": "Hm."}],
            },
            {
                "id": "msg_1_1",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [
                    {"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}
                ],
            },
            {
                "id": "fc_1_2",
                "type": "function_call",
                "status": "completed",
                "call_id": "c1",
                "name": "f",
                "arguments": '{"a":1}',
            },
        ],
        "usage": COUNTS,
        "instructions": "Be kind.",
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "text": {"format": {"type": "json_object"}},
        "reasoning": {"effort": "low", "summary": None},
        "max_output_tokens": None,
        "max_tool_calls": None,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "safety_identifier": None,
        "service_tier": None,
        "store": False,
        "background": False,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "user": None,
    }


def test_a_stream_in_openais_order() -> None:
    stream = fed(
        deltas(
            {"role": "assistant", "content": ""},
            {"reasoning_content": "Hm."},
            {"content": "I "},
            {"content": "look."},
            {"tool_calls": [called(0, "c1", "")]},
            {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
            finish="tool_calls",
        )
    )
    assert [event["type"].removeprefix("response.") for event in told(stream)] == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    final = added_up(stream)
    assert [item["type"] for item in final["output"]] == ["reasoning", "message", "function_call"]
    assert final["usage"] == COUNTS
    assert surface().is_end(stream)


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_how_it_ended(finish: str, status: str, reason: str | None) -> None:
    stream = fed(deltas({"content": "x"}, finish=finish))
    for document in (whole(completion(finish, content="x")), added_up(stream)):
        assert document["status"] == status
        assert document["output"][0]["status"] == status
        assert document["incomplete_details"] == (reason and {"reason": reason})
    assert surface().is_end(stream)


def test_calls_told_by_turns_add_up() -> None:
    stream = fed(
        deltas(
            {"tool_calls": [called(0, "c1", '{"a"'), called(1, "c2", '{"b"')]},
            {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
            {"tool_calls": [{"index": 1, "function": {"arguments": ":2}"}}]},
            finish="tool_calls",
        )
    )
    arguments = [item["arguments"] for item in added_up(stream)["output"]]
    assert arguments == ['{"a":1}', '{"b":2}']


def test_a_refusal_is_told_as_one() -> None:
    for document in (whole(completion(refusal="No.")), added_up(fed(deltas({"refusal": "No."})))):
        (item,) = document["output"]
        assert item["content"] == [{"type": "refusal", "refusal": "No."}]


def test_a_stream_that_is_broken_off_has_failed() -> None:
    problem = UpstreamRejected("The provider broke off its answer.")
    broken = b"data: " + orjson.dumps(problem.as_openai("req-1")) + b"\n\n"
    stream = fed(wire.chunk(HEAD, {"content": "I "}), broken, DONE)
    *_, last = told(stream)
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"] == {
        "code": "server_error",
        "message": "The provider broke off its answer.",
        "problem": "upstream_rejected",
    }
    assert b"output_item.done" not in stream
    assert not surface().is_end(stream)
    assert [event["type"] for event in told(fed(broken))] == [
        "response.created",
        "response.in_progress",
        "response.failed",
    ]


def test_a_problem_is_in_openais_envelope() -> None:
    problem = RateLimited(retry_after=3)
    assert surface().problem(problem) == problem.as_openai("req-1")


ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x-1",
    "content": [THOUGHT, HIDDEN, {"type": "text", "text": "Yes"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 5, "output_tokens": 3},
}


def test_signed_thoughts_go_along_sealed() -> None:
    """Whole and streamed; what they say is told as the summary."""
    call = Call("chat.completions", {"messages": []}, request_id="req-1")
    upstream = Upstream("anthropic", "https://a.example", "claude-x", "key")
    body = ADAPTER.meter(call, upstream).whole(Outcome(Verdict.OK, 200, document=ANSWER), b"").body
    for document in (whole(body), added_up(fed(told_as_chunks(body)))):
        (reasoning, message) = document["output"]
        assert opened(reasoning["encrypted_content"]) == {
            "anthropic": {"thinking_blocks": [THOUGHT, HIDDEN]}
        }
        assert text_of(reasoning) == "Well…"
        assert text_of(message) == "Yes"


def test_a_signature_that_comes_late_gets_an_item_of_its_own() -> None:
    signed = {"google": {"thought_signature": "x"}}
    stream = fed(deltas({"content": "Yes"}, {"content": "!", "extra_content": signed}))
    (message, reasoning) = added_up(stream)["output"]
    assert text_of(message) == "Yes!"
    assert opened(reasoning["encrypted_content"]) == signed


MANY = deltas(
    {"reasoning_content": "Hmm, "},
    {"reasoning_content": "é"},
    {"content": "I "},
    {"content": "look…"},
    {"tool_calls": [called(0, "c1", '{"a":')]},
    {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
    finish="tool_calls",
)


@pytest.mark.unmeasured
def test_cut_at_every_byte_it_says_the_same() -> None:
    uncut = fed(MANY)
    assert all(fed(MANY[:at], MANY[at:]) == uncut for at in range(len(MANY)))
    assert fed(*(MANY[at : at + 1] for at in range(len(MANY)))) == uncut


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in pairwise(marks)]


WORDS = st.text(min_size=1, max_size=6)


@given(
    st.lists(WORDS, max_size=2),
    st.lists(WORDS, max_size=3),
    st.lists(st.lists(WORDS, max_size=2), max_size=3),
    st.sampled_from(["stop", "length", "tool_calls"]),
    st.lists(st.integers(min_value=0), max_size=4),
)
def test_a_stream_adds_up_to_the_whole(
    thoughts: list[str], texts: list[str], calls: list[list[str]], finish: str, places: list[int]
) -> None:
    said: list[dict[str, Any]] = [{"reasoning_content": each} for each in thoughts]
    said += [{"content": each} for each in texts]
    for index, parts in enumerate(calls):
        said.append({"tool_calls": [called(index, f"c{index}", "")]})
        said += [{"tool_calls": [{"index": index, "function": {"arguments": p}}]} for p in parts]
    message: dict[str, Any] = {"content": "".join(texts) or None}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = [
            called(index, f"c{index}", "".join(parts)) for index, parts in enumerate(calls)
        ]
    streamed = added_up(fed(*cut(deltas(*said, finish=finish), places)))
    assert settled(streamed) == settled(whole(completion(finish, **message)))


def settled(response: dict[str, Any]) -> dict[str, Any]:
    """Only a stream tells which of several items was the one that was cut."""
    output = [{**item, "status": ""} for item in response["output"]]
    return {**response, "output": output}


MEMBERS = [
    *("content", "refusal", "reasoning_content", "tool_calls", "extra_content", "anthropic"),
    *("thinking_blocks", "type", "function", "name", "arguments", "id", "index"),
    *("prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens"),
]
JUNK = st.recursive(
    st.none() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=3)
    ),
    max_leaves=8,
)
PARTS = st.dictionaries(st.sampled_from(MEMBERS), JUNK, max_size=4)
ANSWERED = st.fixed_dictionaries(
    {},
    optional={
        "id": JUNK,
        "model": JUNK,
        "created": JUNK,
        "usage": JUNK,
        "choices": st.lists(
            st.fixed_dictionaries(
                {}, optional={"finish_reason": JUNK, "message": PARTS, "delta": PARTS}
            ),
            max_size=2,
        ),
    },
)


@given(st.lists(ANSWERED, min_size=1, max_size=4))
def test_no_answer_whatever_is_a_fault_of_ours(documents: list[Any]) -> None:
    for document in documents:
        whole(orjson.dumps(document))
    stream = fed(*(b"data: " + orjson.dumps(each) + b"\n\n" for each in documents), DONE)
    assert surface().is_end(stream)
    assert told(stream)[-1]["response"]["object"] == "response"
