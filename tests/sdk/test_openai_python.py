"""The official `openai` package against the running gateway: only base_url and api_key differ."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI

from tests.services.system import System

WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
QUESTION = [{"role": "user", "content": "Say hello to the switchboard, please."}]


@pytest.fixture
def client(system: System) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{system.url}/api/v1", api_key=system.visitor(), max_retries=0) as client:
        yield client


def keyed(system: System, key: str) -> OpenAI:
    return OpenAI(base_url=f"{system.url}/api/v1", api_key=key, max_retries=0)


@pytest.mark.parametrize("model", ["lab-chat", "lab/gpt-x", "lab2/claude-y", "lab3/gemini-z"])
def test_chat_over_every_dialect(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=QUESTION)
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert "switchboard" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("model", ["lab/gpt-x", "lab2/claude-y", "lab3/gemini-z"])
def test_streamed_chat_says_the_same_and_ends_with_the_usage(client: OpenAI, model: str) -> None:
    whole = client.chat.completions.create(model=model, messages=QUESTION)
    chunks = list(
        client.chat.completions.create(
            model=model, messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert len(chunks) > 3
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert whole.usage and chunks[-1].usage
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_without_include_usage_no_chunk_is_empty(client: OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="lab-chat", messages=QUESTION, stream=True))
    assert all(chunk.choices for chunk in chunks)


@pytest.mark.parametrize("model", ["lab/gpt-x", "lab2/claude-y", "lab3/gemini-z"])
def test_tool_calls_there_and_back(client: OpenAI, model: str) -> None:
    ask = [{"role": "user", "content": "Use get_weather for Uppsala."}]
    first = client.chat.completions.create(
        model=model, messages=ask, tools=[WEATHER_TOOL], tool_choice="required"
    )
    assert first.choices[0].finish_reason == "tool_calls"
    call = first.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert isinstance(json.loads(call.function.arguments)["city"], str)
    second = client.chat.completions.create(
        model=model,
        messages=[
            *ask,
            first.choices[0].message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": '{"temperature_c": "4"}'},
        ],
        tools=[WEATHER_TOOL],
    )
    assert second.choices[0].message.content


@pytest.mark.parametrize("model", ["lab/gpt-x", "lab2/claude-y", "lab3/gemini-z"])
def test_streamed_tool_calls_join_to_json(client: OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Use get_weather for Uppsala."}],
        tools=[WEATHER_TOOL],
        tool_choice="required",
        stream=True,
    )
    name, arguments = "", ""
    for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or []:
            name += call.function.name or ""
            arguments += call.function.arguments or ""
    assert name == "get_weather"
    assert "city" in json.loads(arguments)


def test_json_mode(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="lab/gpt-x", messages=QUESTION, response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


@pytest.mark.parametrize("model", ["lab/gpt-x", "lab2/claude-y", "lab3/gemini-z"])
def test_json_schema(client: OpenAI, model: str) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=model,
        messages=QUESTION,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "person", "strict": True, "schema": schema},
        },
    )
    person = json.loads(answer.choices[0].message.content or "")
    assert isinstance(person["name"], str)
    assert isinstance(person["age"], int)


def test_embeddings_as_floats_and_as_the_sdks_own_base64(client: OpenAI) -> None:
    texts = ["one", "two"]
    by_base64 = client.embeddings.create(model="text-embedding-3-small", input=texts)
    by_float = client.embeddings.create(
        model="text-embedding-3-small", input=texts, encoding_format="float"
    )
    assert len(by_float.data) == 2
    for packed, plain in zip(by_base64.data, by_float.data, strict=True):
        assert packed.embedding == pytest.approx(plain.embedding, abs=1e-6)
    assert by_float.usage.prompt_tokens > 0


def test_models(client: OpenAI) -> None:
    listed = {model.id for model in client.models.list()}
    assert {"lab-chat", "gpt-x", "lab/gpt-x", "text-embedding-3-small"} <= listed
    assert client.models.retrieve("lab/gpt-x").owned_by == "lab"


def test_a_wrong_key_is_an_authentication_error(system: System) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        keyed(system, "pb_test_nonsense").models.list()
    assert caught.value.code == "unauthenticated"
    assert caught.value.request_id


def test_a_passed_limit_is_a_rate_limit_error(system: System) -> None:
    client = keyed(system, system.keys["frugal/test"])
    with pytest.raises(openai.RateLimitError) as caught:
        for _ in range(4):
            client.chat.completions.create(model="lab-chat", messages=QUESTION)
    assert caught.value.code == "rate_limit_exceeded"
    assert 0 < int(caught.value.response.headers["retry-after"]) <= 62


def test_a_malformed_request_is_a_bad_request_error(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="lab-chat", messages="hello")  # type: ignore[arg-type]
    assert caught.value.code == "invalid_request"
    assert caught.value.param == "messages"


def test_an_unknown_model_is_a_not_found_error(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="no-such-model", messages=QUESTION)
    assert caught.value.param == "model"


def test_a_missing_scope_is_a_permission_error(system: System) -> None:
    with pytest.raises(openai.PermissionDeniedError) as caught:
        keyed(system, system.keys["acme/finance"]).chat.completions.create(
            model="lab-chat", messages=QUESTION
        )
    assert caught.value.code == "insufficient_scope"


def test_everything_down_is_an_internal_server_error(client: OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(
            model="lab-chat", messages=QUESTION, extra_headers={"x-sandbox-fault": "status=500"}
        )
    assert caught.value.status_code == 503
    assert caught.value.code == "provider_unavailable"


def test_a_stream_that_is_cut_raises(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="lab/gpt-x",
        messages=QUESTION,
        stream=True,
        extra_headers={"x-sandbox-fault": "cut_after=2"},
    )
    with pytest.raises(openai.APIError):
        list(stream)
