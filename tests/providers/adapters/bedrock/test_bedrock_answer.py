"""Converse's answers and streams in OpenAI's words, whole, cut anywhere and broken off."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import time_machine
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from providers import sse
from providers.adapter import StreamFault
from providers.adapters.bedrock import ADAPTER
from providers.adapters.bedrock.eventstream import CONTENT_TYPE, encoded
from providers.call import Call, Upstream, Usage, Verdict

UPSTREAM = Upstream("bedrock", "https://b.example", "m", "key")
HI = [{"role": "user", "content": "Hi"}]
CHAT = Call("chat.completions", {"messages": HI}, request_id="r")
STREAM = Call(
    "chat.completions",
    {"messages": HI, "stream": True, "stream_options": {"include_usage": True}},
    request_id="r",
)
USED = {"inputTokens": 5, "outputTokens": 7, "totalTokens": 12}


def event(kind: str, **document: Any) -> bytes:
    return encoded({":message-type": "event", ":event-type": kind}, orjson.dumps(document))


def delta(index: int = 0, **said: Any) -> bytes:
    return event("contentBlockDelta", contentBlockIndex=index, delta=said)


def block_end(index: int = 0) -> bytes:
    return event("contentBlockStop", contentBlockIndex=index)


START = event("messageStart", role="assistant")


def end(reason: str = "end_turn") -> bytes:
    return event("messageStop", stopReason=reason) + event("metadata", usage=USED, metrics={})


def chunks(*parts: bytes) -> list[ChatCompletionChunk]:
    meter = ADAPTER.meter(STREAM, UPSTREAM)
    events = [e for part in parts for e in meter.feed(part)]
    assert meter.complete
    *said, done = sse.Decoder().feed(b"".join([*events, *meter.close()]))
    assert done.data == b"[DONE]"
    return [ChatCompletionChunk.model_validate_json(e.data) for e in said]


def whole(
    *blocks: Any, stop: str = "end_turn", **fields: Any
) -> tuple[ChatCompletion, Usage | None]:
    document = {"output": {"message": {"role": "assistant", "content": blocks}}, "stopReason": stop}
    body = orjson.dumps({**document, "usage": USED, **fields})
    outcome = ADAPTER.outcome(200, {"content-type": "application/json"}, body)
    if not outcome.is_answer:
        raise StreamFault(outcome)
    meter = ADAPTER.meter(CHAT, UPSTREAM)
    answer = ChatCompletion.model_validate_json(meter.whole(outcome, body).body)
    return answer, meter.usage


def test_text_and_count() -> None:
    answer, usage = whole({"text": "a"}, {"text": "b"})
    assert answer.choices[0].message.content == "ab"
    assert usage == Usage(5, 7)


def test_what_a_cache_wrote_and_read_is_input_too() -> None:
    told = {**USED, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 10}
    assert whole({"text": "a"}, usage=told)[1] == Usage(115, 7, 100, 10)
    for absurd in (
        None,
        {},
        {"inputTokens": -1},
        {"inputTokens": 10**10},
        {"inputTokens": "5"},
        [],
    ):
        answer, usage = whole({"text": "a"}, usage=absurd)
        assert usage is None
        assert answer.usage and answer.usage.prompt_tokens > 0


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("of_tomorrow", "content_filter"),
    ],
)
def test_stop_reasons(theirs: str, ours: str) -> None:
    assert whole({"text": "a"}, stop=theirs)[0].choices[0].finish_reason == ours
    *_, last, _count = chunks(START, delta(text="a"), end(theirs))
    assert last.choices[0].finish_reason == ours


def test_a_model_that_gave_up_is_no_answer() -> None:
    with pytest.raises(StreamFault) as caught:
        whole({"text": ""}, stop="malformed_tool_use")
    assert caught.value.outcome.verdict is Verdict.UNAVAILABLE
    with pytest.raises(StreamFault):
        chunks(START, end("malformed_model_output"))


def test_calls_and_thoughts() -> None:
    thought = {"reasoningText": {"text": "hm", "signature": "s"}}
    use = {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"a": 1}}}
    answer, _ = whole({"reasoningContent": thought}, use, stop="tool_use")
    message = answer.choices[0].message.model_dump()
    assert message["content"] is None
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}
    assert message["reasoning_content"] == "hm"
    assert message["extra_content"] == {"bedrock": {"reasoning_content": [thought]}}


EVERYTHING = (
    START,
    delta(0, reasoningContent={"text": "h"}),
    delta(0, reasoningContent={"text": "m"}),
    delta(0, reasoningContent={"signature": "s"}),
    block_end(0),
    delta(1, text="Hé"),
    delta(1, text="llo"),
    block_end(1),
    event("contentBlockStart", contentBlockIndex=2, start={"toolUse": {"toolUseId": "t1", "name": "f"}}),
    delta(2, toolUse={"input": '{"a"'}),
    delta(2, toolUse={"input": ": 1}"}),
    block_end(2),
    event("contentBlockStart", contentBlockIndex=3, start={"toolUse": {"toolUseId": "t2", "name": "g"}}),
    block_end(3),
    event("somethingNew", a=1),
    end("tool_use"),
)  # fmt: skip


def test_a_stream_of_everything() -> None:
    found = chunks(*EVERYTHING)
    deltas = [chunk.choices[0].delta for chunk in found if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(d.content or "" for d in deltas) == "Héllo"
    calls: dict[int, str] = {}
    for call in (call for d in deltas for call in d.tool_calls or ()):
        assert call.function
        calls[call.index] = calls.get(call.index, "") + (call.function.arguments or "")
    assert calls == {0: '{"a": 1}', 1: "{}"}
    extra = [d.model_extra or {} for d in deltas]
    assert "".join(e.get("reasoning_content") or "" for e in extra) == "hm"
    (kept,) = [e["extra_content"] for e in extra if "extra_content" in e]
    thought = {"reasoningText": {"text": "hm", "signature": "s"}}
    assert kept == {"bedrock": {"reasoning_content": [thought]}}
    assert found[-1].usage and found[-1].usage.total_tokens == 12


@time_machine.travel(0, tick=False)  # `created` is the time of day
def test_cut_at_every_byte_it_says_the_same() -> None:
    raw = b"".join(EVERYTHING)
    expected = chunks(raw)
    assert chunks(*(raw[at : at + 1] for at in range(len(raw)))) == expected
    for cut in range(0, len(raw), 7):
        assert chunks(raw[:cut], raw[cut:]) == expected


def test_a_stream_that_just_ends_is_not_complete() -> None:
    raw = b"".join(EVERYTHING)
    meter = ADAPTER.meter(STREAM, UPSTREAM)
    meter.feed(raw[:-1])
    assert not meter.complete
    assert meter.usage is None
    meter.feed(raw[-1:])
    assert meter.complete
    assert meter.feed(b"".join(EVERYTHING)) == []


@pytest.mark.parametrize(
    ("headers", "payload", "verdict"),
    [
        ({":message-type": "exception", ":exception-type": "throttlingException"}, b'{"message": "slow"}', Verdict.RATE_LIMITED),
        ({":message-type": "exception", ":exception-type": "modelStreamErrorException"}, b"{}", Verdict.UNAVAILABLE),
        ({":message-type": "exception", ":exception-type": "internalServerException"}, b"", Verdict.UNAVAILABLE),
        ({":message-type": "exception", ":exception-type": "validationException"}, b"[]", Verdict.INVALID_REQUEST),
        ({":message-type": "exception", ":exception-type": "ofTomorrow"}, b"{}", Verdict.UNAVAILABLE),
        ({":message-type": "exception"}, b"no json", Verdict.BAD_PAYLOAD),
        ({":message-type": "error", ":error-code": "500", ":error-message": "no"}, b"", Verdict.UNAVAILABLE),
        ({}, b"", Verdict.UNAVAILABLE),
        ({":message-type": "event"}, b"{}", Verdict.BAD_PAYLOAD),
        ({":message-type": "event", ":event-type": "messageStop"}, b"{}", Verdict.BAD_PAYLOAD),
        ({":message-type": "event", ":event-type": "contentBlockDelta"}, b"5", Verdict.BAD_PAYLOAD),
        ({":message-type": "event", ":event-type": "contentBlockDelta"}, b'{"contentBlockIndex": 0, "delta": {"text": 5}}', Verdict.BAD_PAYLOAD),
    ],
)  # fmt: skip
def test_what_breaks_a_stream_off(
    headers: dict[str, str], payload: bytes, verdict: Verdict
) -> None:
    meter = ADAPTER.meter(STREAM, UPSTREAM)
    meter.feed(START + delta(text="a"))
    with pytest.raises(StreamFault) as caught:
        meter.feed(encoded(headers, payload))
    assert caught.value.outcome.verdict is verdict
    assert not meter.complete


def test_a_corrupt_frame_and_another_dialects_stream() -> None:
    for raw in (START[:-1] + b"\x00", b'data: {"choices": []}\n\n'):
        with pytest.raises(StreamFault) as caught:
            ADAPTER.meter(STREAM, UPSTREAM).feed(raw)
        assert caught.value.outcome.verdict is Verdict.BAD_PAYLOAD


@pytest.mark.parametrize("document", [{}, {"output": 5}, {"output": {"message": {"content": [5]}}}])
def test_whole_answers_that_are_none(document: Any) -> None:
    body = orjson.dumps(document)
    outcome = ADAPTER.outcome(200, {}, body)
    with pytest.raises(StreamFault) as caught:
        ADAPTER.meter(CHAT, UPSTREAM).whole(outcome, body)
    assert caught.value.outcome.verdict is Verdict.BAD_PAYLOAD


def test_a_streams_head_is_not_read() -> None:
    assert ADAPTER.outcome(200, {"content-type": CONTENT_TYPE}, b"").verdict is Verdict.OK


def test_embeddings_of_cohere() -> None:
    call = Call("embeddings", {"input": ["a", "b"]})
    meter = ADAPTER.meter(call, Upstream("bedrock", "https://b.example", "cohere.embed-v4:0"))
    for embeddings in ([[1.0], [2.0]], {"float": [[1.0], [2.0]]}):
        body = orjson.dumps({"embeddings": embeddings})
        answer = orjson.loads(meter.whole(ADAPTER.outcome(200, {}, body), body).body)
        assert [each["embedding"] for each in answer["data"]] == [[1.0], [2.0]]
