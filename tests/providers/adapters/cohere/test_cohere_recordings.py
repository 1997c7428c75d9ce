"""Conformance: every recorded Cohere answer comes out as the openai package's own types."""

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
from providers.adapters.cohere import ADAPTER
from providers.call import Call, Outcome, Upstream, Verdict

FOLDER = Path(__file__).parents[5] / "shared/recordings/ai/cohere"
UPSTREAM = Upstream("cohere", "https://c.example", "command", "key")
HI = [{"role": "user", "content": "Hi"}]


def recordings(pattern: str) -> list[Any]:
    found = sorted(FOLDER.glob(pattern))
    assert found, f"no recording fits {pattern}"
    return [pytest.param(path, id=path.stem) for path in found]


def judged(path: Path) -> tuple[Outcome, bytes]:
    response = json.loads(path.read_text())["response"]
    body = response["body"]
    raw = body.encode() if response["body_encoding"] == "text" else orjson.dumps(body)
    headers = {"content-type": response["content_type"]}
    return ADAPTER.outcome(response["status"], headers, raw), raw


def is_whole(name: str) -> bool:
    return "--stream" not in name and "--error" not in name


@pytest.mark.parametrize("path", [p for p in recordings("ai.chat--*.json") if is_whole(str(p.id))])
def test_whole_answers(path: Path) -> None:
    outcome, raw = judged(path)
    assert outcome.verdict is Verdict.OK
    reader = ADAPTER.meter(Call("chat.completions", {"messages": HI}), UPSTREAM)
    answer = ChatCompletion.model_validate_json(reader.whole(outcome, raw).body)
    tokens = outcome.document["usage"]["tokens"]
    assert reader.complete
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == tokens["input_tokens"]
    assert answer.usage.completion_tokens == tokens["output_tokens"]
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


def test_streamed_arguments_join_to_json() -> None:
    _, raw = judged(FOLDER / "ai.chat--stream-tool-call.json")
    reader = ADAPTER.meter(Call("chat.completions", {"messages": HI}), UPSTREAM)
    arguments: dict[int, str] = {}
    for event in sse.Decoder().feed(b"".join(reader.feed(raw))):
        for call in orjson.loads(event.data)["choices"][0]["delta"].get("tool_calls", []):
            index = call["index"]
            arguments[index] = arguments.get(index, "") + call["function"]["arguments"]
    assert list(arguments) == [0, 1]
    assert all(isinstance(orjson.loads(text), dict) for text in arguments.values())


@pytest.mark.parametrize(
    ("name", "verdict"),
    [("error-auth", Verdict.AUTH), ("error-context-length", Verdict.INVALID_REQUEST)],
)
def test_errors(name: str, verdict: Verdict) -> None:
    outcome, _ = judged(FOLDER / f"ai.chat--{name}.json")
    assert outcome.verdict is verdict
    assert outcome.message


@pytest.mark.parametrize("path", recordings("ai.embeddings--*.json"))
@pytest.mark.parametrize("form", ["float", "base64"])
def test_embeddings(path: Path, form: str) -> None:
    outcome, raw = judged(path)
    vectors = outcome.document["embeddings"]["float"]
    params = {"input": ["text"] * len(vectors), "encoding_format": form}
    reader = ADAPTER.meter(Call("embeddings", params), UPSTREAM)
    answer = orjson.loads(reader.whole(outcome, raw).body)
    if form == "float":
        parsed = CreateEmbeddingResponse.model_validate(answer)
        assert [entry.embedding for entry in parsed.data] == vectors
    assert len(answer["data"]) == len(vectors)
    assert answer["usage"]["prompt_tokens"] == 3
