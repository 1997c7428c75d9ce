"""Anthropic's, Gemini's and Cohere's words, and that all dialects say and count the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import orjson
import pytest

if TYPE_CHECKING:
    import anthropic

ASK = "Hello dear sandbox"
SAID = "You said: Hello dear sandbox"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
TOOL = {"name": "get_weather", "input_schema": SCHEMA}
GEMINI = "/gemini/v1beta/models/gemini-2.5-flash"


def data_of(body: bytes) -> list[Any]:
    """The JSON of every event, [DONE] left out."""
    lines = [line for line in body.replace(b"\r\n", b"\n").split(b"\n") if line[:6] == b"data: "]
    return [orjson.loads(line[6:]) for line in lines if line != b"data: [DONE]"]


def test_anthropic(anthropic_client: anthropic.Anthropic) -> None:
    answer = anthropic_client.messages.create(
        model="claude-x", max_tokens=100, messages=[{"role": "user", "content": ASK}]
    )
    assert answer.content[0].text == SAID
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 5)


def test_anthropic_stream(anthropic_client: anthropic.Anthropic) -> None:
    with anthropic_client.messages.stream(
        model="claude-x", max_tokens=3, messages=[{"role": "user", "content": ASK}]
    ) as stream:
        said = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(said) == "You said: Hello"
    assert len(said) == 3
    assert final.stop_reason == "max_tokens"
    assert (final.usage.input_tokens, final.usage.output_tokens) == (3, 3)


def test_anthropic_stop_sequence(anthropic_client: anthropic.Anthropic) -> None:
    answer = anthropic_client.messages.create(
        model="claude-x",
        max_tokens=100,
        messages=[{"role": "user", "content": ASK}],
        stop_sequences=["dear"],
    )
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "dear")


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_anthropic_tools(anthropic_client: anthropic.Anthropic, choice: dict[str, str]) -> None:
    ask: dict[str, Any] = {
        "model": "claude-x",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": ASK}],
        "tools": [TOOL],
        "tool_choice": choice,
    }
    whole = anthropic_client.messages.create(**ask)
    assert whole.stop_reason == "tool_use"
    assert (whole.content[0].name, whole.content[0].input) == ("get_weather", {"city": "sample"})
    with anthropic_client.messages.stream(**ask) as stream:
        streamed = stream.get_final_message()
    assert streamed.content[0].input == whole.content[0].input
    assert streamed.usage.output_tokens == whole.usage.output_tokens


def test_anthropic_after_a_tools_result(anthropic_client: anthropic.Anthropic) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "x"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sunny"}
    answer = anthropic_client.messages.create(
        model="claude-x",
        max_tokens=100,
        tools=[TOOL],
        messages=[
            {"role": "user", "content": "get_weather"},
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [result]},
        ],
    )
    assert answer.content[0].text == "The tool answered: Sunny"


def test_anthropic_wants_max_tokens(http: httpx2.Client) -> None:
    body = {"model": "claude-x", "messages": [{"role": "user", "content": ASK}]}
    answer = http.post("/anthropic/v1/messages", json=body)
    assert answer.status_code == 400
    assert answer.json()["type"] == "error"
    assert answer.json()["error"] == {
        "type": "invalid_request_error",
        "message": "max_tokens: Field required",
    }


def test_anthropic_errors(anthropic_client: anthropic.Anthropic) -> None:
    import anthropic

    ask: dict[str, Any] = {
        "model": "claude-x",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": ASK}],
    }
    for spec, kind, told in (
        ("status=401", anthropic.AuthenticationError, "authentication_error"),
        ("status=429", anthropic.RateLimitError, "rate_limit_error"),
        ("status=529", anthropic.APIStatusError, "overloaded_error"),
    ):
        with pytest.raises(kind) as caught:
            anthropic_client.messages.create(**ask, extra_headers={"x-sandbox-fault": spec})
        assert caught.value.body["error"]["type"] == told


def test_anthropic_takes_the_key_in_its_own_header_and_as_a_bearer(http: httpx2.Client) -> None:
    body = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": ASK}]}
    for name, value in (("x-api-key", "k"), ("authorization", "Bearer k")):
        http.headers.pop("x-api-key", None)
        http.headers.pop("authorization", None)
        assert http.post("/anthropic/v1/messages", json=body).status_code == 401
        http.headers[name] = value
        assert http.post("/anthropic/v1/messages", json=body).status_code == 200
        http.headers[name] = value.removesuffix("k") + "sk-bad"
        answer = http.post("/anthropic/v1/messages", json=body)
        assert answer.json()["error"]["message"] == "invalid x-api-key"


def test_gemini(http: httpx2.Client) -> None:
    body = {"contents": [{"role": "user", "parts": [{"text": ASK}]}]}
    answer = http.post(f"{GEMINI}:generateContent", json=body).json()
    assert answer["candidates"][0]["content"]["parts"] == [{"text": SAID}]
    assert answer["candidates"][0]["finishReason"] == "STOP"
    assert answer["usageMetadata"]["promptTokenCount"] == 3
    assert answer["usageMetadata"]["candidatesTokenCount"] == 5
    assert answer["modelVersion"] == "gemini-2.5-flash"


def test_gemini_stream(http: httpx2.Client) -> None:
    body = {
        "contents": [{"role": "user", "parts": [{"text": ASK}]}],
        "generationConfig": {"maxOutputTokens": 4},
    }
    answer = http.post(f"{GEMINI}:streamGenerateContent?alt=sse", json=body)
    assert answer.headers["content-type"] == "text/event-stream"
    chunks = data_of(answer.content)
    said = [chunk["candidates"][0]["content"]["parts"][0]["text"] for chunk in chunks]
    assert "".join(said) == "You said: Hello dear"
    assert chunks[-1]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert chunks[-1]["usageMetadata"]["candidatesTokenCount"] == 4
    listed = http.post(f"{GEMINI}:streamGenerateContent", json=body)
    assert listed.json() == chunks, "without alt=sse the chunks are one JSON list"


def test_gemini_tools(http: httpx2.Client) -> None:
    declared = {"name": "get_weather", "parametersJsonSchema": SCHEMA}
    body = {
        "contents": [{"role": "user", "parts": [{"text": "get_weather please"}]}],
        "tools": [{"functionDeclarations": [declared]}],
    }
    answer = http.post(f"{GEMINI}:generateContent", json=body).json()
    call = answer["candidates"][0]["content"]["parts"][0]["functionCall"]
    assert (call["name"], call["args"]) == ("get_weather", {"city": "sample"})
    result = {"functionResponse": {"name": "get_weather", "response": {"output": "Sunny"}}}
    body["contents"] += [
        {"role": "model", "parts": [{"functionCall": call}]},
        {"role": "user", "parts": [result]},
    ]
    answer = http.post(f"{GEMINI}:generateContent", json=body).json()
    assert answer["candidates"][0]["content"]["parts"] == [{"text": "The tool answered: Sunny"}]


def test_gemini_json(http: httpx2.Client) -> None:
    body = {
        "contents": [{"parts": [{"text": ASK}]}],
        "generationConfig": {
            "responseMimeType": "application/json",
            "responseSchema": {"type": "OBJECT", "properties": {"n": {"type": "INTEGER"}}},
        },
    }
    answer = http.post(f"{GEMINI}:generateContent", json=body).json()
    assert orjson.loads(answer["candidates"][0]["content"]["parts"][0]["text"]) == {"n": 1}


def test_gemini_embeddings(http: httpx2.Client) -> None:
    one = {"content": {"parts": [{"text": "one"}]}, "outputDimensionality": 4}
    path = "/gemini/v1beta/models/gemini-embedding-001"
    both = http.post(f"{path}:batchEmbedContents", json={"requests": [one, one]}).json()
    alone = http.post(f"{path}:embedContent", json=one).json()
    assert both["embeddings"] == [alone["embedding"]] * 2
    assert len(alone["embedding"]["values"]) == 4


def test_gemini_errors(http: httpx2.Client) -> None:
    body = {"contents": [{"parts": [{"text": ASK}]}]}
    path = f"{GEMINI}:generateContent"
    bad = http.post(path, json=body, headers={"x-goog-api-key": "sk-bad"})
    assert bad.status_code == 400
    assert bad.json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"
    fault = {"x-sandbox-fault": "status=429;retry_after=9"}
    limited = http.post(path, json=body, headers=fault)
    assert limited.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert {"retryDelay": "9s"}.items() <= limited.json()["error"]["details"][0].items()
    del http.headers["x-goog-api-key"]
    assert http.post(path, json=body).status_code == 403


def test_cohere(http: httpx2.Client) -> None:
    body = {"model": "command-x", "messages": [{"role": "user", "content": ASK}]}
    answer = http.post("/cohere/v2/chat", json=body).json()
    assert answer["message"]["content"] == [{"type": "text", "text": SAID}]
    assert answer["finish_reason"] == "COMPLETE"
    assert answer["usage"]["tokens"] == {"input_tokens": 3, "output_tokens": 5}


def test_cohere_stream(http: httpx2.Client) -> None:
    body = {
        "model": "command-x",
        "messages": [{"role": "user", "content": ASK}],
        "stream": True,
        "max_tokens": 4,
    }
    events = data_of(http.post("/cohere/v2/chat", json=body).content)
    kinds = [event["type"] for event in events]
    assert kinds == [
        "message-start",
        "content-start",
        *["content-delta"] * 4,
        "content-end",
        "message-end",
    ]
    assert events[-1]["delta"]["finish_reason"] == "MAX_TOKENS"
    assert events[-1]["delta"]["usage"]["tokens"]["output_tokens"] == 4


def test_cohere_tools(http: httpx2.Client) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}
    body: dict[str, Any] = {
        "model": "command-x",
        "messages": [{"role": "user", "content": ASK}],
        "tools": [tool],
        "tool_choice": "REQUIRED",
    }
    answer = http.post("/cohere/v2/chat", json=body).json()
    assert answer["finish_reason"] == "TOOL_CALL"
    call = answer["message"]["tool_calls"][0]
    events = data_of(http.post("/cohere/v2/chat", json={**body, "stream": True}).content)
    deltas = [event for event in events if event["type"] == "tool-call-delta"]
    parts = [event["delta"]["message"]["tool_calls"]["function"]["arguments"] for event in deltas]
    assert "".join(parts) == call["function"]["arguments"]


def test_cohere_embed(http: httpx2.Client) -> None:
    body = {
        "model": "embed-v4.0",
        "texts": ["one", "two three"],
        "input_type": "search_document",
        "embedding_types": ["float"],
        "output_dimension": 16,
    }
    answer = http.post("/cohere/v2/embed", json=body).json()
    assert [len(each) for each in answer["embeddings"]["float"]] == [16, 16]
    assert answer["meta"]["billed_units"]["input_tokens"] == 3


@pytest.mark.parametrize("secret", ["sk-bad-1", ""])
def test_cohere_refuses_bad_keys(http: httpx2.Client, secret: str) -> None:
    body = {"model": "command-x", "messages": [{"role": "user", "content": ASK}]}
    headers = {"authorization": f"Bearer {secret}".strip()}
    answer = http.post("/cohere/v2/chat", json=body, headers=headers)
    assert answer.status_code == 401
    assert set(answer.json()) == {"id", "message"}


TALK = [
    {"role": "system", "content": "Be a kind one"},
    {"role": "user", "content": "What is  get_weather\n good for?"},
]
FUNCTION = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}


@pytest.mark.parametrize("tools", [False, True])
def test_usage_is_the_same_in_every_dialect(http: httpx2.Client, tools: bool) -> None:
    shared: dict[str, Any] = {"model": "m", "messages": TALK}
    if tools:
        shared["tools"] = [FUNCTION]
    openai = http.post("/openai/v1/chat/completions", json=shared).json()["usage"]
    cohere = http.post("/cohere/v2/chat", json=shared).json()["usage"]["tokens"]
    claude: dict[str, Any] = {
        "model": "m",
        "max_tokens": 99,
        "system": TALK[0]["content"],
        "messages": TALK[1:],
        "tools": [TOOL] if tools else [],
    }
    anthropic = http.post("/anthropic/v1/messages", json=claude).json()["usage"]
    google: dict[str, Any] = {
        "systemInstruction": {"parts": [{"text": TALK[0]["content"]}]},
        "contents": [{"role": "user", "parts": [{"text": TALK[1]["content"]}]}],
    }
    if tools:
        declared = {"name": "get_weather", "parameters": SCHEMA}
        google["tools"] = [{"functionDeclarations": [declared]}]
    gemini = http.post(f"{GEMINI}:generateContent", json=google).json()["usageMetadata"]
    used = (openai["prompt_tokens"], openai["completion_tokens"])
    assert used[0] == 9
    assert (cohere["input_tokens"], cohere["output_tokens"]) == used
    assert (anthropic["input_tokens"], anthropic["output_tokens"]) == used
    assert (gemini["promptTokenCount"], gemini["candidatesTokenCount"]) == used


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/anthropic/v1/messages", {"model": "m", "max_tokens": 5, "messages": [{"role": []}]}),
        ("/anthropic/v1/messages", {"model": "m", "max_tokens": "5", "messages": [3]}),
        ("/anthropic/v1/messages", {"model": "m", "max_tokens": 5, "messages": "x"}),
        (f"{GEMINI}:generateContent", {"contents": []}),
        (f"{GEMINI}:generateContent", {"contents": [{"role": [], "parts": []}]}),
        (f"{GEMINI}:generateContent", {"contents": [{"role": "x", "parts": [1]}]}),
        (f"{GEMINI}:embedContent", {"content": 5}),
        ("/cohere/v2/chat", {"model": "m", "messages": [{"role": {}}]}),
        ("/cohere/v2/embed", {"model": "m", "texts": 5, "input_type": "x"}),
    ],
)
def test_bad_requests_are_refused(http: httpx2.Client, path: str, body: dict[str, Any]) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/anthropic/v1/messages",
            {
                "model": "m",
                "max_tokens": 5,
                "system": 5,
                "tools": "x",
                "tool_choice": 1,
                "stop_sequences": 4,
                "output_config": 3,
                "messages": [{"role": "user", "content": [1, {"type": "tool_result"}]}],
            },
        ),
        (
            f"{GEMINI}:generateContent",
            {
                "contents": [{"parts": [{"functionCall": 5}, {"functionResponse": 5}, 7]}],
                "systemInstruction": 3,
                "tools": [1, {"functionDeclarations": 4}],
                "toolConfig": [],
                "generationConfig": {"responseMimeType": 5, "stopSequences": {}},
            },
        ),
        (
            "/cohere/v2/chat",
            {
                "model": "m",
                "messages": [{"role": "tool", "content": [{"type": "document", "document": 3}]}],
                "tools": {},
                "response_format": 1,
                "stop_sequences": 2,
            },
        ),
    ],
)
def test_odd_fields_do_no_harm(http: httpx2.Client, path: str, body: dict[str, Any]) -> None:
    assert http.post(path, json=body).status_code in (200, 400)
