"""The official `anthropic` package against the running gateway: only base_url and api_key differ."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from tests.services.system import System

MODELS = ["lab-chat", "lab/gpt-x", "lab2/claude-y", "lab3/gemini-z"]
WEATHER_TOOL: Any = {
    "name": "get_weather",
    "description": "The weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
QUESTION: Any = [{"role": "user", "content": "Say hello to the switchboard, please."}]
ASK_WEATHER: Any = [{"role": "user", "content": "Use get_weather for Uppsala."}]
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


@pytest.fixture
def client(system: System) -> Iterator[Anthropic]:
    with keyed(system, system.visitor()) as client:
        yield client


def keyed(system: System, key: str) -> Anthropic:
    return Anthropic(base_url=f"{system.url}/api", api_key=key, max_retries=0)


def text_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


@pytest.mark.parametrize("model", MODELS)
def test_a_message_over_every_dialect(client: Anthropic, model: str) -> None:
    message = client.messages.create(
        model=model, max_tokens=200, system="Be kind.", messages=QUESTION
    )
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "end_turn")
    assert "switchboard" in text_of(message)
    assert message.id.startswith("msg_")
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 0
    assert message._request_id


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_adds_up_to_the_whole_message(client: Anthropic, model: str) -> None:
    asked: Any = {"model": model, "max_tokens": 200, "messages": QUESTION}
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        pieces = list(stream.text_stream)
        message = stream.get_final_message()
    assert len(pieces) > 3
    assert "".join(pieces) == text_of(message) == text_of(whole)
    assert message.stop_reason == whole.stop_reason
    assert message.usage.input_tokens == whole.usage.input_tokens
    assert message.usage.output_tokens == whole.usage.output_tokens


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("model", MODELS[1:])
def test_tools_there_and_back(client: Anthropic, model: str, *, streamed: bool) -> None:
    asked: Any = {
        "model": model,
        "max_tokens": 200,
        "tools": [WEATHER_TOOL],
        "tool_choice": {"type": "any"},
    }
    if streamed:
        with client.messages.stream(messages=ASK_WEATHER, **asked) as stream:
            first = stream.get_final_message()
    else:
        first = client.messages.create(messages=ASK_WEATHER, **asked)
    assert first.stop_reason == "tool_use"
    (call,) = [block for block in first.content if block.type == "tool_use"]
    assert call.name == "get_weather"
    assert isinstance(call.input["city"], str)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": '{"temperature_c": "4"}'}
    second = client.messages.create(
        model=model,
        max_tokens=200,
        tools=[WEATHER_TOOL],
        messages=[
            *ASK_WEATHER,
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result]},
        ],
    )
    assert text_of(second)


@pytest.mark.parametrize("model", MODELS[1:])
def test_an_image_goes_along(client: Anthropic, model: str) -> None:
    image = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    content: Any = [{"type": "image", "source": image}, {"type": "text", "text": "What is it?"}]
    message = client.messages.create(
        model=model, max_tokens=200, messages=[{"role": "user", "content": content}]
    )
    assert text_of(message)


def test_a_json_schema(client: Anthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
        "additionalProperties": False,
    }
    message = client.messages.create(
        model="lab2/claude-y",
        max_tokens=200,
        messages=QUESTION,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    assert isinstance(json.loads(text_of(message))["name"], str)


def test_a_stop_sequence_is_named(client: Anthropic) -> None:
    message = client.messages.create(
        model="lab2/claude-y", max_tokens=200, messages=QUESTION, stop_sequences=["switchboard"]
    )
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "switchboard")


def test_tokens_are_counted(client: Anthropic) -> None:
    short = client.messages.count_tokens(model="lab-chat", messages=QUESTION)
    long = client.messages.count_tokens(
        model="lab-chat", messages=QUESTION * 3, system="Be kind.", tools=[WEATHER_TOOL]
    )
    assert 0 < short.input_tokens < long.input_tokens


def ask(client: Anthropic, **asked: Any) -> Any:
    return client.messages.create(
        **{"model": "lab-chat", "max_tokens": 50, "messages": QUESTION, **asked}
    )


def test_a_wrong_key_is_an_authentication_error(system: System) -> None:
    with pytest.raises(anthropic.AuthenticationError) as caught:
        ask(keyed(system, "pb_test_nonsense"))
    assert caught.value.type == "authentication_error"
    assert caught.value.request_id


def test_a_passed_limit_is_a_rate_limit_error(system: System) -> None:
    client = keyed(system, system.keys["frugal/test"])
    with pytest.raises(anthropic.RateLimitError) as caught:
        for _ in range(4):
            ask(client)
    assert caught.value.type == "rate_limit_error"
    assert 0 < int(caught.value.response.headers["retry-after"]) <= 62


def test_a_malformed_request_is_a_bad_request_error(client: Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        ask(client, messages=[{"role": "user", "content": [{"type": "text"}]}])
    assert caught.value.type == "invalid_request_error"
    assert "messages.0.content.0.text" in str(caught.value.api_message)


def test_an_unknown_model_is_a_not_found_error(client: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        ask(client, model="no-such-model")
    assert caught.value.type == "not_found_error"


def test_a_missing_scope_is_a_permission_error(system: System) -> None:
    with pytest.raises(anthropic.PermissionDeniedError) as caught:
        ask(keyed(system, system.keys["acme/finance"]))
    assert caught.value.type == "permission_error"


def test_everything_down_is_an_overloaded_error(client: Anthropic) -> None:
    with pytest.raises(anthropic.InternalServerError) as caught:
        ask(client, extra_headers={"x-sandbox-fault": "status=500"})
    assert caught.value.status_code == 503
    assert caught.value.type == "overloaded_error"


def test_a_stream_that_is_cut_raises(client: Anthropic) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        list(
            ask(
                client,
                model="lab/gpt-x",
                stream=True,
                extra_headers={"x-sandbox-fault": "cut_after=2"},
            )
        )
    assert caught.value.type == "api_error"
