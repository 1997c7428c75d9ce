"""Conformance: every recorded Gemini answer comes out as the openai package's own types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
import time_machine
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from providers import sse
from providers.adapters.gemini import ADAPTER
from providers.call import Call, Outcome, Upstream, Verdict

FOLDER = Path(__file__).parents[5] / "shared/recordings/ai/gemini"
UPSTREAM = Upstream("gemini", "https://g.example/v1beta", "gemini-model", "key")
HI = [{"role": "user", "content": "Hi"}]


def recordings(pattern: str) -> list[Any]:
    found = sorted(FOLDER.glob(pattern))
    assert found, f"no recording fits {pattern}"
    return [pytest.param(path, id=path.stem) for path in found]


def answer_in(path: Path) -> tuple[int, dict[str, str], bytes]:
    response = json.loads(path.read_text())["response"]
    body = response["body"]
    raw = body.encode() if response["body_encoding"] == "text" else orjson.dumps(body)
    if path.stem == "ai.chat--stream-basic-native":
        raw = raw.replace(b"\n", b"\n\n")  # its source kept the lines and lost the empty ones
    return response["status"], {"content-type": response["content_type"]}, raw


def judged(path: Path) -> tuple[Outcome, bytes]:
    status, headers, raw = answer_in(path)
    return ADAPTER.outcome(status, headers, raw), raw


def is_stream(path: Path) -> bool:
    return "--stream" in path.stem


@pytest.mark.parametrize(
    "path",
    [
        p
        for p in recordings("ai.chat--*.json")
        if not is_stream(p.values[0]) and "error" not in p.id
    ],
)
def test_whole_answers(path: Path) -> None:
    outcome, raw = judged(path)
    assert outcome.verdict is Verdict.OK
    reader = ADAPTER.meter(Call("chat.completions", {"messages": HI}), UPSTREAM)
    answer = ChatCompletion.model_validate_json(reader.whole(outcome, raw).body)
    counts = orjson.loads(raw)["usageMetadata"]
    assert reader.complete
    assert answer.usage is not None
    assert answer.usage.total_tokens == counts["totalTokenCount"]
    choice = answer.choices[0]
    assert choice.message.content or choice.message.tool_calls
    assert (choice.finish_reason == "tool_calls") == bool(choice.message.tool_calls)


@pytest.mark.unmeasured
@time_machine.travel(0, tick=False)  # `created` is the time of day
@pytest.mark.parametrize("path", recordings("ai.chat--stream-*.json"))
def test_streams_cut_at_every_byte(path: Path) -> None:
    outcome, raw = judged(path)
    assert outcome.verdict is Verdict.OK

    def said(*chunks: bytes) -> bytes:
        params = {"messages": HI, "stream": True, "stream_options": {"include_usage": True}}
        reader = ADAPTER.meter(Call("chat.completions", params), UPSTREAM)
        events = [event for chunk in chunks for event in reader.feed(chunk)]
        assert reader.complete
        assert reader.usage is not None
        return b"".join(events + reader.close())

    expected = said(raw)
    assert said(*(raw[i : i + 1] for i in range(len(raw)))) == expected
    for cut in range(1, len(raw), max(1, len(raw) // 1000)):
        assert said(raw[:cut], raw[cut:]) == expected
    *events, done = sse.Decoder().feed(expected)
    assert done.data == b"[DONE]"
    chunks = [ChatCompletionChunk.model_validate_json(event.data) for event in events]
    assert chunks[-1].usage is not None
    assert chunks[-2].choices[0].finish_reason in ("stop", "tool_calls")
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize(
    ("name", "verdict", "wait"),
    [("error-auth", Verdict.AUTH, None), ("error-429-quota", Verdict.RATE_LIMITED, 48.0)],
)
def test_errors(name: str, verdict: Verdict, wait: float | None) -> None:
    outcome, _ = judged(FOLDER / f"ai.chat--{name}.json")
    assert (outcome.verdict, outcome.retry_after) == (verdict, wait)


@pytest.mark.parametrize("path", recordings("ai.embeddings--*.json"))
@pytest.mark.parametrize("form", ["float", "base64"])
def test_embeddings(path: Path, form: str) -> None:
    outcome, raw = judged(path)
    vectors = [entry["values"] for entry in outcome.document["embeddings"]]
    params = {"input": ["text"] * len(vectors), "encoding_format": form}
    reader = ADAPTER.meter(Call("embeddings", params), UPSTREAM)
    answer = orjson.loads(reader.whole(outcome, raw).body)
    if form == "float":
        parsed = CreateEmbeddingResponse.model_validate(answer)
        assert [entry.embedding for entry in parsed.data] == vectors
    assert len(answer["data"]) == len(vectors)


@pytest.mark.parametrize("name", ["tool-call-gemini3", "stream-tool-call-gemini3"])
def test_a_signature_comes_back_to_gemini_as_it_left(name: str) -> None:
    outcome, raw = judged(FOLDER / f"ai.chat--{name}.json")
    reader = ADAPTER.meter(Call("chat.completions", {"messages": HI}), UPSTREAM)
    if outcome.document:
        message = orjson.loads(reader.whole(outcome, raw).body)["choices"][0]["message"]
    else:
        first = orjson.loads(reader.feed(raw)[0].removeprefix(b"data: "))
        message = first["choices"][0]["delta"]
    call_id = message["tool_calls"][0]["id"]
    history = [*HI, message, {"role": "tool", "tool_call_id": call_id, "content": "sunny"}]
    request = ADAPTER.request(Call("chat.completions", {"messages": history}), UPSTREAM)
    _, call, result = orjson.loads(request.body or b"")["contents"]
    signature = call["parts"][0]["thoughtSignature"]
    assert f'"thoughtSignature":"{signature}"'.encode() in raw
    assert result["parts"][0]["functionResponse"]["name"] == "weather"
