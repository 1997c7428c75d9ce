"""The official OpenAI client must not notice that it talks to the sandbox."""

from __future__ import annotations

import math
import struct
from base64 import b64decode

import httpx2
import openai
import orjson
import pytest

from providers.sandbox.server import SandboxServer

ASK = [{"role": "user", "content": "Hello dear sandbox"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
            "required": ["city", "days"],
        },
    },
}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def test_chat(openai_client: openai.OpenAI) -> None:
    answer = openai_client.chat.completions.create(model="gpt-x", messages=ASK)
    assert answer.choices[0].message.content == "You said: Hello dear sandbox"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "gpt-x"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 5)
    assert answer.usage.total_tokens == 8


def test_the_same_question_gets_the_same_bytes(http: httpx2.Client) -> None:
    body = {"model": "gpt-x", "messages": ASK}
    one, other = (http.post("/openai/v1/chat/completions", json=body).content for _ in range(2))
    assert one == other


@pytest.mark.parametrize("path", ["/groq/openai/v1", "/lab/v1", "/deepseek"])
def test_the_dialect_is_known_by_the_end_of_the_path(http: httpx2.Client, path: str) -> None:
    answer = http.post(f"{path}/chat/completions", json={"model": "m", "messages": ASK})
    assert answer.status_code == 200


def test_stream(openai_client: openai.OpenAI) -> None:
    stream = openai_client.chat.completions.create(
        model="gpt-x", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(filter(None, said)) == "You said: Hello dear sandbox"
    assert len(list(filter(None, said))) == 5, "one event for each word"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (3, 5)


def test_no_usage_chunk_unless_asked(http: httpx2.Client) -> None:
    body = {"model": "gpt-x", "messages": ASK, "stream": True}
    answer = http.post("/openai/v1/chat/completions", json=body)
    assert answer.headers["content-type"] == "text/event-stream"
    assert b"usage" not in answer.content
    assert answer.content.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_limit_cuts_the_answer(openai_client: openai.OpenAI, field: str) -> None:
    answer = openai_client.chat.completions.create(model="gpt-x", messages=ASK, **{field: 3})
    assert answer.choices[0].message.content == "You said: Hello"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def test_stop(openai_client: openai.OpenAI) -> None:
    answer = openai_client.chat.completions.create(model="gpt-x", messages=ASK, stop=["dear", "x"])
    assert answer.choices[0].message.content == "You said: Hello "
    assert answer.choices[0].finish_reason == "stop"


def test_a_named_tool_is_called(openai_client: openai.OpenAI) -> None:
    answer = openai_client.chat.completions.create(
        model="gpt-x",
        messages=ASK,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
    )
    call = answer.choices[0].message.tool_calls[0]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "get_weather"
    assert orjson.loads(call.function.arguments) == {"city": "sample", "days": 2}


def test_a_tool_is_called_only_when_it_is_mentioned(openai_client: openai.OpenAI) -> None:
    mention = [{"role": "user", "content": "Please get_weather for me"}]
    for messages, called in ((ASK, False), (mention, True)):
        answer = openai_client.chat.completions.create(
            model="gpt-x", messages=messages, tools=[WEATHER]
        )
        assert bool(answer.choices[0].message.tool_calls) is called
    refused = openai_client.chat.completions.create(
        model="gpt-x", messages=mention, tools=[WEATHER], tool_choice="none"
    )
    assert refused.choices[0].message.tool_calls is None


def test_a_streamed_call_is_the_whole_one_in_pieces(openai_client: openai.OpenAI) -> None:
    ask = {"model": "gpt-x", "messages": ASK, "tools": [WEATHER], "tool_choice": "required"}
    whole = openai_client.chat.completions.create(**ask).choices[0].message.tool_calls[0]
    deltas = [
        chunk.choices[0].delta.tool_calls[0]
        for chunk in openai_client.chat.completions.create(**ask, stream=True)
        if chunk.choices[0].delta.tool_calls
    ]
    assert (deltas[0].id, deltas[0].function.name) == (whole.id, whole.function.name)
    assert len(deltas) > 2
    assert "".join(delta.function.arguments for delta in deltas) == whole.function.arguments


def test_after_a_tools_result_comes_text(openai_client: openai.OpenAI) -> None:
    call = {"id": "call_1", "type": "function"}
    call["function"] = {"name": "get_weather", "arguments": "{}"}
    answer = openai_client.chat.completions.create(
        model="gpt-x",
        messages=[
            {"role": "user", "content": "get_weather"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "Sunny, 21 degrees"},
        ],
        tools=[WEATHER],
    )
    assert answer.choices[0].message.content == "The tool answered: Sunny, 21 degrees"


def test_json_mode(openai_client: openai.OpenAI) -> None:
    answer = openai_client.chat.completions.create(
        model="gpt-x", messages=ASK, response_format={"type": "json_object"}
    )
    assert orjson.loads(answer.choices[0].message.content) == {
        "answer": "You said: Hello dear sandbox"
    }


def test_json_schema(openai_client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["b", "a"]}, "tags": {"type": "array", "minItems": 2}},
        "required": ["kind", "tags"],
    }
    answer = openai_client.chat.completions.create(
        model="gpt-x",
        messages=ASK,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    made = orjson.loads(answer.choices[0].message.content)
    assert made["kind"] == "b"
    assert len(made["tags"]) == 2


def test_a_picture_is_taken_and_counted(openai_client: openai.OpenAI) -> None:
    content = [{"type": "text", "text": "Look here"}, PICTURE]
    answer = openai_client.chat.completions.create(
        model="gpt-x", messages=[{"role": "user", "content": content}]
    )
    assert "I see 1 image(s)" in answer.choices[0].message.content
    assert answer.usage.prompt_tokens == 102


def test_embeddings_are_unit_vectors_in_both_encodings(
    openai_client: openai.OpenAI, http: httpx2.Client
) -> None:
    made = openai_client.embeddings.create(model="text-embedding-3-small", input=["one", "two x"])
    assert [len(each.embedding) for each in made.data] == [1536, 1536]
    assert math.isclose(math.hypot(*made.data[0].embedding), 1, abs_tol=1e-5)
    assert made.data[0].embedding != made.data[1].embedding
    assert made.usage.prompt_tokens == 3
    body = {"model": "text-embedding-3-small", "input": "one", "encoding_format": "base64"}
    told = http.post("/openai/v1/embeddings", json=body).json()["data"][0]["embedding"]
    assert list(struct.unpack("<1536f", b64decode(told))) == made.data[0].embedding


def test_dimensions_and_token_inputs(openai_client: openai.OpenAI) -> None:
    made = openai_client.embeddings.create(
        model="text-embedding-3-small", input=[[1, 2, 3], [4]], dimensions=8
    )
    assert [len(each.embedding) for each in made.data] == [8, 8]
    assert made.usage.prompt_tokens == 4


def test_models(openai_client: openai.OpenAI) -> None:
    assert "sandbox-large" in {model.id for model in openai_client.models.list()}


@pytest.mark.parametrize(
    ("secret", "code", "words"),
    [("sk-bad-key", "invalid_api_key", "Incorrect API key"), ("", None, "didn't provide")],
)
def test_a_bad_or_missing_key(
    sandbox: SandboxServer, secret: str, code: str | None, words: str
) -> None:
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    answer = httpx2.post(
        f"{sandbox.url}/openai/v1/chat/completions",
        json={"model": "gpt-x", "messages": ASK},
        headers=headers,
    )
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == code
    assert words in answer.json()["error"]["message"]
    assert "sk-bad-key" not in answer.text


def test_errors_come_out_as_the_clients_own(openai_client: openai.OpenAI) -> None:
    for spec, kind in (
        ("status=401", openai.AuthenticationError),
        ("status=429;retry_after=7", openai.RateLimitError),
        ("status=400;code=context_length_exceeded", openai.BadRequestError),
        ("status=500", openai.InternalServerError),
    ):
        with pytest.raises(kind) as caught:
            openai_client.chat.completions.create(
                model="gpt-x", messages=ASK, extra_headers={"x-sandbox-fault": spec}
            )
        if "retry_after" in spec:
            assert caught.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"[" * 5000,
        b'{"model": "m"}',
        b'{"messages": [{"role": "user", "content": "x"}]}',
        b'{"model": 5, "messages": [{"role": "user", "content": "x"}]}',
        b'{"model": "m", "messages": []}',
        b'{"model": "m", "messages": {}}',
        b'{"model": "m", "messages": [1]}',
        b'{"model": "m", "messages": [{"role": []}]}',
        b'{"model": "m", "messages": [{"role": "nobody", "content": "x"}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 0}',
        b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": true}',
        b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 2}',
    ],
)
def test_bad_requests_are_refused_in_openais_words(http: httpx2.Client, body: bytes) -> None:
    answer = http.post("/openai/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "extra",
    [
        {"stop": 5},
        {"tools": [1, {"function": 3}, {"type": "function"}]},
        {"tools": "x", "tool_choice": 9},
        {"response_format": 3},
        {"stream_options": [], "stream": True},
        {"messages": [{"role": "user", "content": {"a": 1}}]},
        {"messages": [{"role": "user", "content": [1, {"type": "text"}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": 7}}]}]},
        {"messages": [{"role": "tool", "content": None}]},
        {"messages": [{"role": "system", "content": "only"}]},
    ],
)
def test_odd_requests_get_an_answer_or_a_refusal(
    http: httpx2.Client, extra: dict[str, object]
) -> None:
    body = {"model": "m", "messages": ASK, **extra}
    assert http.post("/openai/v1/chat/completions", json=body).status_code in (200, 400)


def test_lone_surrogates_do_no_harm(http: httpx2.Client) -> None:
    body = rb'{"model": "m", "messages": [{"role": "user", "content": "a \ud800 b"}]}'
    assert http.post("/openai/v1/chat/completions", content=body).status_code in (200, 400)


def test_an_unknown_path_is_not_found(http: httpx2.Client) -> None:
    assert http.post("/openai/v1/nothing", json={}).status_code == 404
    assert http.get("/").status_code == 404
    assert http.get("/openai").status_code == 404
