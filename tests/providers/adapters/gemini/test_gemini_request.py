"""OpenAI request in, exact Gemini request out; what Gemini cannot say is refused by name."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.problems import InvalidRequest
from providers.adapter import Unsupported
from providers.adapters.gemini import ADAPTER
from providers.call import Call, Upstream, UpstreamRequest

BASE = "https://generativelanguage.googleapis.com/v1beta"
SECRET = "AIzaNotARealKeyNotARealKeyNotARealKey00"


def upstream(model: str = "gemini-2.5-flash", **settings: Any) -> Upstream:
    return Upstream("gemini", BASE, model, SECRET, settings)


def send(params: dict[str, Any], to: Upstream | None = None) -> UpstreamRequest:
    operation = "embeddings" if "input" in params else "chat.completions"
    return ADAPTER.request(Call(operation, params), to or upstream())


def chat(to: Upstream | None = None, **params: Any) -> dict[str, Any]:
    params.setdefault("messages", [{"role": "user", "content": "Hi"}])
    body = send(params, to).body
    assert body is not None
    document: dict[str, Any] = orjson.loads(body)
    return document


def refused(to: Upstream | None = None, **params: Any) -> str:
    with pytest.raises(Unsupported) as refusal:
        chat(to, **params)
    pointer = refusal.value.extra["errors"][0]["pointer"]
    assert pointer == "/" + str(refusal.value.param).replace(".", "/")
    return str(refusal.value.param)


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def tool(name: str = "weather", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


def call(call_id: str, arguments: str = "{}", **more: Any) -> dict[str, Any]:
    function = {"name": "weather", "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function, **more}


def test_the_smallest_call_is_exactly_this() -> None:
    request = send({"model": "fast", "messages": [{"role": "user", "content": "Hi"}]})
    assert request.method == "POST"
    assert request.url == f"{BASE}/models/gemini-2.5-flash:generateContent"
    assert request.headers == {"content-type": "application/json", "x-goog-api-key": SECRET}
    assert orjson.loads(request.body or b"") == {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}]
    }


def test_a_stream_asks_for_server_sent_events() -> None:
    request = send({"messages": [{"role": "user", "content": "Hi"}], "stream": True})
    assert request.url == f"{BASE}/models/gemini-2.5-flash:streamGenerateContent?alt=sse"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1))
def test_the_model_cannot_leave_its_place_in_the_url(model: str) -> None:
    request = send({"messages": [{"role": "user", "content": "Hi"}]}, upstream(model))
    path = request.url.removeprefix(BASE)
    assert path.count(":") == 1
    assert "?" not in path
    assert "#" not in path
    assert SECRET not in request.url


def test_a_keyless_upstream_and_a_tuned_model() -> None:
    params = {"messages": [{"role": "user", "content": "Hi"}]}
    request = ADAPTER.request(
        Call("chat.completions", params), Upstream("g", BASE + "/", "tunedModels/mine")
    )
    assert request.url == f"{BASE}/tunedModels/mine:generateContent"
    assert "x-goog-api-key" not in request.headers


def test_system_and_developer_messages_become_the_system_instruction() -> None:
    body = chat(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello.", "refusal": None, "annotations": []},
            {"role": "developer", "content": [{"type": "text", "text": "In verse."}]},
            {"role": "user", "content": [{"type": "text", "text": "Again"}]},
        ]
    )
    assert body == {
        "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "In verse."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Hi"}]},
            {"role": "model", "parts": [{"text": "Hello."}]},
            {"role": "user", "parts": [{"text": "Again"}]},
        ],
    }


def test_only_system_messages_are_no_conversation() -> None:
    assert refused(messages=[{"role": "system", "content": "x"}]) == "messages"


def test_images_sound_and_files() -> None:
    data = base64.b64encode(b"pixels").decode()
    body = chat(
        messages=user(
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
            {"type": "image_url", "image_url": {"url": "https://a.example/b.JPG?c=d.e"}},
            {"type": "image_url", "image_url": {"url": "https://a.example/b", "detail": "auto"}},
            {"type": "input_audio", "input_audio": {"format": "wav", "data": data}},
            {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{data}"}},
        )
    )
    assert body["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": data}},
        {"fileData": {"fileUri": "https://a.example/b.JPG?c=d.e", "mimeType": "image/jpeg"}},
        {"fileData": {"fileUri": "https://a.example/b"}},
        {"inlineData": {"mimeType": "audio/wav", "data": data}},
        {"inlineData": {"mimeType": "application/pdf", "data": data}},
    ]


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "video_url", "video_url": {}}, "type"),
        ({"type": "image_url", "image_url": {"url": "http://a.example/b"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png,raw"}}, "image_url.url"),
        (
            {"type": "image_url", "image_url": {"url": "https://a/b", "detail": "high"}},
            "image_url.detail",
        ),
        ({"type": "file", "file": {"file_id": "file-1"}}, "file.file_id"),
        ({"type": "file", "file": {"file_data": "bytes"}}, "file.file_data"),
    ],
)
def test_parts_that_gemini_cannot_take(part: dict[str, Any], param: str) -> None:
    assert refused(messages=user(part)) == f"messages.0.content.0.{param}"


def test_tool_calls_and_results_keep_their_ids_names_and_order() -> None:
    body = chat(
        upstream("gemini-2.5-flash"),
        messages=[
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "I should look.",
                "tool_calls": [call("a", '{"city":"Lund"}'), call("b", "")],
            },
            {"role": "tool", "tool_call_id": "b", "content": "rain", "name": "weather"},
            {"role": "tool", "tool_call_id": "a", "content": '{"sky":"blue"}'},
            {"role": "user", "content": "And?"},
        ],
    )
    assert body["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {"functionCall": {"id": "a", "name": "weather", "args": {"city": "Lund"}}},
                {"functionCall": {"id": "b", "name": "weather", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {
                    "functionResponse": {
                        "id": "b",
                        "name": "weather",
                        "response": {"output": "rain"},
                    }
                },
                {"functionResponse": {"id": "a", "name": "weather", "response": {"sky": "blue"}}},
            ],
        },
        {"role": "user", "parts": [{"text": "And?"}]},
    ]


def test_thought_signatures_survive_the_round_trip() -> None:
    def signed(signature: str) -> dict[str, Any]:
        return {"google": {"thought_signature": signature}}

    body = chat(
        upstream("gemini-3-pro-preview"),
        messages=[
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello", "extra_content": signed("text")},
            {"role": "assistant", "content": "", "extra_content": signed("empty")},
            {
                "role": "assistant",
                "tool_calls": [call("a", extra_content=signed("call")), call("b")],
            },
        ],
    )
    signatures = [
        part.get("thoughtSignature") for turn in body["contents"] for part in turn["parts"]
    ]
    assert signatures == [None, "text", "empty", "call", None]


@pytest.mark.parametrize(
    ("model", "signature"),
    [
        ("gemini-3.1-pro", "skip_thought_signature_validator"),
        ("gemini-flash-latest", "skip_thought_signature_validator"),
        ("gemini-2.5-flash", None),
        ("gemma-3-27b-it", None),
    ],
)
def test_calls_made_by_another_provider_get_the_documented_stand_in(
    model: str, signature: str | None
) -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [call("a"), call("b")]},
    ]
    first, second = chat(upstream(model), messages=messages)["contents"][1]["parts"]
    assert first.get("thoughtSignature") == signature
    assert "thoughtSignature" not in second


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "function", "content": "x"}, "role"),
        ({"role": "user", "content": "x", "name": "ann"}, "name"),
        ({"role": "assistant", "audio": {"id": "a"}}, "audio"),
        ({"role": "tool", "tool_call_id": "z", "content": "x"}, "tool_call_id"),
        (
            {"role": "assistant", "tool_calls": [call("a", "[1]")]},
            "tool_calls.0.function.arguments",
        ),
        ({"role": "assistant", "tool_calls": [call("a", "{")]}, "tool_calls.0.function.arguments"),
        (
            {"role": "assistant", "tool_calls": [call("a") | {"type": "custom"}]},
            "tool_calls.0.type",
        ),
        (
            {
                "role": "system",
                "content": [{"type": "image_url", "image_url": {"url": "https://a/b.png"}}],
            },
            "content.0.type",
        ),
    ],
)
def test_messages_that_gemini_cannot_take(message: dict[str, Any], param: str) -> None:
    assert refused(messages=[message]) == f"messages.0.{param}"


def test_an_empty_assistant_message_still_is_a_turn() -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None}]
    assert chat(messages=messages)["contents"][1] == {"role": "model", "parts": [{"text": ""}]}


def test_every_sampling_field_has_its_name() -> None:
    body = chat(
        temperature=0.1,
        top_p=0.9,
        top_k=5,
        max_tokens=10,
        seed=3,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        stop="END",
        logprobs=True,
        top_logprobs=2,
    )
    assert body["generationConfig"] == {
        "temperature": 0.1,
        "topP": 0.9,
        "topK": 5,
        "maxOutputTokens": 10,
        "seed": 3,
        "presencePenalty": 0.5,
        "frequencyPenalty": -0.5,
        "stopSequences": ["END"],
        "responseLogprobs": True,
        "logprobs": 2,
    }
    assert chat(max_completion_tokens=7, stop=["a", "b"], logprobs=False)["generationConfig"] == {
        "maxOutputTokens": 7,
        "stopSequences": ["a", "b"],
    }


def test_fields_that_ask_for_nothing_change_nothing() -> None:
    harmless: dict[str, Any] = {
        "n": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "store": False,
        "stream_options": {"include_usage": True},
        "user": "u-1",
        "safety_identifier": "s-1",
        "metadata": {"a": "b"},
        "prompt_cache_key": "k",
        "service_tier": "auto",
        "modalities": ["text"],
        "verbosity": "medium",
        "logit_bias": {},
        "parallel_tool_calls": True,
        "response_format": {"type": "text"},
        "tools": [],
        "tool_choice": None,
        "reasoning_effort": None,
        "logprobs": False,
    }
    assert chat(**harmless) == chat()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("store", True),
        ("service_tier", "flex"),
        ("modalities", ["text", "audio"]),
        ("verbosity", "high"),
        ("logit_bias", {"1": 1}),
        ("parallel_tool_calls", False),
        ("prediction", {"type": "content", "content": "x"}),
        ("web_search_options", {}),
        ("functions", [{"name": "f"}]),
        ("a_field_of_tomorrow", 0),
    ],
)
def test_what_gemini_cannot_express_is_refused_by_name(field: str, value: Any) -> None:
    assert refused(**{field: value}) == field


def test_tools_become_function_declarations() -> None:
    schema = {"type": "object", "properties": {"a": {"type": ["string", "null"]}}}
    body = chat(tools=[tool(description="Tells.", parameters=schema), tool("now")])
    assert body["tools"] == [
        {
            "functionDeclarations": [
                {"name": "weather", "description": "Tells.", "parametersJsonSchema": schema},
                {"name": "now"},
            ]
        }
    ]
    assert "toolConfig" not in body
    assert refused(tools=[{"type": "custom", "custom": {"name": "x"}}]) == "tools.0.type"


@pytest.mark.parametrize(
    ("choice", "strict", "config"),
    [
        ("auto", False, {"mode": "AUTO"}),
        ("auto", True, {"mode": "VALIDATED"}),
        (None, True, {"mode": "VALIDATED"}),
        ("none", True, {"mode": "NONE"}),
        ("required", True, {"mode": "ANY"}),
        (
            {"type": "function", "function": {"name": "weather"}},
            False,
            {"mode": "ANY", "allowedFunctionNames": ["weather"]},
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool()]}},
            False,
            {"mode": "VALIDATED", "allowedFunctionNames": ["weather"]},
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool()]}},
            False,
            {"mode": "ANY", "allowedFunctionNames": ["weather"]},
        ),
    ],
)
def test_tool_choice(choice: Any, strict: bool, config: dict[str, Any]) -> None:
    body = chat(tools=[tool(strict=strict)], tool_choice=choice)
    assert body["toolConfig"] == {"functionCallingConfig": config}


@pytest.mark.parametrize("choice", [{"type": "custom", "custom": {"name": "x"}}, "banana"])
def test_a_tool_choice_gemini_does_not_have(choice: Any) -> None:
    assert refused(tools=[tool()], tool_choice=choice).startswith("tool_choice")


def test_response_formats() -> None:
    def config(wanted: dict[str, Any]) -> Any:
        return chat(response_format=wanted)["generationConfig"]

    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    named = {"name": "thing", "schema": schema, "strict": True, "description": "A thing."}
    assert config({"type": "json_object"}) == {"responseMimeType": "application/json"}
    assert config({"type": "json_schema", "json_schema": named}) == {
        "responseMimeType": "application/json",
        "responseJsonSchema": schema | {"description": "A thing."},
    }
    assert config({"type": "json_schema", "json_schema": {"name": "any"}}) == {
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object"},
    }
    assert refused(response_format={"type": "grammar"}) == "response_format.type"


@pytest.mark.parametrize(
    ("model", "effort", "config"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "minimal", {"thinkingBudget": 1024}),
        ("gemini-2.5-flash", "low", {"thinkingBudget": 1024}),
        ("gemini-2.5-flash", "medium", {"thinkingBudget": 8192}),
        ("gemini-2.5-pro", "high", {"thinkingBudget": 24576}),
        ("gemini-3-flash", "minimal", {"thinkingLevel": "minimal"}),
        ("gemini-3.1-pro", "minimal", {"thinkingLevel": "low"}),
        ("gemini-flash-latest", "high", {"thinkingLevel": "high"}),
    ],
)
def test_reasoning_effort(model: str, effort: str, config: dict[str, Any]) -> None:
    body = chat(upstream(model), reasoning_effort=effort)
    assert body["generationConfig"] == {"thinkingConfig": config}


@pytest.mark.parametrize(
    ("model", "effort"),
    [
        ("gemini-2.5-pro", "none"),
        ("gemini-3-flash", "none"),
        ("gemini-3-flash", "xhigh"),
        ("gemini-2.0-flash", "low"),
        ("gemma-3-27b-it", "low"),
    ],
)
def test_an_effort_the_model_does_not_have(model: str, effort: str) -> None:
    assert refused(upstream(model), reasoning_effort=effort) == "reasoning_effort"


def test_the_provider_row_can_ask_for_thoughts() -> None:
    body = chat(upstream(include_thoughts=True), reasoning_effort="low")
    thinking = {"thinkingBudget": 1024, "includeThoughts": True}
    assert body["generationConfig"] == {"thinkingConfig": thinking}


def test_embeddings_are_one_request_a_text() -> None:
    to = upstream("gemini-embedding-001")
    request = send(
        {
            "input": ["Lund", "Malmö"],
            "model": "text-embedding-3-small",
            "dimensions": 8,
            "encoding_format": "base64",
            "task_type": "RETRIEVAL_QUERY",
        },
        to,
    )
    assert request.url == f"{BASE}/models/gemini-embedding-001:batchEmbedContents"
    shared = {
        "model": "models/gemini-embedding-001",
        "outputDimensionality": 8,
        "taskType": "RETRIEVAL_QUERY",
    }
    assert orjson.loads(request.body or b"") == {
        "requests": [
            shared | {"content": {"parts": [{"text": text}]}} for text in ("Lund", "Malmö")
        ]
    }
    single = orjson.loads(send({"input": "Lund"}, to).body or b"")
    assert [r["content"] for r in single["requests"]] == [{"parts": [{"text": "Lund"}]}]


@pytest.mark.parametrize("tokens", [[1, 2], [[1, 2], [3]], ["a", 1]])
def test_token_arrays_are_refused(tokens: Any) -> None:
    with pytest.raises(Unsupported) as refusal:
        send({"input": tokens})
    assert refusal.value.param == "input"


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=3)
    | st.just("text"),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "type", "text", "image_url", "url", "function", "id"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {"messages": _JSON | st.lists(_JSON, max_size=2)},
        optional={"tools": _JSON, "tool_choice": _JSON, "stop": _JSON, "response_format": _JSON},
    )
)
def test_whatever_a_client_sends_is_sent_on_or_refused(params: dict[str, Any]) -> None:
    try:
        send(params)
    except InvalidRequest as refusal:
        assert refusal.status == 400
