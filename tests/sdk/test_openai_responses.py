"""`client.responses` of the official `openai` package against the running gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest
from openai import OpenAI

from tests.services.system import System

MODELS = ["lab-chat", "lab/gpt-x", "lab2/claude-y", "lab3/gemini-z"]
QUESTION = "Say hello to the switchboard, please."
WEATHER_TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
PIXEL = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture
def client(system: System) -> Iterator[OpenAI]:
    with keyed(system, system.visitor()) as client:
        yield client


def keyed(system: System, key: str) -> OpenAI:
    return OpenAI(base_url=f"{system.url}/api/v1", api_key=key, max_retries=0)


@pytest.mark.parametrize("model", MODELS)
def test_a_response_over_every_dialect(client: OpenAI, model: str) -> None:
    response = client.responses.create(model=model, instructions="Be kind.", input=QUESTION)
    assert (response.object, response.status, response.error) == ("response", "completed", None)
    assert "switchboard" in response.output_text
    assert response.usage is not None
    assert response.usage.input_tokens > 0
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert response._request_id


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_adds_up_to_the_whole_response(client: OpenAI, model: str) -> None:
    whole = client.responses.create(model=model, input=QUESTION)
    with client.responses.stream(model=model, input=QUESTION) as stream:
        events = list(stream)
        final = stream.get_final_response()
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(pieces) > 3
    assert "".join(pieces) == final.output_text == whole.output_text
    assert (final.status, final.usage) == (whole.status, whole.usage)
    raw = list(client.responses.create(model=model, input=QUESTION, stream=True))
    assert [event.sequence_number for event in raw] == list(range(len(raw)))
    assert (raw[0].type, raw[-1].type) == ("response.created", "response.completed")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("model", MODELS[1:])
def test_tools_there_and_back(client: OpenAI, model: str, *, streamed: bool) -> None:
    talk: list[Any] = [{"role": "user", "content": "Use get_weather for Uppsala."}]
    asked: Any = {"model": model, "tools": [WEATHER_TOOL]}
    if streamed:
        with client.responses.stream(input=talk, tool_choice="required", **asked) as stream:
            first: Any = stream.get_final_response()
    else:
        first = client.responses.create(input=talk, tool_choice="required", **asked)
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert call.name == "get_weather"
    assert isinstance(json.loads(call.arguments)["city"], str)
    # What a parsed stream adds to the items is the client's own.
    talk += [
        item.model_dump(exclude={"parsed_arguments"}, exclude_none=True) for item in first.output
    ]
    talk.append(
        {
            "type": "function_call_output",
            "call_id": call.call_id,
            "output": '{"temperature_c": "4"}',
        }
    )
    assert client.responses.create(input=talk, **asked).output_text


@pytest.mark.parametrize("model", MODELS[1:])
def test_an_image_goes_along(client: OpenAI, model: str) -> None:
    content: Any = [
        {"type": "input_image", "image_url": PIXEL, "detail": "auto"},
        {"type": "input_text", "text": "What is it?"},
    ]
    response = client.responses.create(model=model, input=[{"role": "user", "content": content}])
    assert response.output_text


class Person(pydantic.BaseModel):
    name: str
    age: int


@pytest.mark.parametrize("model", MODELS[1:])
def test_a_model_of_pydantics_is_filled_in(client: OpenAI, model: str) -> None:
    response = client.responses.parse(model=model, input=QUESTION, text_format=Person)
    assert isinstance(response.output_parsed, Person)


def test_too_few_tokens_leave_it_incomplete(client: OpenAI) -> None:
    response = client.responses.create(model="lab/gpt-x", input=QUESTION, max_output_tokens=2)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize(
    "more",
    [
        {"previous_response_id": "resp_1"},
        {"store": True},
        {"background": True},
        {"tools": [{"type": "web_search"}]},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_would_have_to_be_kept_is_a_bad_request_error(client: OpenAI, more: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="lab-chat", input=QUESTION, **more)
    assert caught.value.code == "invalid_request"
    assert str(caught.value.param).startswith(next(iter(more)))


def test_errors_are_openais(system: System) -> None:
    with pytest.raises(openai.AuthenticationError):
        keyed(system, "pb_test_nonsense").responses.create(model="lab-chat", input=QUESTION)
    with pytest.raises(openai.NotFoundError):
        keyed(system, system.visitor()).responses.create(model="nope", input=QUESTION)
    with pytest.raises(openai.PermissionDeniedError):
        keyed(system, system.keys["acme/finance"]).responses.create(
            model="lab-chat", input=QUESTION
        )


def test_a_stream_that_is_cut_fails(client: OpenAI) -> None:
    asked: Any = {"model": "lab/gpt-x", "input": QUESTION}
    fault = {"x-sandbox-fault": "cut_after=2"}
    *_, last = client.responses.create(**asked, stream=True, extra_headers=fault)
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.code == "server_error"
