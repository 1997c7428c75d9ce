"""What a model said, in Anthropic's words: whole, and streamed however it was cut."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from anthropic import types
from anthropic.lib.streaming._messages import accumulate_event
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from cache import replay
from lib.problems import (
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    Problem,
    QuotaExceeded,
    RateLimited,
    Unauthenticated,
    Unavailable,
    UpstreamRejected,
)
from providers import openai_wire as wire
from providers.adapters.anthropic import ADAPTER
from providers.call import Call, Outcome, Upstream, Usage, Verdict
from providers.sse import DONE, Decoder
from providers.surfaces import FORMS

UPSTREAM = Upstream("anthropic", "https://a.example", "claude-x", "key")
HEAD = wire.Head("chatcmpl-1", "gpt-x", 1)
USAGE = Usage(33, 12, cached_tokens=8, cache_write_tokens=5, reasoning_tokens=7)
COUNTS = {
    "input_tokens": 20,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 8,
    "output_tokens": 12,
    "output_tokens_details": {"thinking_tokens": 7},
}
THOUGHT = {"type": "thinking", "thinking": "Well…", "signature": "c2ln"}
HIDDEN = {"type": "redacted_thinking", "data": "ZGF0YQ=="}
MEMBERS = [
    *("content", "refusal", "reasoning_content", "tool_calls", "extra_content", "anthropic"),
    *("thinking_blocks", "type", "function", "name", "arguments", "id", "index", "citations"),
    *("prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens"),
]
EVENT: TypeAdapter[types.RawMessageStreamEvent] = TypeAdapter(types.RawMessageStreamEvent)


def surface() -> Any:
    return FORMS["messages"].speak("req-1")


def completion(finish: str = "stop", **message: Any) -> bytes:
    choice = {"message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}
    return orjson.dumps(wire.completion(HEAD, choice, USAGE))


def whole(body: bytes) -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(surface().whole(body))
    assert FORMS["messages"].response_schema
    types.Message.model_validate(document)
    return document


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def use(call_id: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "f", "input": arguments}


def called(call_id: str, arguments: str) -> dict[str, Any]:
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": "f", "arguments": arguments},
    }


def told(stream: bytes) -> list[dict[str, Any]]:
    """The events, each of which the official client knows and is named as it says."""
    events = []
    for event in Decoder().feed(stream):
        document = orjson.loads(event.data)
        assert event.name == document["type"]
        if event.name not in ("ping", "error"):
            EVENT.validate_python(document)
        events.append(document)
    return events


def added_up(stream: bytes) -> dict[str, Any]:
    """The message that the official client makes of a stream."""
    message, buffers = None, {}
    for document in told(stream):
        event: Any = EVENT.validate_python(document)
        message = accumulate_event(event=event, current_snapshot=message, json_bufs=buffers)
    assert message is not None
    made: dict[str, Any] = message.to_dict(exclude_unset=False)
    return without_nothing(made)


def without_nothing(value: Any) -> Any:
    """Members that are null say the same as those that are not there."""
    if isinstance(value, dict):
        return {
            k: without_nothing(v)
            for k, v in value.items()
            if v is not None and k != "parsed_output"
        }
    return [without_nothing(each) for each in value] if isinstance(value, list) else value


def fed(*chunks: bytes) -> bytes:
    one = surface()
    return b"".join(one.feed(chunk) for chunk in chunks)


def deltas(*said: dict[str, Any], finish: str = "stop", **choice: Any) -> bytes:
    chunks = [wire.chunk(HEAD, delta) for delta in said]
    end = wire.chunk(HEAD, {}, finish_reason=finish, **choice)
    return b"".join([*chunks, end, wire.usage_chunk(HEAD, USAGE), DONE])


def test_a_whole_answer_has_all_that_was_said() -> None:
    document = whole(
        completion(
            "tool_calls",
            content="I look.",
            tool_calls=[called("t1", '{"city":"Uppsala"}'), called("t2", "")],
            extra_content={"anthropic": {"thinking_blocks": [THOUGHT, HIDDEN]}},
        )
    )
    assert document == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "gpt-x",
        "content": [THOUGHT, HIDDEN, text("I look."), use("t1", city="Uppsala"), use("t2")],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": COUNTS,
    }


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("content_filter", "refusal"),
        ("something", "end_turn"),
    ],
)
def test_why_it_ended(finish: str, reason: str) -> None:
    assert whole(completion(finish, content="x"))["stop_reason"] == reason
    assert added_up(fed(deltas({"content": "x"}, finish=finish)))["stop_reason"] == reason


def test_calls_are_told_as_the_reason_though_a_service_says_stop() -> None:
    call = called("t1", "{}")
    assert whole(completion("stop", tool_calls=[call]))["stop_reason"] == "tool_use"
    streamed = fed(deltas({"tool_calls": [{"index": 0, **call}]}))
    assert added_up(streamed)["stop_reason"] == "tool_use"


def test_reasoning_without_a_signature_is_a_thought_without_one() -> None:
    (thought, said) = whole(completion(content="Yes", reasoning_content="Hm."))["content"]
    assert thought == {"type": "thinking", "thinking": "Hm.", "signature": ""}
    assert said == text("Yes")
    streamed = fed(
        deltas({"reasoning_content": "H"}, {"reasoning_content": "m."}, {"content": "Yes"})
    )
    assert added_up(streamed)["content"] == [thought, said]


def test_a_refusal_is_what_was_said() -> None:
    assert whole(completion(refusal="No."))["content"] == [text("No.")]
    assert added_up(fed(deltas({"refusal": "No."})))["content"] == [text("No.")]


def test_arguments_that_are_no_object_are_wrapped_as_anthropics_documents_say() -> None:
    (call,) = whole(completion("tool_calls", tool_calls=[called("t1", '{"a":')]))["content"]
    assert call["input"] == {"INVALID_JSON": '{"a":'}


def test_a_stream_in_anthropics_order() -> None:
    stream = fed(
        deltas(
            {"role": "assistant", "content": ""},
            {"content": "I "},
            {"content": "look."},
            {"tool_calls": [{"index": 0, **called("t1", "")}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
            {"tool_calls": [{"index": 1, **called("t2", "{}")}]},
            finish="tool_calls",
        )
    )
    steps = [(event["type"], event.get("index")) for event in told(stream)]
    assert steps == [
        ("message_start", None),
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
        ("content_block_start", 2),
        ("content_block_delta", 2),
        ("content_block_stop", 2),
        ("message_delta", None),
        ("message_stop", None),
    ]
    message = added_up(stream)
    assert message["content"] == [text("I look."), use("t1", a=1), use("t2")]
    assert message["usage"] == COUNTS
    assert surface().is_end(stream)


def test_calls_told_by_turns_still_add_up() -> None:
    stream = fed(
        deltas(
            {"tool_calls": [{"index": 0, **called("t1", '{"a"')}]},
            {"tool_calls": [{"index": 1, **called("t2", '{"b"')}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
            {"tool_calls": [{"index": 1, "function": {"arguments": ":2}"}}]},
            finish="tool_calls",
        )
    )
    assert added_up(stream)["content"] == [use("t1", a=1), use("t2", b=2)]


def test_a_stream_that_is_broken_off_ends_with_an_error_and_nothing_more() -> None:
    problem = UpstreamRejected("The provider broke off its answer.")
    broken = b"data: " + orjson.dumps(problem.as_openai("req-1")) + b"\n\n"
    stream = fed(wire.chunk(HEAD, {"content": "I "}), broken, DONE)
    *_, last = told(stream)
    assert last["type"] == "error"
    assert last["error"]["type"] == "api_error"
    assert last["error"]["message"] == "The provider broke off its answer."
    assert last["error"]["code"] == "upstream_rejected"
    assert last["request_id"] == "req-1"
    assert b"message_stop" not in stream
    assert b'stop_reason":"' not in stream
    assert not surface().is_end(stream)


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (InvalidRequest(), "invalid_request_error"),
        (Unauthenticated(), "authentication_error"),
        (QuotaExceeded(status=402), "billing_error"),
        (Forbidden(), "permission_error"),
        (NotFound(), "not_found_error"),
        (PayloadTooLarge(), "request_too_large"),
        (RateLimited(retry_after=1), "rate_limit_error"),
        (Problem(), "api_error"),
        (UpstreamRejected(), "api_error"),
        (UpstreamRejected(status=422), "invalid_request_error"),
        (DeadlineExceeded(), "timeout_error"),
        (Unavailable(), "overloaded_error"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_problem_in_anthropics_envelope(problem: Problem, kind: str) -> None:
    document = surface().problem(problem)
    assert document["type"] == "error"
    assert document["request_id"] == "req-1"
    assert document["error"]["type"] == kind
    assert document["error"]["message"] == problem.detail
    assert document["error"]["code"] == problem.code


# Round trips: what an Anthropic model says is what an Anthropic client is told.

MESSAGES: dict[str, list[dict[str, Any]]] = {
    "a text": [text("Hello")],
    "nothing": [],
    "thoughts": [THOUGHT, text("Hello")],
    "hidden thoughts": [HIDDEN, THOUGHT, text("Hello")],
    "thoughts and calls": [THOUGHT, use("t1", city="Uppsala"), use("t2")],
    "all": [THOUGHT, HIDDEN, text("I look."), use("t1", a=[1, {"b": None}])],
}


def anthropics(blocks: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    reason = "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x-1",
        "content": blocks,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": COUNTS,
        **more,
    }


def events(message: dict[str, Any]) -> bytes:
    """As Anthropic streams it."""
    usage = {**message["usage"], "output_tokens": 1}
    begun = {**message, "content": [], "stop_reason": None, "usage": usage}
    told: list[dict[str, Any]] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    for index, block in enumerate(message["content"]):
        start, said = opened(block)
        told.append({"type": "content_block_start", "index": index, "content_block": start})
        told += [{"type": "content_block_delta", "index": index, "delta": each} for each in said]
        told.append({"type": "content_block_stop", "index": index})
    end = {name: message[name] for name in ("stop_reason", "stop_sequence")}
    told.append({"type": "message_delta", "delta": end, "usage": message["usage"]})
    told.append({"type": "message_stop"})
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (each["type"].encode(), orjson.dumps(each)) for each in told
    )


def opened(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if block["type"] == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": c} for c in block["text"]]
    if block["type"] == "thinking":
        said = [{"type": "thinking_delta", "thinking": c} for c in block["thinking"]]
        signed = {"type": "signature_delta", "signature": block["signature"]}
        return {**block, "thinking": "", "signature": ""}, [*said, signed]
    if block["type"] == "tool_use":
        arguments = orjson.dumps(block["input"]).decode() if block["input"] else ""
        parts = [arguments[:3], arguments[3:]] if arguments else [""]
        return {**block, "input": {}}, [
            {"type": "input_json_delta", "partial_json": part} for part in parts
        ]
    return block, []


def meter(**params: Any) -> Any:
    options = {"include_usage": True}
    asked = {"messages": [], "stream_options": options, **params}
    return ADAPTER.meter(Call("chat.completions", asked, request_id="req-1"), UPSTREAM)


def chunks_of(message: dict[str, Any]) -> bytes:
    """An Anthropic answer's stream as the relay sends it on."""
    reader = meter(stream=True)
    return b"".join([*reader.feed(events(message)), *reader.close()])


def answer_of(message: dict[str, Any]) -> bytes:
    body: bytes = meter().whole(Outcome(Verdict.OK, 200, document=message), b"").body
    return body


@pytest.mark.parametrize("blocks", MESSAGES.values(), ids=MESSAGES.keys())
@pytest.mark.parametrize("form", ["whole", "streamed", "replayed", "replayed whole", "as a stream"])
def test_an_anthropic_answer_comes_through_unchanged(
    blocks: list[dict[str, Any]], form: str
) -> None:
    """Also where the cache keeps it in one form and the client asks for the other."""
    message = anthropics(blocks)
    streamed, body = chunks_of(message), answer_of(message)
    kept = [each + b"\n\n" for each in streamed.split(b"\n\n") if each]
    said = {
        "whole": lambda: whole(body),
        "streamed": lambda: added_up(fed(streamed)),
        "replayed": lambda: added_up(fed(*replay.replayed(kept, USAGE, usage_wanted=True))),
        "replayed whole": lambda: whole(replay.whole(kept, USAGE)),
        "as a stream": lambda: added_up(fed(*replay.stream(body, usage_wanted=True))),
    }[form]()
    assert without_nothing(said) == without_nothing(message)


@pytest.mark.parametrize("form", ["whole", "streamed", "as a stream"])
def test_which_stop_sequence_it_was_comes_through(form: str) -> None:
    message = anthropics([text("x")], stop_reason="stop_sequence", stop_sequence="END")
    body = answer_of(message)
    said = {
        "whole": lambda: whole(body),
        "streamed": lambda: added_up(fed(chunks_of(message))),
        "as a stream": lambda: added_up(fed(*replay.stream(body, usage_wanted=True))),
    }[form]()
    assert (said["stop_reason"], said["stop_sequence"]) == ("stop_sequence", "END")


ALL = anthropics(MESSAGES["all"])


@pytest.mark.unmeasured
def test_cut_at_every_byte_it_says_the_same() -> None:
    stream = chunks_of(ALL)
    uncut = fed(stream)
    assert all(fed(stream[:at], stream[at:]) == uncut for at in range(len(stream)))
    assert fed(*(stream[at : at + 1] for at in range(len(stream)))) == uncut


def blocks() -> st.SearchStrategy[list[dict[str, Any]]]:
    words = st.text(min_size=1, max_size=8).filter(str.strip)
    thoughts = st.lists(
        st.builds(lambda t, s: {**THOUGHT, "thinking": t, "signature": s}, words, words)
        | st.builds(lambda d: {**HIDDEN, "data": d}, words),
        max_size=3,
    )
    said = st.lists(st.builds(text, words), max_size=1)
    calls = st.lists(st.dictionaries(words, words, max_size=2), max_size=3).map(
        lambda given: [{**use(f"t{n}"), "input": each} for n, each in enumerate(given)]
    )
    return st.tuples(thoughts, said, calls).map(lambda parts: [*parts[0], *parts[1], *parts[2]])


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in pairwise(marks)]


@given(blocks(), st.lists(st.integers(min_value=0), max_size=4))
def test_whatever_it_says_and_however_it_is_cut(
    said: list[dict[str, Any]], places: list[int]
) -> None:
    message = anthropics(said)
    assert without_nothing(whole(answer_of(message))) == without_nothing(message)
    assert added_up(fed(*cut(chunks_of(message), places))) == without_nothing(message)


JUNK = st.recursive(
    st.none() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=3)
    ),
    max_leaves=8,
)
ANSWERED = st.fixed_dictionaries(
    {},
    optional={
        "id": JUNK,
        "model": JUNK,
        "usage": JUNK,
        "choices": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "finish_reason": JUNK,
                    "stop_reason": JUNK,
                    "message": st.dictionaries(st.sampled_from(MEMBERS), JUNK, max_size=4),
                    "delta": st.dictionaries(st.sampled_from(MEMBERS), JUNK, max_size=4),
                },
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
    assert stream.endswith(b'{"type":"message_stop"}\n\n')
    assert added_up(stream)["role"] == "assistant"
