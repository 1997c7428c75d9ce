"""Conformance: every recorded answer of an OpenAI-compatible service comes out as the openai
package's own types, and every recorded refusal as the right verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from providers import sse
from providers.adapter import StreamFault
from providers.adapters.openai import ADAPTER
from providers.call import Call, Outcome, Upstream, Verdict

FOLDER = Path(__file__).parents[5] / "shared/recordings/ai"
SERVICES = (
    *("alibaba", "azure-openai", "deepseek", "groq", "mistral", "ollama-cloud", "openai"),
    *("openrouter", "perplexity", "xai", "zai"),
)
HI = [{"role": "user", "content": "Hi"}]
UPSTREAM = Upstream("lab", "https://o.example/v1", "m", "key")
CHAT = Call("chat.completions", {"model": "m", "messages": HI}, request_id="req-1")
STREAM = Call(
    "chat.completions",
    {**CHAT.params, "stream": True, "stream_options": {"include_usage": True}},
    request_id="req-1",
)


def response_of(path: Path) -> dict[str, Any]:
    response: dict[str, Any] = json.loads(path.read_text())["response"]
    return response


def body_of(response: dict[str, Any]) -> bytes:
    body = response["body"]
    return body.encode() if response["body_encoding"] == "text" else orjson.dumps(body)


def is_of_another_api(path: Path) -> bool:
    """OpenAI's Responses API, which some services share."""
    body = response_of(path)["body"]
    if isinstance(body, str):
        return body.startswith("event: response.")
    return body.get("object") == "response"


def found(pattern: str) -> list[Any]:
    paths = [p for service in SERVICES for p in sorted((FOLDER / service).glob(pattern))]
    kept = [path for path in paths if not is_of_another_api(path)]
    assert kept, f"no recording fits {pattern}"
    return [pytest.param(path, id=f"{path.parent.name}/{path.stem}") for path in kept]


def whole_answers() -> list[Any]:
    return [p for p in found("ai.chat--*.json") if "--stream" not in p.id and "error" not in p.id]


def judged(path: Path) -> tuple[Outcome, bytes]:
    response = response_of(path)
    body = body_of(response)
    headers = {"content-type": response["content_type"], **response["headers"]}
    return ADAPTER.outcome(response["status"], headers, body), body


@pytest.mark.parametrize("path", whole_answers())
def test_whole_answers(path: Path) -> None:
    outcome, body = judged(path)
    assert outcome.verdict is Verdict.OK
    meter = ADAPTER.meter(CHAT, UPSTREAM)
    said = orjson.loads(meter.whole(outcome, body).body)
    if said.get("service_tier") == "on_demand":  # Groq's own word, passed on as it came
        del said["service_tier"]
    answer = ChatCompletion.model_validate(said)
    told = outcome.document["usage"]
    assert meter.complete
    assert meter.usage is not None
    assert meter.usage.input_tokens == told["prompt_tokens"]
    assert meter.usage.input_tokens + meter.usage.output_tokens == told["total_tokens"]
    assert meter.usage.reasoning_tokens <= meter.usage.output_tokens
    assert meter.usage.cached_tokens <= meter.usage.input_tokens
    assert answer.usage is not None
    assert answer.usage.completion_tokens == meter.usage.output_tokens
    [choice] = answer.choices
    assert choice.message.content or choice.message.tool_calls
    assert (choice.finish_reason == "tool_calls") == bool(choice.message.tool_calls)
    assert meter.output_characters > 0


@pytest.mark.parametrize("path", found("ai.chat--stream-*.json"))
def test_streams(path: Path) -> None:
    body = body_of(response_of(path))
    meter = ADAPTER.meter(STREAM, UPSTREAM)
    said = meter.feed(body)
    assert meter.complete
    assert (meter.usage is not None) == (b'"usage"' in body)
    chunks = [ChatCompletionChunk.model_validate_json(e.data) for e in events(said)]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    finish = [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason]
    called = any(c.choices[0].delta.tool_calls for c in chunks)
    assert finish[-1] == ("tool_calls" if called else finish[-1])
    assert meter.output_characters > 0
    usage, done = meter.close()
    closing = ChatCompletionChunk.model_validate_json(events([usage])[0].data)
    assert closing.choices == []
    assert closing.usage is not None
    assert closing.usage.total_tokens > 0
    if meter.usage:
        assert closing.usage.completion_tokens == meter.usage.output_tokens
    assert closing.id == chunks[-1].id
    assert done == sse.DONE


@pytest.mark.unmeasured
@pytest.mark.parametrize("path", found("ai.chat--stream-*.json"))
def test_streams_cut_anywhere_say_the_same(path: Path) -> None:
    """Large recordings are cut at fewer places, so that the suite stays quick."""
    body = body_of(response_of(path))
    expected, meter = b"".join(ADAPTER.meter(STREAM, UPSTREAM).feed(body)), None
    step = max(1, len(body) ** 2 // 4_000_000)
    for cut in range(1, len(body), step):
        meter = ADAPTER.meter(STREAM, UPSTREAM)
        said = b"".join(meter.feed(body[:cut]) + meter.feed(body[cut:]))
        assert said == expected
    assert meter is not None


def events(said: list[bytes]) -> list[sse.Event]:
    return sse.Decoder().feed(b"".join(said))


@pytest.mark.parametrize("path", found("ai.embeddings--*.json"))
def test_embeddings(path: Path) -> None:
    outcome, body = judged(path)
    assert outcome.verdict is Verdict.OK
    texts = ["x"] * len(outcome.document["data"])
    meter = ADAPTER.meter(Call("embeddings", {"model": "m", "input": texts}), UPSTREAM)
    answer = CreateEmbeddingResponse.model_validate_json(meter.whole(outcome, body).body)
    assert len(answer.data) == len(texts)
    assert meter.usage is not None
    assert meter.usage.input_tokens == outcome.document["usage"]["prompt_tokens"]


VERDICTS = {
    "azure-openai/ai.chat--error-429-rate-limit": Verdict.RATE_LIMITED,
    "openai/ai.chat--responses-error": Verdict.QUOTA_EXHAUSTED,
}


@pytest.mark.parametrize("path", found("ai.chat--*error*.json"))
def test_refusals(path: Path) -> None:
    name = f"{path.parent.name}/{path.stem}"
    expected = Verdict.AUTH if "error-auth" in name else Verdict.INVALID_REQUEST
    outcome, _ = judged(path)
    assert outcome.verdict is VERDICTS.get(name, expected)
    assert outcome.message
    assert ADAPTER.problem(outcome).status >= 400


def test_a_rate_limit_says_when_to_come_again() -> None:
    outcome, _ = judged(FOLDER / "azure-openai/ai.chat--error-429-rate-limit.json")
    assert outcome.retry_after == 1.0


def test_a_dialect_that_only_looks_alike_is_no_answer() -> None:
    outcome, body = judged(FOLDER / "ollama/ai.chat--native-text.json")
    with pytest.raises(StreamFault) as fault:
        ADAPTER.meter(CHAT, UPSTREAM).whole(outcome, body)
    assert fault.value.outcome.verdict is Verdict.BAD_PAYLOAD
