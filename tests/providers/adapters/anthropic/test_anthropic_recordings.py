"""Conformance: every recorded Anthropic answer comes out as the openai package's own types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
import time_machine
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from providers import sse
from providers.adapters.anthropic import ADAPTER
from providers.call import Call, Outcome, Upstream, Verdict

FOLDER = Path(__file__).parents[5] / "shared/recordings/ai/anthropic"
UPSTREAM = Upstream("anthropic", "https://a.example", "claude-x", "key")
HI = [{"role": "user", "content": "Hi"}]
ERRORS = {
    "ai.chat--error-auth": (Verdict.AUTH, 401),
    "ai.chat--error-context-length": (Verdict.INVALID_REQUEST, 400),
}


def recordings(*, stream: bool) -> list[Any]:
    found = sorted(FOLDER.glob("ai.chat--*.json"))
    assert len(found) >= 18, "the recordings are not where they should be"
    return [
        pytest.param(path, id=path.stem)
        for path in found
        if path.stem not in ERRORS and ("--stream" in path.stem) == stream
    ]


def judged(path: Path) -> tuple[Outcome, bytes]:
    response = json.loads(path.read_text())["response"]
    body = response["body"]
    raw = body.encode() if response["body_encoding"] == "text" else orjson.dumps(body)
    headers = {"content-type": response["content_type"]}
    return ADAPTER.outcome(response["status"], headers, raw), raw


@pytest.mark.parametrize("path", recordings(stream=False))
def test_whole_answers(path: Path) -> None:
    outcome, raw = judged(path)
    assert outcome.verdict is Verdict.OK
    reader = ADAPTER.meter(Call("chat.completions", {"messages": HI}), UPSTREAM)
    answer = ChatCompletion.model_validate_json(reader.whole(outcome, raw).body, strict=True)
    counts = orjson.loads(raw)["usage"]
    assert reader.complete
    assert answer.usage is not None
    assert answer.usage.completion_tokens == counts["output_tokens"]
    assert answer.usage.prompt_tokens == sum(
        counts[name]
        for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    )
    choice = answer.choices[0]
    assert choice.message.content or choice.message.tool_calls
    assert (choice.finish_reason == "tool_calls") == bool(choice.message.tool_calls)


@pytest.mark.unmeasured
@time_machine.travel(0, tick=False)  # `created` is the time of day
@pytest.mark.parametrize("path", recordings(stream=True))
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
    for cut in range(1, len(raw), max(1, len(raw) // 200)):
        assert said(raw[:cut], raw[cut:]) == expected
    *events, done = sse.Decoder().feed(expected)
    assert done.data == b"[DONE]"
    chunks = [ChatCompletionChunk.model_validate_json(event.data) for event in events]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage is not None
    assert chunks[-2].choices[0].finish_reason in ("stop", "tool_calls")
    assert len({chunk.id for chunk in chunks}) == 1
    assert_calls_are_whole(chunks)


def assert_calls_are_whole(chunks: list[ChatCompletionChunk]) -> None:
    arguments: dict[int, str] = {}
    for chunk in chunks:
        for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            assert call.function is not None
            assert (call.index not in arguments) == bool(call.id)
            arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    assert list(arguments) == list(range(len(arguments)))
    for text in arguments.values():
        assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    outcome, _ = judged(FOLDER / f"{name}.json")
    assert (outcome.verdict, outcome.status) == ERRORS[name]
    assert outcome.message


@pytest.mark.parametrize("name", ["context-editing", "stream-thinking"])
def test_a_thought_comes_back_to_anthropic_as_it_left(name: str) -> None:
    outcome, raw = judged(FOLDER / f"ai.chat--{name}.json")
    params = {"messages": HI, "stream": outcome.document is None}
    reader = ADAPTER.meter(Call("chat.completions", params), UPSTREAM)
    if outcome.document:
        message = orjson.loads(reader.whole(outcome, raw).body)["choices"][0]["message"]
        thought = message["reasoning_content"]
    else:
        deltas = [
            orjson.loads(event.removeprefix(b"data: "))["choices"][0]["delta"]
            for event in reader.feed(raw)
        ]
        thought = "".join(delta.get("reasoning_content", "") for delta in deltas)
        [extra] = [delta["extra_content"] for delta in deltas if "extra_content" in delta]
        message = {"role": "assistant", "content": "x", "extra_content": extra}
    body = ADAPTER.request(Call("chat.completions", {"messages": [*HI, message]}), UPSTREAM).body
    block = orjson.loads(body or b"")["messages"][1]["content"][0]
    assert (block["type"], block["thinking"]) == ("thinking", thought)
    assert b'"signature":' + orjson.dumps(block["signature"]) in raw
