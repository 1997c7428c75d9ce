"""Conformance: every recorded Bedrock answer comes out as the openai package's own types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion

from providers.adapters.bedrock import ADAPTER
from providers.call import Call, Outcome, Upstream, Verdict

FOLDER = Path(__file__).parents[5] / "shared/recordings/ai/bedrock"
HI = [{"role": "user", "content": "Hi"}]


def judged(name: str) -> tuple[Outcome, bytes, dict[str, Any]]:
    recording = json.loads((FOLDER / f"{name}.json").read_text())
    response = recording["response"]
    raw = orjson.dumps(response["body"])
    headers = {"content-type": response["content_type"]}
    return ADAPTER.outcome(response["status"], headers, raw), raw, recording["request"]


def test_a_whole_answer() -> None:
    outcome, raw, request = judged("ai.chat--basic")
    upstream = Upstream("bedrock", "https://b.example", "us.amazon.nova-2-lite-v1:0", "key")
    params = {"messages": [{"role": "user", "content": "What's 2 + 2?"}]}
    sent = ADAPTER.request(Call("chat.completions", params), upstream)
    assert sent.body and orjson.loads(sent.body)["messages"] == request["body"]["messages"]
    assert sent.url.replace("%3A", ":").endswith(request["url"].partition(".com")[2])
    meter = ADAPTER.meter(Call("chat.completions", params), upstream)
    answer = ChatCompletion.model_validate_json(meter.whole(outcome, raw).body)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content
    assert answer.usage and (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (53, 39)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("ai.chat--error-auth", Verdict.AUTH),
        ("ai.chat--error-context-length", Verdict.INVALID_REQUEST),
    ],
)
def test_errors(name: str, verdict: Verdict) -> None:
    outcome, _, _ = judged(name)
    assert outcome.verdict is verdict
    assert outcome.message


def test_embeddings() -> None:
    outcome, raw, request = judged("ai.embeddings--multiple")
    upstream = Upstream("bedrock", "https://b.example", "amazon.titan-embed-text-v2:0", "key")
    call = Call("embeddings", {"input": request["body"]["inputText"]})
    meter = ADAPTER.meter(call, upstream)
    answer = CreateEmbeddingResponse.model_validate_json(meter.whole(outcome, raw).body)
    assert answer.data[0].embedding == outcome.document["embedding"]
    assert answer.usage.prompt_tokens == outcome.document["inputTextTokenCount"]
