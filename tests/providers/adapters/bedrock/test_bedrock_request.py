"""OpenAI's calls as Converse's bodies: what is said, and what is refused rather than dropped."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from lib.problems import InvalidRequest
from providers.adapter import Unsupported
from providers.adapters.bedrock import ADAPTER
from providers.call import Call, Upstream

HI = [{"role": "user", "content": "Hi"}]
PNG = "data:image/png;base64,aGk="
PDF = "data:application/pdf;base64,aGk="
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"properties": {}}}}
CALL = {"id": "call.1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def body(operation: str = "chat.completions", model: str = "m", **params: Any) -> dict[str, Any]:
    params = params if operation == "embeddings" else {"messages": HI, **params}
    upstream = Upstream("bedrock", "https://b.example/", model, secret="key", max_output=100)
    raw = ADAPTER.request(Call(operation, params), upstream).body
    assert raw
    document: dict[str, Any] = orjson.loads(raw)
    return document


def turns(*messages: dict[str, Any]) -> list[Any]:
    found: list[Any] = body(messages=list(messages), tools=[TOOL])["messages"]
    return found


def test_paths_and_media_types() -> None:
    upstream = Upstream("bedrock", "https://b.example/", "a/b:0", secret="key")
    told = {
        (False, "chat.completions"): ("converse", "application/json"),
        (True, "chat.completions"): ("converse-stream", "application/vnd.amazon.eventstream"),
    }
    for (stream, operation), (verb, accepted) in told.items():
        request = ADAPTER.request(Call(operation, {"messages": HI, "stream": stream}), upstream)
        assert request.url == f"https://b.example/model/a%2Fb%3A0/{verb}"
        assert request.headers["accept"] == accepted
    titan = Upstream("bedrock", "https://b.example", "amazon.titan-embed-text-v2:0", secret="key")
    request = ADAPTER.request(Call("embeddings", {"input": "x"}), titan)
    assert request.url.endswith("/model/amazon.titan-embed-text-v2%3A0/invoke")


def test_the_plainest_call() -> None:
    assert body() == {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}


def test_system_stands_apart_and_neighbours_become_one_turn() -> None:
    told = body(
        messages=[
            {"role": "system", "content": "Be kind"},
            {"role": "user", "content": "a"},
            {"role": "developer", "content": [{"type": "text", "text": "and brief"}]},
            {"role": "user", "content": " "},
            {"role": "user", "content": "b"},
        ]
    )
    assert told["system"] == [{"text": "Be kind"}, {"text": "and brief"}]
    assert told["messages"] == [{"role": "user", "content": [{"text": "a"}, {"text": "b"}]}]


def test_images_and_documents() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": PNG, "detail": "auto"}},
        {"type": "file", "file": {"file_data": PDF, "filename": "a_b.pdf"}},
        {"type": "text", "text": "what?"},
    ]
    assert turns({"role": "user", "content": parts})[0]["content"] == [
        {"image": {"format": "png", "source": {"bytes": "aGk="}}},
        {"document": {"format": "pdf", "name": "a b pdf", "source": {"bytes": "aGk="}}},
        {"text": "what?"},
    ]


def test_a_tool_loop() -> None:
    thought = {"reasoningText": {"text": "hm", "signature": "s"}}
    found = turns(
        *HI,
        {
            "role": "assistant",
            "content": "wait",
            "tool_calls": [CALL],
            "reasoning_content": "hm",
            "extra_content": {"bedrock": {"reasoning_content": [thought]}},
        },
        {"role": "user", "content": "and?"},
        {"role": "tool", "tool_call_id": "call.1", "content": "42"},
        {"role": "tool", "tool_call_id": "x" * 99, "content": None},
    )
    assert [turn["role"] for turn in found] == ["user", "assistant", "user"]
    assert found[1]["content"] == [
        {"reasoningContent": thought},
        {"text": "wait"},
        {"toolUse": {"toolUseId": "call_1", "name": "f", "input": {"a": 1}}},
    ]
    assert found[2]["content"] == [
        {"toolResult": {"toolUseId": "call_1", "content": [{"text": "42"}]}},
        {"toolResult": {"toolUseId": "x" * 64, "content": [{"text": "(nothing)"}]}},
        {"text": "and?"},
    ]


def test_sampling() -> None:
    told = body(max_tokens=500, temperature=0.5, top_p=0.9, stop="END", frequency_penalty=0)
    assert told["inferenceConfig"] == {
        "maxTokens": 100,
        "temperature": 0.5,
        "topP": 0.9,
        "stopSequences": ["END"],
    }
    assert "inferenceConfig" not in body(top_p=1)


@pytest.mark.parametrize(
    ("choice", "theirs"),
    [
        (None, None),
        ("auto", None),
        ("required", {"any": {}}),
        ({"type": "function", "function": {"name": "f"}}, {"tool": {"name": "f"}}),
    ],
)
def test_tool_choices(choice: Any, theirs: Any) -> None:
    config = body(tools=[TOOL], tool_choice=choice)["toolConfig"]
    schema = {"type": "object", "properties": {}}
    assert config["tools"] == [{"toolSpec": {"name": "f", "inputSchema": {"json": schema}}}]
    assert config.get("toolChoice") == theirs


def test_no_tool_is_sent_that_may_not_be_called() -> None:
    assert "toolConfig" not in body(tools=[TOOL], tool_choice="none")
    with pytest.raises(Unsupported, match="one function"):
        history = [*HI, {"role": "assistant", "tool_calls": [CALL]}]
        body(messages=history, tools=[TOOL], tool_choice="none")
    with pytest.raises(Unsupported, match="wants to know the tools") as refusal:
        body(messages=history)
    assert refusal.value.param == "tools"


def test_a_schema_for_the_answer() -> None:
    spec = {"name": "x", "strict": True, "schema": {"type": "object"}}
    told = body(response_format={"type": "json_schema", "json_schema": spec})
    assert told["outputConfig"]["textFormat"] == {
        "type": "json_schema",
        "structure": {"jsonSchema": {"name": "x", "schema": '{"type":"object"}'}},
    }
    assert "outputConfig" not in body(response_format={"type": "text"})


def test_bedrocks_own_fields_pass() -> None:
    fields = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    assert body(additionalModelRequestFields=fields)["additionalModelRequestFields"] == fields


def test_embeddings() -> None:
    titan = "amazon.titan-embed-text-v2:0"
    assert body("embeddings", titan, input="a", dimensions=256) == {
        "inputText": "a",
        "dimensions": 256,
    }
    assert body("embeddings", titan, input=["a"], encoding_format="base64") == {"inputText": "a"}
    assert body("embeddings", "cohere.embed-v4:0", input=["a", "b"]) == {
        "texts": ["a", "b"],
        "input_type": "search_document",
        "embedding_types": ["float"],
    }
    for model, texts in ((titan, ["a", "b"]), (titan, [1, 2]), ("x", "a")):
        with pytest.raises(Unsupported):
            body("embeddings", model, input=texts)


URL = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}


@pytest.mark.parametrize(
    ("params", "place"),
    [
        ({"n": 2}, "n"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"temperature": 1.5}, "temperature"),
        ({"frequency_penalty": 1}, "frequency_penalty"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tools": [{"type": "custom"}]}, "tools.0.type"),
        ({"tools": [{**TOOL, "x": 1}]}, "tools.0.x"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "critic", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": "x", "name": "n"}]}, "messages.0.name"),
        ({"messages": [{"role": "user", "content": [URL]}]}, "messages.0.content.0.image_url.url"),
        ({"messages": [{"role": "system", "content": [{**URL, "image_url": {"url": PNG}}]}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages.0.content.0.type"),
    ],
)  # fmt: skip
def test_what_cannot_be_expressed_is_refused_by_name(params: Any, place: str) -> None:
    with pytest.raises(Unsupported) as caught:
        body(**params)
    assert caught.value.param == place


@pytest.mark.parametrize(
    "messages", [[{"role": "tool", "content": "x"}], [5], [{"role": "user", "content": [5]}], "x"]
)
def test_what_has_not_openais_form_is_the_callers_fault(messages: Any) -> None:
    with pytest.raises(InvalidRequest):
        body(messages=messages)
