"""OpenAI request in, exact Cohere request out; what Cohere cannot say is refused by name."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.problems import InvalidRequest
from providers.adapter import Unsupported
from providers.adapters.cohere import ADAPTER
from providers.call import Call, Upstream, UpstreamRequest

BASE = "https://api.cohere.com"
SECRET = "not-a-real-key"
HI = [{"role": "user", "content": "Hi"}]


def upstream(model: str = "command-a-03-2025", **settings: Any) -> Upstream:
    return Upstream("cohere", BASE, model, SECRET, settings)


def send(params: dict[str, Any], to: Upstream | None = None) -> UpstreamRequest:
    operation = "embeddings" if "input" in params else "chat.completions"
    return ADAPTER.request(Call(operation, params), to or upstream())


def body_of(params: dict[str, Any], to: Upstream | None = None) -> dict[str, Any]:
    body = send(params, to).body
    assert body is not None
    document: dict[str, Any] = orjson.loads(body)
    return document


def chat(**params: Any) -> dict[str, Any]:
    params.setdefault("messages", HI)
    return body_of(params)


def changed(**params: Any) -> dict[str, Any]:
    """What the fields add to the smallest body."""
    plain = chat()
    return {name: value for name, value in chat(**params).items() if plain.get(name) != value}


def refused(**params: Any) -> str:
    with pytest.raises(Unsupported) as refusal:
        chat(**params)
    return str(refusal.value.param)


def tool(name: str = "weather", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {}, **more}}


def test_the_smallest_call_is_exactly_this() -> None:
    request = send({"model": "smart", "messages": HI})
    assert request.method == "POST"
    assert request.url == f"{BASE}/v2/chat"
    assert request.headers == {
        "content-type": "application/json",
        "authorization": f"Bearer {SECRET}",
    }
    assert orjson.loads(request.body or b"") == {
        "model": "command-a-03-2025",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": False,
    }
    assert chat(stream=True)["stream"] is True


def test_a_keyless_upstream_sends_no_key() -> None:
    params = {"messages": HI}
    request = ADAPTER.request(Call("chat.completions", params), Upstream("c", BASE + "/", "m"))
    assert request.url == f"{BASE}/v2/chat"
    assert "authorization" not in request.headers


def test_a_whole_conversation() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "low"}}
    text = {"type": "text", "text": "Which?"}
    function = {"name": "weather", "arguments": '{"city":"Lund"}'}
    calls = [
        {"id": "a", "type": "function", "function": function, "index": 0},
        {"id": "b", "type": "function", "function": {"name": "now"}},
    ]
    document = {"type": "document", "document": {"data": "rain"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [text]},
        {"role": "user", "content": [text, image]},
        {"role": "assistant", "content": "Hm.", "refusal": None, "reasoning_content": "Thought."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "assistant", "content": None, "refusal": "Never."},
        {"role": "assistant", "content": [text], "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": "rain", "name": "weather"},
        {"role": "tool", "tool_call_id": "b", "content": [document]},
        {"role": "assistant", "reasoning_content": "Plan.", "tool_calls": calls[:1]},
        {"role": "assistant", "tool_calls": calls[:1]},
    ]
    call_a = {"id": "a", "type": "function", "function": function}
    call_b = {"id": "b", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    assert chat(messages=messages)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": [text]},
        {"role": "user", "content": [text, image]},
        {"role": "assistant", "content": "Hm."},
        {"role": "assistant", "content": [{"type": "text", "text": "No."}]},
        {"role": "assistant", "content": "Never."},
        {"role": "assistant", "tool_calls": [call_a, call_b], "tool_plan": "Which?"},
        {"role": "tool", "tool_call_id": "a", "content": "rain"},
        {"role": "tool", "tool_call_id": "b", "content": [document]},
        {"role": "assistant", "tool_calls": [call_a], "tool_plan": "Plan."},
        {"role": "assistant", "tool_calls": [call_a]},
    ]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "function", "content": "x"}, "role"),
        ({"role": "user", "content": "x", "name": "ann"}, "name"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "content.0.type"),
        ({"role": "system", "content": [{"type": "image_url"}]}, "content.0.type"),
        ({"role": "user", "content": [{"type": "refusal", "refusal": "x"}]}, "content.0.type"),
    ],
)
def test_messages_that_cohere_cannot_take(message: dict[str, Any], param: str) -> None:
    assert refused(messages=[message]) == f"messages.0.{param}"


def test_every_sampling_field_has_its_name() -> None:
    assert changed(
        temperature=0.1,
        top_p=0.5,
        top_k=5,
        max_completion_tokens=10,
        seed=3,
        presence_penalty=0.5,
        frequency_penalty=1,
        stop="END",
        logprobs=True,
    ) == {
        "temperature": 0.1,
        "p": 0.5,
        "k": 5,
        "max_tokens": 10,
        "seed": 3,
        "presence_penalty": 0.5,
        "frequency_penalty": 1,
        "stop_sequences": ["END"],
        "logprobs": True,
    }
    assert changed(max_tokens=4, stop=["a"]) == {"max_tokens": 4, "stop_sequences": ["a"]}


@pytest.mark.parametrize(("top_p", "p"), [(1, 0.99), (0, 0.01), (0.5, 0.5)])
def test_top_p_is_held_to_what_cohere_takes(top_p: float, p: float) -> None:
    assert changed(top_p=top_p) == {"p": p}


def test_fields_that_ask_for_nothing_change_nothing() -> None:
    harmless: dict[str, Any] = {
        "n": 1,
        "store": False,
        "stream_options": {"include_usage": True},
        "user": "u-1",
        "metadata": {"a": "b"},
        "service_tier": "default",
        "parallel_tool_calls": True,
        "response_format": {"type": "text"},
        "tools": [],
        "tool_choice": "auto",
        "logprobs": False,
        "safety_mode": None,
    }
    assert changed(**harmless) == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("top_logprobs", 3),
        ("presence_penalty", -0.5),
        ("frequency_penalty", 1.5),
        ("parallel_tool_calls", False),
        ("reasoning_effort", "xhigh"),
        ("logit_bias", {"1": 1}),
        ("a_field_of_tomorrow", 0),
    ],
)
def test_what_cohere_cannot_express_is_refused_by_name(field: str, value: Any) -> None:
    assert refused(**{field: value}) == field


def test_fields_of_coheres_own_pass_through() -> None:
    own = {"documents": ["a"], "safety_mode": "OFF", "citation_options": {"mode": "FAST"}}
    assert changed(**own) == own


def test_tools_and_strictness() -> None:
    plain = {"type": "function", "function": {"name": "now"}}
    assert changed(tools=[tool(description="Tells.", strict=True), plain]) == {
        "tools": [
            tool(description="Tells."),
            {
                "type": "function",
                "function": {"name": "now", "parameters": {"type": "object", "properties": {}}},
            },
        ],
        "strict_tools": True,
    }
    assert refused(tools=[{"type": "custom", "custom": {}}]) == "tools.0.type"


@pytest.mark.parametrize(
    ("choice", "sent"),
    [("auto", None), ("none", "NONE"), ("required", "REQUIRED")],
)
def test_tool_choice(choice: str, sent: str | None) -> None:
    assert changed(tools=[tool()], tool_choice=choice).get("tool_choice") == sent


def test_a_named_tool_is_forced_by_showing_only_that_one() -> None:
    named = {"type": "function", "function": {"name": "now"}}
    assert changed(tools=[tool(), tool("now")], tool_choice=named) == {
        "tools": [tool("now")],
        "tool_choice": "REQUIRED",
    }
    assert refused(tools=[tool()], tool_choice=named) == "tool_choice.function.name"
    assert refused(tool_choice=named) == "tool_choice.function.name"
    assert refused(tools=[tool()], tool_choice={"type": "custom"}) == "tool_choice.type"
    assert refused(tools=[tool()], tool_choice="banana") == "tool_choice"


def test_response_formats() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    named = {"name": "thing", "schema": schema, "strict": True, "description": "A thing."}
    assert changed(response_format={"type": "json_object"}) == {
        "response_format": {"type": "json_object"}
    }
    assert changed(response_format={"type": "json_schema", "json_schema": named}) == {
        "response_format": {
            "type": "json_object",
            "json_schema": schema | {"description": "A thing."},
        }
    }
    assert changed(response_format={"type": "json_schema", "json_schema": {"name": "x"}}) == {
        "response_format": {"type": "json_object", "json_schema": {"type": "object"}}
    }
    assert refused(response_format={"type": "grammar"}) == "response_format.type"


@pytest.mark.parametrize(
    ("effort", "thinking"),
    [
        ("none", {"type": "disabled"}),
        ("low", {"type": "enabled", "token_budget": 1024}),
        ("high", {"type": "enabled"}),
    ],
)
def test_reasoning_effort(effort: str, thinking: dict[str, Any]) -> None:
    assert changed(reasoning_effort=effort) == {"thinking": thinking}


def test_embeddings() -> None:
    request = send({"input": "Lund", "model": "x"}, upstream("embed-v4.0"))
    assert request.url == f"{BASE}/v2/embed"
    assert orjson.loads(request.body or b"") == {
        "model": "embed-v4.0",
        "texts": ["Lund"],
        "input_type": "search_document",
        "embedding_types": ["float"],
    }
    full = {
        "input": ["Lund", "Malmö"],
        "dimensions": 256,
        "truncate": "END",
        "encoding_format": "base64",
        "user": "u",
    }
    assert body_of(full, upstream("e", input_type="clustering")) == {
        "model": "e",
        "texts": ["Lund", "Malmö"],
        "input_type": "clustering",
        "embedding_types": ["float"],
        "output_dimension": 256,
        "truncate": "END",
    }
    asked = body_of({"input": "x", "input_type": "search_query"}, upstream(input_type="y"))
    assert asked["input_type"] == "search_query"


@pytest.mark.parametrize("tokens", [[1, 2], [[1, 2], [3]]])
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
