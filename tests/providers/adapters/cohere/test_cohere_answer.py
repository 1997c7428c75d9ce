"""Cohere's bytes in, cut anywhere; exact OpenAI answer, chunks and usage out."""

from __future__ import annotations

import base64
import struct
from typing import Any

import orjson
import pytest

from providers import sse
from providers.adapter import Meter, StreamFault
from providers.adapters.cohere import ADAPTER
from providers.call import Call, Outcome, Upstream, Usage, Verdict

UPSTREAM = Upstream("cohere", "https://c.example", "command-a", "key")
JSON = {"content-type": "application/json"}
COUNTS = {
    "billed_units": {"input_tokens": 8, "output_tokens": 9},
    "tokens": {"input_tokens": 503, "output_tokens": 11.0},
    "cached_tokens": 448,
}
USAGE = Usage(input_tokens=503, output_tokens=11, cached_tokens=448)


def meter(**params: Any) -> Meter:
    params.setdefault("messages", [{"role": "user", "content": "Hi"}])
    return ADAPTER.meter(Call("chat.completions", params, request_id="req-1"), UPSTREAM)


def answered(reason: str = "COMPLETE", **message: Any) -> dict[str, Any]:
    message.setdefault("content", [{"type": "text", "text": "4."}])
    told = {"role": "assistant", **message}
    return {"id": "a1", "message": told, "finish_reason": reason, "usage": COUNTS}


def whole(document: Any, reader: Meter | None = None) -> dict[str, Any]:
    body = orjson.dumps(document)
    outcome = ADAPTER.outcome(200, JSON, body)
    assert outcome.verdict is Verdict.OK, outcome
    answer: dict[str, Any] = orjson.loads((reader or meter()).whole(outcome, body).body)
    return answer


def event(kind: str, message: Any = None, **more: Any) -> bytes:
    document: dict[str, Any] = {"type": kind, **more}
    if message is not None:
        document["delta"] = {"message": message}
    return f"event: {kind}\ndata: ".encode() + orjson.dumps(document) + b"\n\n"


def ending(reason: str = "TOOL_CALL", **more: Any) -> bytes:
    return event("message-end", delta={"finish_reason": reason, "usage": COUNTS, **more})


def fed(reader: Meter, *chunks: bytes) -> bytes:
    return b"".join(b"".join(reader.feed(chunk)) for chunk in chunks)


def chunks_of(raw: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(each.data) for each in sse.Decoder().feed(raw)]


def deltas_of(raw: bytes) -> list[tuple[dict[str, Any], str | None]]:
    choices = [choice for chunk in chunks_of(raw) for choice in chunk["choices"]]
    return [(choice["delta"], choice["finish_reason"]) for choice in choices]


def call(name: str, arguments: str = "") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"{name}_1", "type": "function", "function": function}


def test_a_whole_answer_is_exactly_this() -> None:
    reader = meter()
    answer = whole(answered(), reader)
    assert isinstance(answer.pop("created"), int)
    assert answer == {
        "id": "chatcmpl-a1",
        "object": "chat.completion",
        "model": "command-a",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "4.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 503,
            "completion_tokens": 11,
            "total_tokens": 514,
            "prompt_tokens_details": {"cached_tokens": 448},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }
    assert (reader.usage, reader.complete, reader.output_characters) == (USAGE, True, 2)


def test_thinking_plan_calls_and_citations() -> None:
    citation = {"start": 0, "end": 2, "text": "4.", "sources": [], "type": "TEXT_CONTENT"}
    document = answered(
        "TOOL_CALL",
        content=[{"type": "thinking", "thinking": "Hm. "}],
        tool_plan="I will look.",
        tool_calls=[call("weather", '{"a":1}'), call("now")],
        citations=[citation],
    )
    choice = whole(document)["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "Hm. I will look.",
        "tool_calls": [call("weather", '{"a":1}'), call("now", "")],
        "citations": [citation],
    }


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("COMPLETE", "stop"),
        ("STOP_SEQUENCE", "stop"),
        ("MAX_TOKENS", "length"),
        ("TOOL_CALL", "tool_calls"),
        ("ERROR_TOXIC", "content_filter"),
        ("A_REASON_OF_TOMORROW", "content_filter"),
    ],
)
def test_finish_reasons(reason: str, finish: str) -> None:
    assert whole(answered(reason))["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        ({"billed_units": {"input_tokens": 8, "output_tokens": 9}}, Usage(8, 9)),
        ({"tokens": {"input_tokens": 5}}, Usage(5, 0)),
        ({}, None),
        (None, None),
    ],
)
def test_usage_that_is_told_in_part(told: Any, usage: Usage | None) -> None:
    reader = meter()
    answer = whole(answered() | {"usage": told}, reader)
    assert reader.usage == usage
    assert answer["usage"]["total_tokens"] > 0


def test_logprobs() -> None:
    items = [
        {"text": "åb", "token_ids": [1, 2], "logprobs": [-0.5, -1]},
        {"token_ids": [3], "logprobs": [-2]},
    ]
    content = whole(answered() | {"logprobs": items})["choices"][0]["logprobs"]["content"]
    assert content == [
        {"token": "åb", "logprob": -0.5, "bytes": [195, 165, 98], "top_logprobs": []},
        {"token": "", "logprob": -1, "bytes": [], "top_logprobs": []},
        {"token": "", "logprob": -2, "bytes": [], "top_logprobs": []},
    ]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"message": "x", "finish_reason": "COMPLETE"},
        answered(content="x"),
        answered(content=[{"text": 1}]),
        answered(tool_calls=[{"id": "a"}]),
        answered() | {"usage": "x"},
        answered() | {"logprobs": [{}]},
        {"message": {"content": []}},
    ],
)
def test_answers_that_are_not_of_the_dialect(document: Any) -> None:
    with pytest.raises(StreamFault) as fault:
        meter().whole(Outcome(Verdict.OK, 200, document=document), b"")
    assert fault.value.outcome.verdict is Verdict.BAD_PAYLOAD


CITATION = {"start": 0, "end": 3, "text": "Blå", "sources": []}
STREAM = b"".join(
    [
        event("message-start", {"role": "assistant", "content": []}, id="a1"),
        event("content-start", {"content": {"type": "thinking", "thinking": ""}}, index=0),
        event("content-delta", {"content": {"thinking": "Hm"}}, index=0),
        event("content-end", index=0),
        event("content-start", {"content": {"type": "text", "text": ""}}, index=1),
        event("content-delta", {"content": {"text": "Blå"}}, index=1),
        event("citation-start", {"citations": CITATION}, index=0),
        event("citation-end", index=0),
        event("a-thing-of-tomorrow", index=0),
        event("tool-plan-delta", {"tool_plan": "Look."}),
        event("tool-call-start", {"tool_calls": call("f")}, index=0),
        event("tool-call-delta", {"tool_calls": {"function": {"arguments": '{"å"'}}}, index=0),
        event("tool-call-delta", {"tool_calls": {"function": {"arguments": ":1}"}}}, index=0),
        event("tool-call-end", index=0),
        event("tool-call-start", {"tool_calls": call("g")}, index=1),
        event("tool-call-end", index=1),
        ending(),
        b"data: [DONE]\n\n",
    ]
)


def test_a_stream_is_exactly_these_chunks() -> None:
    reader = meter(stream=True, stream_options={"include_usage": True})
    said = fed(reader, STREAM)
    assert reader.complete
    assert reader.usage == USAGE
    assert reader.output_characters == len("Hm" + "Blå" + "Look." + "f" + '{"å":1}' + "g")
    assert deltas_of(said) == [
        ({"role": "assistant", "reasoning_content": "Hm"}, None),
        ({"content": "Blå"}, None),
        ({"citations": [CITATION]}, None),
        ({"reasoning_content": "Look."}, None),
        ({"tool_calls": [{"index": 0, **call("f")}]}, None),
        ({"tool_calls": [{"index": 0, "function": {"arguments": '{"å"'}}]}, None),
        ({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}, None),
        ({"tool_calls": [{"index": 1, **call("g")}]}, None),
        ({}, "tool_calls"),
    ]
    for chunk in chunks_of(said):
        assert chunk["id"] == "chatcmpl-a1"
        assert chunk["object"] == "chat.completion.chunk"
        assert chunk["model"] == "command-a"
    usage, done = reader.close()
    assert done == sse.DONE
    [last] = chunks_of(usage)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 514


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
    reader = meter()
    fed(reader, STREAM[: STREAM.index(b"event: message-end")], b"data: [DONE]\n\n")
    assert not reader.complete
    assert reader.usage is None


def test_logprobs_in_a_stream_and_no_usage_chunk_unasked() -> None:
    item = {"text": "a", "token_ids": [1], "logprobs": [-1]}
    reader = meter(stream=True)
    said = fed(
        reader,
        event("content-delta", {"content": {"text": "a"}}, index=0, logprobs=item),
        ending("COMPLETE"),
    )
    [first, last] = [chunk["choices"][0] for chunk in chunks_of(said)]
    assert first["logprobs"]["content"][0]["logprob"] == -1
    assert (last["delta"], last["finish_reason"]) == ({}, "stop")
    assert reader.close() == [sse.DONE]


@pytest.mark.parametrize(
    ("broken", "verdict"),
    [
        (ending("ERROR"), Verdict.UNAVAILABLE),
        (ending("TIMEOUT"), Verdict.TIMEOUT),
        (b'data: {"id":"1","message":"too busy"}\n\n', Verdict.UNAVAILABLE),
        (b"data: {broken\n\n", Verdict.BAD_PAYLOAD),
        (b"data: [1]\n\n", Verdict.BAD_PAYLOAD),
        (b"data: {}\n\n", Verdict.BAD_PAYLOAD),
        (event("content-delta", index=0), Verdict.BAD_PAYLOAD),
        (event("content-delta", {"content": "x"}, index=0), Verdict.BAD_PAYLOAD),
        (event("tool-call-start", {"tool_calls": []}, index=0), Verdict.BAD_PAYLOAD),
        (event("message-end"), Verdict.BAD_PAYLOAD),
    ],
)
def test_faults_in_a_stream(broken: bytes, verdict: Verdict) -> None:
    reader = meter()
    fed(reader, event("content-delta", {"content": {"text": "a"}}, index=0))
    with pytest.raises(StreamFault) as fault:
        reader.feed(broken)
    assert fault.value.outcome.verdict is verdict
    assert not reader.complete


def embedded(**more: Any) -> dict[str, Any]:
    return {"id": "e", "embeddings": {"float": [[0.5, -1], [1.5, 2]]}, **more}


def test_embeddings() -> None:
    reader = ADAPTER.meter(Call("embeddings", {"input": ["Lund", "Malmö"]}), UPSTREAM)
    answer = whole(embedded(meta={"billed_units": {"input_tokens": 3}}), reader)
    assert answer == {
        "object": "list",
        "model": "command-a",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -1]},
            {"object": "embedding", "index": 1, "embedding": [1.5, 2]},
        ],
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    assert reader.usage == Usage(input_tokens=3)
    assert reader.complete
    assert reader.close() == []


def test_embeddings_as_the_openai_package_asks_for_them_and_without_a_count() -> None:
    params = {"input": ["Lund", "Malmö"], "encoding_format": "base64"}
    reader = ADAPTER.meter(Call("embeddings", params), UPSTREAM)
    first, _ = whole(embedded(), reader)["data"]
    assert struct.unpack("<2f", base64.b64decode(first["embedding"])) == (0.5, -1.0)
    assert reader.usage is not None
    assert reader.usage.estimated


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"embeddings": []},
        {"embeddings": {"float": [["x"], [1]]}},
        {"embeddings": {"float": [[1]]}},
        embedded(meta="x"),
    ],
)
def test_embeddings_that_are_not_of_the_dialect(document: Any) -> None:
    params = {"input": ["a", "b"], "encoding_format": "base64"}
    reader = ADAPTER.meter(Call("embeddings", params), UPSTREAM)
    with pytest.raises(StreamFault) as fault:
        reader.whole(Outcome(Verdict.OK, 200, document=document), b"")
    assert fault.value.outcome.verdict is Verdict.BAD_PAYLOAD
    with pytest.raises(StreamFault):
        reader.feed(b"data: {}\n\n")


def test_the_estimate_is_the_prompt_and_the_most_it_may_answer() -> None:
    messages = [{"role": "user", "content": "x" * 400}]
    call = Call("chat.completions", {"messages": messages, "max_tokens": 9})
    estimate = ADAPTER.estimate(call, UPSTREAM)
    assert estimate.estimated
    assert estimate.output_tokens == 9
    assert estimate.input_tokens >= 100
    embeddings = ADAPTER.estimate(Call("embeddings", {"input": "x" * 400}), UPSTREAM)
    assert embeddings.output_tokens == 0
    assert embeddings.input_tokens >= 100
