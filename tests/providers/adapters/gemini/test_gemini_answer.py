"""Gemini's bytes in, cut anywhere; exact OpenAI answer, chunks and usage out."""

from __future__ import annotations

import base64
import struct
from typing import Any

import orjson
import pytest

from providers import sse
from providers.adapter import Meter, StreamFault
from providers.adapters.gemini import ADAPTER
from providers.call import Call, Outcome, Upstream, Usage, Verdict

UPSTREAM = Upstream("gemini", "https://g.example/v1beta", "gemini-2.5-flash", "key")
JSON = {"content-type": "application/json"}
COUNTS = {
    "promptTokenCount": 20,
    "cachedContentTokenCount": 8,
    "toolUsePromptTokenCount": 3,
    "candidatesTokenCount": 5,
    "thoughtsTokenCount": 7,
    "totalTokenCount": 35,
}
USAGE = Usage(input_tokens=23, output_tokens=12, cached_tokens=8, reasoning_tokens=7)


def meter(**params: Any) -> Meter:
    params.setdefault("messages", [{"role": "user", "content": "Hi"}])
    return ADAPTER.meter(Call("chat.completions", params, request_id="req-1"), UPSTREAM)


def candidate(*parts: dict[str, Any], reason: str | None = "STOP", **more: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if reason:
        entry["finishReason"] = reason
    return {"candidates": [entry | more], "modelVersion": "gemini-2.5-flash", "responseId": "r1"}


def whole(document: Any, reader: Meter | None = None) -> dict[str, Any]:
    body = orjson.dumps(document)
    outcome = ADAPTER.outcome(200, JSON, body)
    assert outcome.verdict is Verdict.OK, outcome
    answer: dict[str, Any] = orjson.loads((reader or meter()).whole(outcome, body).body)
    return answer


def message_of(document: Any) -> dict[str, Any]:
    message: dict[str, Any] = whole(document)["choices"][0]["message"]
    return message


def wire(*documents: Any) -> bytes:
    return b"".join(b"data: " + orjson.dumps(each) + b"\r\n\r\n" for each in documents)


def fed(reader: Meter, *chunks: bytes) -> bytes:
    return b"".join(b"".join(reader.feed(chunk)) for chunk in chunks)


def chunks_of(raw: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(event.data) for event in sse.Decoder().feed(raw)]


def deltas_of(raw: bytes) -> list[tuple[dict[str, Any], str | None]]:
    choices = [choice for chunk in chunks_of(raw) for choice in chunk["choices"]]
    return [(choice["delta"], choice["finish_reason"]) for choice in choices]


def test_a_whole_answer_is_exactly_this() -> None:
    reader = meter()
    answer = whole(
        candidate({"text": "2 + 2"}, {"text": " = 4"}) | {"usageMetadata": COUNTS}, reader
    )
    assert isinstance(answer.pop("created"), int)
    assert answer == {
        "id": "chatcmpl-r1",
        "object": "chat.completion",
        "model": "gemini-2.5-flash",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "2 + 2 = 4", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 23,
            "completion_tokens": 12,
            "total_tokens": 35,
            "prompt_tokens_details": {"cached_tokens": 8},
            "completion_tokens_details": {"reasoning_tokens": 7},
        },
    }
    assert reader.usage == USAGE
    assert reader.complete
    assert reader.output_characters == len("2 + 2 = 4")


def test_thoughts_signatures_and_calls() -> None:
    message = message_of(
        candidate(
            {"text": "Hm. ", "thought": True},
            {"text": "Looking.", "thoughtSignature": "s1"},
            {
                "functionCall": {"name": "weather", "args": {"b": 1, "a": "å"}},
                "thoughtSignature": "s2",
            },
            {"functionCall": {"id": "theirs", "name": "now"}},
        )
    )
    first, second = message.pop("tool_calls")
    assert message == {
        "role": "assistant",
        "content": "Looking.",
        "refusal": None,
        "reasoning_content": "Hm. ",
        "extra_content": {"google": {"thought_signature": "s1"}},
    }
    assert first.pop("id").startswith("call_")
    assert first == {
        "type": "function",
        "function": {"name": "weather", "arguments": '{"b":1,"a":"å"}'},
        "extra_content": {"google": {"thought_signature": "s2"}},
    }
    assert second == {
        "id": "theirs",
        "type": "function",
        "function": {"name": "now", "arguments": "{}"},
    }


def test_made_ids_are_stable_distinct_and_short_enough_for_other_providers() -> None:
    calls = [{"functionCall": {"name": "f"}}, {"functionCall": {"name": "f"}}]
    first = [call["id"] for call in message_of(candidate(*calls))["tool_calls"]]
    again = [call["id"] for call in message_of(candidate(*calls))["tool_calls"]]
    other = candidate(*calls) | {"responseId": "r2"}
    assert first == again
    assert len({*first, *(call["id"] for call in message_of(other)["tool_calls"])}) == 4
    assert all(len(call_id) <= 40 for call_id in first)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
        ("OTHER", "content_filter"),
        ("A_REASON_OF_TOMORROW", "content_filter"),
    ],
)
def test_finish_reasons(reason: str, finish: str) -> None:
    assert whole(candidate({"text": "x"}, reason=reason))["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize(("reason", "finish"), [("STOP", "tool_calls"), ("MAX_TOKENS", "length")])
def test_finish_reasons_of_tool_calls(reason: str, finish: str) -> None:
    answer = whole(candidate({"functionCall": {"name": "f"}}, reason=reason))
    assert answer["choices"][0]["finish_reason"] == finish
    assert answer["choices"][0]["message"]["content"] is None


def test_a_blocked_prompt_is_an_answer() -> None:
    reader = meter()
    document = {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 4},
    }
    answer = whole(document, reader)
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert answer["choices"][0]["message"]["content"] == ""
    assert answer["id"] == "chatcmpl-req-1"
    assert answer["model"] == "gemini-2.5-flash"
    assert reader.usage == Usage(input_tokens=4)


def test_all_tokens_thought_away_is_an_empty_answer() -> None:
    document = {"candidates": [{"finishReason": "MAX_TOKENS", "index": 0}]}
    assert whole(document)["choices"][0]["finish_reason"] == "length"


def test_an_answer_without_counts_has_an_estimated_usage() -> None:
    reader = meter()
    answer = whole(candidate({"text": "x" * 40}), reader)
    assert reader.usage is None
    assert answer["usage"]["total_tokens"] > 0


def test_logprobs() -> None:
    result = {
        "chosenCandidates": [
            {"token": "å", "tokenId": 1, "logProbability": -0.5},
            {"token": "b", "logProbability": -1},
        ],
        "topCandidates": [{"candidates": [{"token": "å", "logProbability": -0.5}]}],
    }
    choice = whole(candidate({"text": "åb"}, logprobsResult=result))["choices"][0]
    first = {"token": "å", "logprob": -0.5, "bytes": [195, 165]}
    assert choice["logprobs"] == {
        "content": [
            first | {"top_logprobs": [first]},
            {"token": "b", "logprob": -1, "bytes": [98], "top_logprobs": []},
        ],
        "refusal": None,
    }


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"candidates": []},
        candidate({"text": "x"}, reason=None),
        candidate({"inlineData": {"mimeType": "image/png", "data": ""}}),
        candidate({"functionCall": {"args": {}}}),
        {"candidates": ["x"]},
        {"candidates": [{"content": {"parts": [{"text": 1}]}, "finishReason": "STOP"}]},
        {"candidates": [{"content": {"parts": ["x"]}, "finishReason": "STOP"}]},
        {"candidates": {"a": 1}},
        candidate({"text": "x"}) | {"usageMetadata": "x"},
        candidate({"text": "x"}) | {"usageMetadata": {"thoughtsTokenCount": "x"}},
    ],
)
def test_answers_that_are_not_of_the_dialect(document: Any) -> None:
    with pytest.raises(StreamFault) as fault:
        meter().whole(Outcome(Verdict.OK, 200, document=document), b"")
    assert fault.value.outcome.verdict is Verdict.BAD_PAYLOAD


STREAM = wire(
    candidate({"text": "Hm", "thought": True}, reason=None),
    candidate({"text": "Blå"}, reason=None) | {"usageMetadata": {"promptTokenCount": 20}},
    candidate({"text": "bär"}, reason=None),
    candidate(
        {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "s"}, reason=None
    ),
    candidate({"functionCall": {"name": "g"}}, reason=None),
    candidate({"text": "", "thoughtSignature": "t"}) | {"usageMetadata": COUNTS},
)


def test_a_stream_is_exactly_these_chunks() -> None:
    reader = meter(stream=True, stream_options={"include_usage": True})
    said = fed(reader, STREAM)
    assert reader.complete
    assert reader.usage == USAGE
    assert reader.output_characters == len("Hm" + "Blåbär" + "f" + '{"x":1}' + "g" + "{}")
    deltas = deltas_of(said)
    made = [delta["tool_calls"][0].pop("id") for delta, _ in deltas if "tool_calls" in delta]
    assert len(set(made)) == 2
    calls = [
        {
            "index": 0,
            "type": "function",
            "function": {"name": "f", "arguments": '{"x":1}'},
            "extra_content": {"google": {"thought_signature": "s"}},
        },
        {"index": 1, "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    assert deltas == [
        ({"role": "assistant", "reasoning_content": "Hm"}, None),
        ({"content": "Blå"}, None),
        ({"content": "bär"}, None),
        ({"tool_calls": [calls[0]]}, None),
        ({"tool_calls": [calls[1]]}, None),
        ({"extra_content": {"google": {"thought_signature": "t"}}}, None),
        ({}, "tool_calls"),
    ]
    for chunk in chunks_of(said):
        assert chunk["id"] == "chatcmpl-r1"
        assert chunk["object"] == "chat.completion.chunk"
        assert chunk["model"] == "gemini-2.5-flash"
        assert isinstance(chunk["created"], int)
    usage, done = reader.close()
    assert done == sse.DONE
    [last] = chunks_of(usage)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 35


@pytest.mark.unmeasured
def test_a_stream_cut_at_every_byte_says_the_same() -> None:
    expected = deltas_of(fed(meter(), STREAM))
    for cut in range(1, len(STREAM)):
        reader = meter()
        said = fed(reader, STREAM[:cut], STREAM[cut:])
        assert deltas_of(said) == expected
        assert reader.usage == USAGE
    single = meter()
    assert deltas_of(fed(single, *(STREAM[i : i + 1] for i in range(len(STREAM))))) == expected


def test_without_its_last_event_a_stream_is_not_complete() -> None:
    cut = STREAM.rindex(b"data: ")
    reader = meter()
    fed(reader, STREAM[:cut])
    assert not reader.complete
    assert reader.usage == Usage(input_tokens=20)  # as far as it was told
    assert reader.output_characters > 0


def test_the_client_that_did_not_ask_gets_no_usage_chunk() -> None:
    reader = meter(stream=True)
    fed(reader, STREAM)
    assert reader.close() == [sse.DONE]


def test_counts_after_the_finish_still_count() -> None:
    reader = meter()
    said = fed(reader, wire(candidate({"text": "x"})))
    assert reader.complete
    assert reader.usage is None
    assert fed(reader, wire({"usageMetadata": COUNTS})) == b""
    assert reader.usage == USAGE
    assert deltas_of(said)[-1] == ({}, "stop")


def test_a_blocked_prompt_streams_a_content_filter() -> None:
    reader = meter()
    said = fed(reader, wire({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}))
    assert reader.complete
    assert deltas_of(said) == [({"role": "assistant"}, "content_filter")]


@pytest.mark.parametrize(
    ("event", "verdict"),
    [
        (
            b'data: {"error":{"code":503,"status":"UNAVAILABLE","message":"Busy"}}\n\n',
            Verdict.UNAVAILABLE,
        ),
        (b'data: {"error":{"code":429,"message":"x"}}\n\n', Verdict.RATE_LIMITED),
        (
            b'data: {"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL"}]}\n\n',
            Verdict.BAD_PAYLOAD,
        ),
        (b"data: {broken\n\n", Verdict.BAD_PAYLOAD),
        (b"data: [1]\n\n", Verdict.BAD_PAYLOAD),
        (b'data: {"candidates":[1]}\n\n', Verdict.BAD_PAYLOAD),
        (b"data: " + b"x" * (sse.MAX_EVENT_BYTES + 1), Verdict.BAD_PAYLOAD),
    ],
)
def test_faults_in_a_stream(event: bytes, verdict: Verdict) -> None:
    reader = meter()
    fed(reader, wire(candidate({"text": "x"}, reason=None)))
    with pytest.raises(StreamFault) as fault:
        reader.feed(event)
    assert fault.value.outcome.verdict is verdict
    assert not reader.complete


def test_what_came_with_a_fault_is_counted() -> None:
    reader = meter()
    with pytest.raises(StreamFault):
        reader.feed(wire(candidate({"text": "four"}, reason=None)) + b"data: {broken\n\n")
    assert reader.output_characters == len("four")


def test_embeddings() -> None:
    document = {"embeddings": [{"values": [0.5, -1]}, {"values": [1.5, 2]}]}
    params = {"input": ["Lund", "Malmö"], "model": "small"}
    reader = ADAPTER.meter(Call("embeddings", params), UPSTREAM)
    answer = whole(document, reader)
    usage = answer.pop("usage")
    assert answer == {
        "object": "list",
        "model": "gemini-2.5-flash",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -1]},
            {"object": "embedding", "index": 1, "embedding": [1.5, 2]},
        ],
    }
    assert reader.usage is not None
    assert reader.usage.estimated
    assert usage == {
        "prompt_tokens": reader.usage.input_tokens,
        "total_tokens": reader.usage.input_tokens,
    }
    assert reader.complete
    assert reader.close() == []


def test_embeddings_as_the_openai_package_asks_for_them() -> None:
    params = {"input": "Lund", "encoding_format": "base64"}
    reader = ADAPTER.meter(Call("embeddings", params), UPSTREAM)
    [entry] = whole({"embeddings": [{"values": [0.5, -1]}]}, reader)["data"]
    assert struct.unpack("<2f", base64.b64decode(entry["embedding"])) == (0.5, -1.0)


@pytest.mark.parametrize(
    "document", [{}, {"embeddings": [{}]}, {"embeddings": [{"values": ["x"]}]}, {"embeddings": []}]
)
def test_embeddings_that_are_not_of_the_dialect(document: Any) -> None:
    reader = ADAPTER.meter(
        Call("embeddings", {"input": "x", "encoding_format": "base64"}), UPSTREAM
    )
    with pytest.raises(StreamFault) as fault:
        reader.whole(Outcome(Verdict.OK, 200, document=document), b"")
    assert fault.value.outcome.verdict is Verdict.BAD_PAYLOAD
    with pytest.raises(StreamFault):
        reader.feed(b"data: {}\n\n")


def test_the_estimate_is_the_prompt_and_the_most_it_may_answer() -> None:
    call = Call(
        "chat.completions", {"messages": [{"role": "user", "content": "x" * 400}], "max_tokens": 9}
    )
    estimate = ADAPTER.estimate(call, UPSTREAM)
    assert estimate.estimated
    assert estimate.output_tokens == 9
    assert estimate.input_tokens >= 100
    embeddings = ADAPTER.estimate(Call("embeddings", {"input": "x" * 400}), UPSTREAM)
    assert embeddings.output_tokens == 0
    assert embeddings.input_tokens >= 100
