"""The official `openai` package against the running gateway: only base_url and api_key differ."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx2
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


SOUND = bytes(16_000)  # two seconds, as the sandbox hears it


def test_moderations(client: OpenAI) -> None:
    texts = ["kind words", "violence"]
    judged = client.moderations.create(model="omni-moderation-latest", input=texts)
    assert [each.flagged for each in judged.results] == [False, True]
    assert client.moderations.create(input="kind words").model == "omni-moderation-latest"


def test_images(client: OpenAI) -> None:
    made = client.images.generate(model="openai/gpt-image-1", prompt="a cat", n=2)
    assert made.data is not None
    assert [base64.b64decode(each.b64_json or "")[:4] for each in made.data] == [b"\x89PNG"] * 2
    assert made.usage is not None
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens


@pytest.mark.parametrize("model", ["tts-1", "elevenlabs/eleven_flash_v2_5"])
def test_speech_whole_and_as_it_comes(client: OpenAI, model: str) -> None:
    asked = {"model": model, "voice": "alloy", "input": "four words of text"}
    whole = client.audio.speech.create(**asked)
    assert whole.response.headers["content-type"] == "audio/mpeg"
    assert whole.content.startswith(b"\xff\xfb")
    with client.audio.speech.with_streaming_response.create(**asked) as streamed:
        assert b"".join(streamed.iter_bytes()) == whole.content


def test_speech_that_is_cut_raises(client: OpenAI) -> None:
    with pytest.raises((openai.APIError, httpx2.HTTPError)):
        client.audio.speech.create(
            model="tts-1",
            voice="alloy",
            input="four words of text",
            extra_headers={"x-sandbox-fault": "cut_after=1"},
        )


@pytest.mark.parametrize(
    "model", ["whisper-1", "groq/whisper-large-v3", "deepgram/nova-3", "elevenlabs/scribe_v1"]
)
def test_transcriptions_in_every_form(client: OpenAI, model: str) -> None:
    def heard(form: str) -> Any:
        return client.audio.transcriptions.create(
            model=model,
            file=("a.wav", SOUND),
            response_format=form,  # type: ignore[call-overload]
        )

    text = heard("json").text
    assert text.startswith("the sandbox heard ")
    assert heard("text").strip() == text
    verbose = heard("verbose_json")
    assert (verbose.text, verbose.duration) == (text, 2.0)
    assert verbose.segments[0].start == 0.0
    assert "00:00:00,000 --> " in heard("srt")
    assert heard("vtt").startswith("WEBVTT")


def test_a_wrong_recording_is_a_bad_request_error(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as empty:
        client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b""))
    assert empty.value.param == "file"
    with pytest.raises(openai.BadRequestError) as noise:
        client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"noise"))
    assert noise.value.code == "upstream_rejected"


def test_too_large_a_recording_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.audio.transcriptions.create(
            model="whisper-1", file=("a.wav", bytes(26 * 1024 * 1024))
        )
    assert (caught.value.status_code, caught.value.code) == (413, "payload_too_large")


def test_ranks(client: OpenAI) -> None:
    """The SDK has no such method, but takes any path."""
    body = {"query": "ruby language", "documents": ["paris", "ruby is a language"], "top_n": 1}
    for model in ("cohere/rerank-v3.5", "voyage/rerank-2.5", "jina/jina-reranker-v3"):
        ranked: Any = client.post("/rerank", body={"model": model, **body}, cast_to=object)
        assert [each["index"] for each in ranked["results"]] == [1]


def test_models(client: OpenAI) -> None:
    listed = {model.id for model in client.models.list()}
    assert {"lab-chat", "gpt-x", "lab/gpt-x", "text-embedding-3-small"} <= listed
    assert {"whisper-1", "tts-1", "openai/gpt-image-1", "rerank-2.5"} <= listed
    assert client.models.retrieve("lab/gpt-x").owned_by == "lab"
    assert client.models.retrieve("whisper-1").owned_by == "openai"


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
