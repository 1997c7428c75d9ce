"""Streams, cut anywhere: the provider's own events where nothing must change, the count told
once and at the end, and no cut or broken stream that looks like success."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from providers import sse
from providers.adapter import Meter, StreamFault
from providers.adapters.openai import ADAPTER
from providers.call import Call, Upstream, Usage, Verdict

PARAMS = {"model": "gpt-x", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
HEAD = {"id": "c1", "object": "chat.completion.chunk", "created": 1700000000, "model": "gpt-x-1"}
COUNTS = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
DONE = b"data: [DONE]\n\n"


def meter(settings: dict[str, Any] | None = None, *, counted: bool = True) -> Meter:
    upstream = Upstream("lab", "https://o.example/v1", "gpt-x", "key", settings or {})
    options = {"stream_options": {"include_usage": True}} if counted else {}
    return ADAPTER.meter(Call("chat.completions", PARAMS | options, request_id="r1"), upstream)


def event(delta: Any = None, finish: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}
    return sse.encode({**HEAD, "choices": [choice], **fields})


def closing(**fields: Any) -> bytes:
    return sse.encode({**HEAD, "choices": [], "usage": COUNTS, **fields})


def fed(reader: Meter, *chunks: bytes) -> bytes:
    return b"".join(b"".join(reader.feed(chunk)) for chunk in chunks)


def documents(raw: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(each.data) for each in sse.Decoder().feed(raw) if each.data != b"[DONE]"]


CALL = {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": ""}}
EVENTS = [
    event({"role": "assistant", "content": ""}),
    event({"reasoning_content": "Hm"}),
    event({"content": "Blå 🦉"}),
    event({"tool_calls": [CALL]}),
    event({"tool_calls": [{"index": 0, "function": {"arguments": '{"å":1}'}}]}),
    event({}, "tool_calls"),
]
STREAM = b": hello\n\n" + b"".join(EVENTS) + closing(cost=7) + DONE


def test_a_stream_goes_on_as_it_came_but_for_its_count() -> None:
    reader = meter()
    assert fed(reader, STREAM) == b"".join(EVENTS)
    assert reader.complete
    assert reader.usage == Usage(9, 4)
    assert reader.output_characters == len("Hm" + "Blå 🦉" + "f" + '{"å":1}')
    usage, done = reader.close()
    details = {
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert documents(usage) == [HEAD | {"choices": [], "usage": COUNTS | details}]
    assert done == DONE


def test_a_client_that_did_not_ask_for_the_count_gets_none() -> None:
    reader = meter(counted=False)
    assert fed(reader, STREAM) == b"".join(EVENTS)
    assert reader.usage == Usage(9, 4)
    assert reader.close() == [DONE]


@pytest.mark.unmeasured
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_a_stream_cut_at_every_byte_says_the_same(ending: bytes) -> None:
    stream = STREAM.replace(b"\n", ending)
    for cut in range(len(stream) + 1):
        reader = meter()
        assert fed(reader, stream[:cut], stream[cut:]) == b"".join(EVENTS)
        assert (reader.usage, reader.complete) == (Usage(9, 4), True)
    single = meter()
    assert fed(single, *(stream[i : i + 1] for i in range(len(stream)))) == b"".join(EVENTS)


@pytest.mark.unmeasured
def test_however_far_it_came_a_stream_without_its_end_is_not_complete() -> None:
    end = STREAM.index(DONE) + len(DONE) - 1
    for cut in range(end):
        reader = meter()
        fed(reader, STREAM[:cut])
        assert not reader.complete


def test_nothing_is_said_after_the_end() -> None:
    reader = meter()
    assert fed(reader, STREAM + event({"content": "late"}), b"data: {junk\n\n") == b"".join(EVENTS)


def test_where_the_last_choice_bears_the_count_it_is_told_once() -> None:
    reader = meter()
    said = documents(fed(reader, event({"content": "a"}), event({}, "stop", usage=COUNTS), DONE))
    assert [chunk.get("usage") for chunk in said] == [None, None]
    [told] = documents(reader.close()[0])
    assert told["usage"]["total_tokens"] == 13


def test_groqs_own_place_for_the_count() -> None:
    reader = meter()
    fed(reader, event({"content": "a"}), event({}, "stop", x_groq={"usage": COUNTS}), DONE)
    assert reader.usage == Usage(9, 4)
    assert documents(reader.close()[0])[0]["usage"]["prompt_tokens"] == 9


def test_a_service_that_does_not_count_gets_a_guess_for_the_client_only() -> None:
    reader = meter()
    fed(reader, event({"content": "a" * 40}), event({}, "stop"), DONE)
    assert reader.usage is None
    [told] = documents(reader.close()[0])
    assert told["usage"]["completion_tokens"] == 10


def test_azures_first_event_has_no_choice_and_is_not_passed_on() -> None:
    first = sse.encode({"choices": [], "id": "", "model": "", "prompt_filter_results": []})
    reader = meter()
    assert fed(reader, first) == b""
    assert fed(reader, EVENTS[0]) == EVENTS[0]


def test_what_an_sdk_needs_is_added() -> None:
    bare = sse.encode({"choices": [{"delta": {"content": "a", "tool_calls": [{"id": "t"}]}}]})
    reader = meter()
    first, second = documents(fed(reader, bare, bare))
    ChatCompletionChunk.model_validate(first)
    assert first["id"] == second["id"] == "chatcmpl-r1"
    assert first["created"] == second["created"]
    assert first["model"] == "gpt-x"
    call = {"id": "t", "type": "function", "index": 0}
    assert first["choices"] == [{"delta": {"content": "a", "tool_calls": [call]}, "index": 0}]


def test_thoughts_among_parts_and_finish_reasons_of_their_own() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]
    reader = meter()
    said = fed(reader, event({"content": parts}), event({}, "model_length"), event({}, "eos"), DONE)
    choices = [chunk["choices"][0] for chunk in documents(said)]
    assert choices[0]["delta"] == {"content": "", "reasoning_content": "Hm"}
    assert [choice["finish_reason"] for choice in choices] == [None, "length", "stop"]


def test_an_event_of_several_lines_is_written_as_one() -> None:
    [first] = documents(fed(meter(), b'data: {"choices":\ndata: [{"delta":{"content":"a"}}]}\n\n'))
    assert first["choices"][0]["delta"] == {"content": "a"}


def test_a_service_without_an_end_mark_ends_with_its_finish_reason() -> None:
    marked, unmarked = meter(), meter({"done_marker": False})
    for reader in (marked, unmarked):
        fed(reader, event({"content": "a"}), event({}, "stop"), closing())
        assert reader.usage == Usage(9, 4)
    assert (marked.complete, unmarked.complete) == (False, True)
    assert unmarked.close()[-1] == DONE


def test_perplexitys_last_event_is_an_end_mark() -> None:
    reader = meter()
    [said] = documents(fed(reader, event({}, "stop", object="chat.completion.done")))
    assert said["object"] == "chat.completion.chunk"
    assert reader.complete


@pytest.mark.parametrize(
    ("broken", "verdict", "message"),
    [
        (sse.encode({"error": {"code": 502, "message": "Down"}}), Verdict.UNAVAILABLE, "Down"),
        (
            sse.encode({"error": {"code": "rate_limit_exceeded", "message": "Slow"}}),
            Verdict.RATE_LIMITED,
            "Slow",
        ),
        (b'event: error\ndata: {"message": "Gone"}\n\n', Verdict.UNAVAILABLE, "Gone"),
        (
            sse.encode({"object": "error", "message": "No", "code": 400}),
            Verdict.INVALID_REQUEST,
            "No",
        ),
        (event({}, "error"), Verdict.UNAVAILABLE, "The provider gave up midway."),
        (b"data: {broken\n\n", Verdict.BAD_PAYLOAD, None),
        (b"data: [1]\n\n", Verdict.BAD_PAYLOAD, None),
        (b"data: 7\n\n", Verdict.BAD_PAYLOAD, None),
        (b"event: error\ndata: [1]\n\n", Verdict.BAD_PAYLOAD, None),
        (b'data: {"choices":[7]}\n\n', Verdict.BAD_PAYLOAD, None),
        (b'data: {"choices":[{"delta":[1]}]}\n\n', Verdict.BAD_PAYLOAD, None),
        (b'data: {"choices":[],"x_groq":"x"}\n\n', Verdict.BAD_PAYLOAD, None),
        (b"data: " + b"x" * sse.MAX_EVENT_BYTES, Verdict.BAD_PAYLOAD, None),
    ],
)
def test_faults_in_a_stream(broken: bytes, verdict: Verdict, message: str | None) -> None:
    reader = meter()
    fed(reader, event({"content": "a"}))
    with pytest.raises(StreamFault) as fault:
        reader.feed(broken)
    assert fault.value.outcome.verdict is verdict
    assert message is None or fault.value.outcome.message == message
    assert not reader.complete


def test_a_stream_that_only_ends_said_nothing() -> None:
    with pytest.raises(StreamFault) as fault:
        meter().feed(DONE)
    assert fault.value.outcome.verdict is Verdict.BAD_PAYLOAD


def test_a_stream_that_a_filter_stopped_ends_for_that_reason() -> None:
    blocked = sse.encode({"error": {"code": "content_filter", "message": "Filtered."}})
    for before in (b"", event({"content": "a"})):
        reader = meter()
        last = documents(fed(reader, before + blocked))[-1]
        assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]
        assert reader.complete


@given(st.lists(st.binary(max_size=40) | st.sampled_from(EVENTS), max_size=6))
def test_no_bytes_raise_anything_but_a_fault(chunks: list[bytes]) -> None:
    reader = meter()
    try:
        fed(reader, *chunks)
    except StreamFault as fault:
        assert not fault.outcome.is_answer
