"""OpenAI request in, exact Anthropic request out; what Anthropic cannot say is refused by name."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.problems import InvalidRequest
from providers.adapter import Unsupported
from providers.adapters.anthropic import ADAPTER
from providers.call import Call, Upstream, UpstreamRequest

BASE = "https://api.anthropic.example"
SECRET = "sk-ant-not-a-real-key"
NEW, OLD = "claude-opus-4-6", "claude-haiku-4-5-20251001"
HI = [{"role": "user", "content": "Hi"}]
ADDRESS = {"type": "object", "properties": {"city": {"type": "string"}}}


def upstream(model: str = NEW, max_output: int | None = None, **settings: Any) -> Upstream:
    return Upstream("anthropic", BASE, model, SECRET, settings, max_output=max_output)


def send(params: dict[str, Any], to: Upstream | None = None) -> UpstreamRequest:
    operation = "embeddings" if "input" in params else "chat.completions"
    return ADAPTER.request(Call(operation, params), to or upstream())


def chat(to: Upstream | None = None, **params: Any) -> dict[str, Any]:
    params.setdefault("messages", HI)
    body: dict[str, Any] = orjson.loads(send(params, to).body or b"")
    return body


def turns(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = chat(messages=list(messages))["messages"]
    return made


def refused(to: Upstream | None = None, **params: Any) -> str:
    with pytest.raises(Unsupported) as refusal:
        chat(to, **params)
    pointer = refusal.value.extra["errors"][0]["pointer"]
    assert pointer == "/" + str(refusal.value.param).replace(".", "/")
    assert refusal.value.status == 400
    return str(refusal.value.param)


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def tool(name: str = "weather", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


def call(call_id: str, arguments: str = "{}", **more: Any) -> dict[str, Any]:
    function = {"name": "weather", "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function, **more}


def result(call_id: str, content: Any = "rain") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def test_the_smallest_call_is_exactly_this() -> None:
    request = send({"model": "fast", "messages": HI})
    assert request.method == "POST"
    assert request.url == f"{BASE}/v1/messages"
    assert request.headers == {
        "content-type": "application/json",
        "anthropic-version": "2023-06-01",
        "x-api-key": SECRET,
    }
    assert orjson.loads(request.body or b"") == {
        "model": NEW,
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [text("Hi")]}],
    }


@pytest.mark.parametrize("base", [BASE, BASE + "/", BASE + "/v1", BASE + "/v1/"])
def test_a_base_url_with_or_without_its_version(base: str) -> None:
    request = send({"messages": HI}, Upstream("anthropic", base, NEW))
    assert request.url == f"{BASE}/v1/messages"
    assert "x-api-key" not in request.headers


def test_a_rows_headers_are_sent() -> None:
    beta = {"Anthropic-Beta": "mcp-client-2025-11-20", "Anthropic-Version": "2099-01-01"}
    headers = send({"messages": HI}, upstream(headers=beta)).headers
    assert headers["anthropic-beta"] == "mcp-client-2025-11-20"
    assert headers["anthropic-version"] == "2099-01-01"


def test_embeddings_are_refused() -> None:
    with pytest.raises(Unsupported):
        send({"input": "text"})


def test_a_stream_is_asked_for() -> None:
    assert chat(stream=True, stream_options={"include_usage": True})["stream"] is True
    assert "stream" not in chat(stream=False)


@pytest.mark.parametrize(
    ("params", "most", "limit"),
    [
        ({}, None, 4096),
        ({}, 64000, 64000),
        ({"max_tokens": 7}, None, 7),
        ({"max_tokens": 7}, 64000, 7),
        ({"max_completion_tokens": 9}, 64000, 9),
        ({"max_completion_tokens": 9, "max_tokens": 7}, None, 7),
        ({"max_tokens": 99999}, 64000, 64000),
        ({"max_tokens": None}, None, 4096),
    ],
)
def test_max_tokens(params: dict[str, Any], most: int | None, limit: int) -> None:
    to = upstream(max_output=most)
    assert chat(to, **params)["max_tokens"] == limit
    call = Call("chat.completions", {"messages": HI, **params})
    assert ADAPTER.estimate(call, to).output_tokens >= limit


def test_system_and_developer_messages_become_the_system_prompt() -> None:
    mark = {"type": "ephemeral"}
    body = chat(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello.", "refusal": None, "annotations": []},
            {"role": "developer", "content": [text("In verse.", cache_control=mark)]},
            {"role": "user", "content": [text("Again")]},
        ]
    )
    assert body["system"] == [text("Be brief."), text("In verse.", cache_control=mark)]
    assert body["messages"] == [
        {"role": "user", "content": [text("Hi")]},
        {"role": "assistant", "content": [text("Hello.")]},
        {"role": "user", "content": [text("Again")]},
    ]


def test_consecutive_roles_become_one_turn() -> None:
    made = turns(
        {"role": "user", "content": "a"},
        {"role": "user", "content": [text("b")]},
        {"role": "assistant", "content": "c"},
        {"role": "assistant", "refusal": "No."},
        {"role": "user", "content": "d"},
    )
    assert made == [
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "assistant", "content": [text("c"), text("No.")]},
        {"role": "user", "content": [text("d")]},
    ]


@pytest.mark.parametrize("nothing", ["", " \n", None, [], [text("")], [text(" ")]])
def test_blank_texts_are_left_out_since_anthropic_refuses_them(nothing: Any) -> None:
    blank = {"role": "assistant", "content": nothing}
    assert turns(*HI, blank) == [{"role": "user", "content": [text("Hi")]}]
    assert refused(messages=[{"role": "user", "content": nothing}]) == "messages"


def test_only_system_messages_are_no_conversation() -> None:
    assert refused(messages=[{"role": "system", "content": "x"}]) == "messages"


def test_images_and_files() -> None:
    made = turns(
        *user(
            text("What?", cache_control={"type": "ephemeral"}),
            image("data:image/png;base64,aGk="),
            image("data:image/jpg;charset=binary;base64,aGk=", detail="auto"),
            image("https://a.example/b.webp"),
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk="}},
            {
                "type": "file",
                "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "x.pdf"},
            },
        )
    )
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "aGk="}
    [turn] = made
    assert turn["content"] == [
        text("What?", cache_control={"type": "ephemeral"}),
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
        },
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/jpeg", "data": "aGk="},
        },
        {"type": "image", "source": {"type": "url", "url": "https://a.example/b.webp"}},
        {"type": "document", "source": pdf},
        {"type": "document", "source": pdf, "title": "x.pdf"},
    ]


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "input_audio", "input_audio": {"format": "wav", "data": ""}}, "type"),
        (image("http://a.example/b"), "image_url.url"),
        (image("data:image/png,raw"), "image_url.url"),
        (image("data:image/heic;base64,aGk="), "image_url.url"),
        (image("https://a/b", detail="high"), "image_url.detail"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "file.file_data"),
        ({"type": "file", "file": {"file_data": "data:text/plain;base64,aGk="}}, "file.file_data"),
        (text("x", colour="red"), "colour"),
    ],
)
def test_parts_that_anthropic_cannot_take(part: dict[str, Any], param: str) -> None:
    assert refused(messages=user(part)) == f"messages.0.content.0.{param}"


def test_only_text_is_a_system_prompt() -> None:
    messages = [{"role": "system", "content": [image("https://a.example/b")]}, *HI]
    assert refused(messages=messages) == "messages.0.content"


def test_tool_calls_and_results() -> None:
    made = turns(
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": "I look.",
            "reasoning_content": "Hm.",
            "tool_calls": [call("a", '{"city":"Lund"}'), call("b", "")],
        },
        result("b"),
        result("a", [text("sun"), image("https://a.example/sky")]),
        {"role": "user", "content": "And?"},
    )
    assert made[1]["content"] == [
        text("I look."),
        {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Lund"}},
        {"type": "tool_use", "id": "b", "name": "weather", "input": {}},
    ]
    picture = {"type": "image", "source": {"type": "url", "url": "https://a.example/sky"}}
    assert made[2] == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "b", "content": "rain"},
            {"type": "tool_result", "tool_use_id": "a", "content": [text("sun"), picture]},
            text("And?"),
        ],
    }


def test_results_come_first_and_calls_last_in_their_turns() -> None:
    made = turns(
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call("a"), call("b")]},
        {"role": "assistant", "content": "One moment."},
        result("a", ""),
        {"role": "user", "content": "Hurry."},
        result("b"),
    )
    assert [block["type"] for block in made[1]["content"]] == ["text", "tool_use", "tool_use"]
    assert made[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": ""},
        {"type": "tool_result", "tool_use_id": "b", "content": "rain"},
        text("Hurry."),
    ]


def test_ids_of_other_providers_fit() -> None:
    made = turns(
        *HI, {"role": "assistant", "tool_calls": [call("functions.f:0")]}, result("functions.f:0")
    )
    assert made[1]["content"][0]["id"] == made[2]["content"][0]["tool_use_id"] == "functions_f_0"


def test_signed_thoughts_come_back_before_all_else() -> None:
    thoughts = [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "redacted_thinking", "data": "…"},
    ]
    made = turns(
        *HI,
        {
            "role": "assistant",
            "content": "I look.",
            "reasoning_content": "Hm.",
            "tool_calls": [call("a")],
            "extra_content": {"anthropic": {"thinking_blocks": thoughts}, "google": {}},
        },
        result("a"),
    )
    kinds = [block["type"] for block in made[1]["content"]]
    assert kinds == ["thinking", "redacted_thinking", "text", "tool_use"]
    assert made[1]["content"][:2] == thoughts


def test_thoughts_are_no_way_in_for_other_blocks() -> None:
    smuggled = {"anthropic": {"thinking_blocks": [{"type": "tool_result"}]}}
    with pytest.raises(InvalidRequest):
        chat(messages=[*HI, {"role": "assistant", "content": "x", "extra_content": smuggled}])


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "function", "content": "x"}, "role"),
        ({"role": "user", "content": "x", "name": "Bo"}, "name"),
        ({"role": "assistant", "content": "x", "audio": {"id": "a"}}, "audio"),
        (
            {"role": "assistant", "tool_calls": [call("a", "[1]")]},
            "tool_calls.0.function.arguments",
        ),
        ({"role": "assistant", "tool_calls": [call("a", "{")]}, "tool_calls.0.function.arguments"),
        ({"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}, "tool_calls.0.type"),
    ],
)
def test_messages_that_anthropic_cannot_take(message: dict[str, Any], param: str) -> None:
    assert refused(messages=[message]) == f"messages.0.{param}"


def test_tools() -> None:
    body = chat(
        tools=[
            tool(description="Now", parameters=ADDRESS, strict=False),
            tool("now") | {"cache_control": {"type": "ephemeral"}},
            tool("typeless", parameters={"properties": {"a": {}}}, description=None),
            tool("strict", parameters=ADDRESS, strict=True),
        ],
        tool_choice="auto",
    )
    assert body["tools"] == [
        {"name": "weather", "description": "Now", "input_schema": ADDRESS},
        {
            "name": "now",
            "input_schema": {"type": "object", "properties": {}},
            "cache_control": {"type": "ephemeral"},
        },
        {"name": "typeless", "input_schema": {"type": "object", "properties": {"a": {}}}},
        {
            "name": "strict",
            "strict": True,
            "input_schema": ADDRESS | {"additionalProperties": False},
        },
    ]
    assert "tool_choice" not in body


@pytest.mark.parametrize(
    ("choice", "parallel", "made"),
    [
        ("auto", True, None),
        ("auto", False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("none", False, {"type": "none"}),
        ("required", None, {"type": "any"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        (tool("now"), None, {"type": "tool", "name": "now"}),
        (None, None, None),
    ],
)
def test_tool_choice(choice: Any, parallel: bool | None, made: Any) -> None:
    body = chat(tools=[tool()], tool_choice=choice, parallel_tool_calls=parallel)
    assert body.get("tool_choice") == made


@pytest.mark.parametrize("choice", ["auto", "none", None])
def test_a_choice_without_tools_that_chooses_nothing(choice: Any) -> None:
    assert chat(tool_choice=choice, tools=[]).keys() == {"model", "max_tokens", "messages"}


def test_sampling() -> None:
    body = chat(temperature=0, stop="END", top_k=4, user="u-1")
    assert body["temperature"] == 0
    assert chat(top_p=0)["top_p"] == 0
    assert body["stop_sequences"] == ["END"]
    assert body["top_k"] == 4
    assert body["metadata"] == {"user_id": "u-1"}
    assert chat(temperature=0.5, stop=["a", "b"])["stop_sequences"] == ["a", "b"]
    assert chat(user="u-1", safety_identifier="s-1")["metadata"] == {"user_id": "s-1"}


@pytest.mark.parametrize("model", ["claude-opus-4-7", "claude-sonnet-5", "claude-haiku-5-5"])
@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_newer_models_take_no_word_about_sampling(model: str, name: str) -> None:
    assert refused(upstream(model), **{name: 0}) == name
    assert chat(upstream(model), temperature=1, top_p=1).keys() == {
        *("model", "max_tokens", "messages")
    }
    assert chat(upstream("minimax-m2"), temperature=0.2, top_p=0.5)["top_p"] == 0.5


def test_what_is_sampled_is_said_once_and_not_to_a_model_that_thinks() -> None:
    assert refused(temperature=0.5, top_p=0.5) == "top_p"
    assert refused(temperature=0.5, reasoning_effort="low") == "temperature"
    assert refused(top_k=5, reasoning_effort="low") == "top_k"
    assert refused(top_p=0.9, reasoning_effort="low") == "top_p"
    assert chat(top_p=0.95, reasoning_effort="low")["top_p"] == 0.95
    assert chat(temperature=0, reasoning_effort="none")["temperature"] == 0


def test_what_asks_for_nothing_is_left_out() -> None:
    body = chat(
        temperature=1,
        top_p=1.0,
        n=1,
        frequency_penalty=0,
        presence_penalty=0.0,
        logprobs=False,
        logit_bias={},
        store=False,
        seed=None,
        response_format={"type": "text"},
        reasoning_effort=None,
        metadata={"trace": "1"},
        parallel_tool_calls=True,
    )
    assert body.keys() == {"model", "max_tokens", "messages"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("a_field_of_tomorrow", 1),
        ("frequency_penalty", 0.5),
        ("presence_penalty", -1),
        ("logit_bias", {"50256": -100}),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("seed", 7),
        ("n", 2),
        ("modalities", ["text", "audio"]),
        ("prediction", {"type": "content", "content": "x"}),
        ("web_search_options", {}),
        ("functions", [{"name": "f"}]),
        ("store", True),
        ("service_tier", "flex"),
        ("temperature", 1.5),
        ("stop", "\n"),
        ("stop", ["END", " "]),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "allowed_tools"}),
        ("reasoning_effort", "galactic"),
    ],
)
def test_what_anthropic_cannot_say_is_refused_by_name(field: str, value: Any) -> None:
    assert refused(**{field: value}) == field


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([tool(), {"type": "web_search"}], "tools.1.type"),
        ([tool(colour=1)], "tools.0.function.colour"),
        ([tool() | {"colour": 1}], "tools.0.colour"),
    ],
)
def test_tools_that_anthropic_cannot_take(tools: list[Any], param: str) -> None:
    assert refused(tools=tools) == param


def test_a_json_schema_is_an_output_format() -> None:
    schema = {
        "type": "object",
        "properties": {
            "type": {"type": "string"},
            "places": {"type": "array", "items": {"$ref": "#/$defs/place"}},
            "open": {"type": "object", "additionalProperties": True},
            "either": {"anyOf": [{"type": "object"}, {"type": "null"}]},
            "all": {"allOf": [{"type": "object"}]},
        },
        "$defs": {"place": {"type": "object", "properties": {"lat": {"type": "number"}}}},
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    original = orjson.dumps(wanted)
    body = chat(response_format=wanted)
    made = body["output_config"]["format"]["schema"]
    assert body["output_config"]["format"]["type"] == "json_schema"
    assert made["additionalProperties"] is False
    assert made["$defs"]["place"]["additionalProperties"] is False
    assert made["properties"]["open"]["additionalProperties"] is True
    assert made["properties"]["either"]["anyOf"][0] == {
        "type": "object",
        "additionalProperties": False,
    }
    assert made["properties"]["all"] == {"allOf": [{"type": "object"}]}
    assert made["properties"]["type"] == {"type": "string"}
    assert orjson.dumps(wanted) == original


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ({"type": "json_object"}, "response_format.type"),
        (
            {"type": "json_schema", "json_schema": {"name": "x"}},
            "response_format.json_schema.schema",
        ),
    ],
)
def test_json_without_a_schema_is_refused(wanted: dict[str, Any], param: str) -> None:
    assert refused(response_format=wanted) == param


@pytest.mark.parametrize(
    ("model", "effort", "made"),
    [
        (NEW, "none", {"thinking": {"type": "disabled"}}),
        (
            NEW,
            "minimal",
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        ),
        (NEW, "high", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
        (NEW, "xhigh", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}),
        (
            "claude-next",
            "low",
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        ),
        ("claude-haiku-5-5", "none", {"thinking": {"type": "disabled"}}),
        ("claude-sonnet-5-5", "none", {"thinking": {"type": "between_tools"}}),
        (OLD, "none", {}),
        (OLD, "low", {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        (OLD, "high", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        ("claude-3-5-haiku-20241022", "none", {}),
    ],
)
def test_effort_in_the_models_own_terms(model: str, effort: str, made: dict[str, Any]) -> None:
    body = chat(upstream(model), reasoning_effort=effort)
    assert {k: v for k, v in body.items() if k in ("thinking", "output_config")} == made


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("claude-3-5-haiku-20241022", {"reasoning_effort": "low"}),
        ("claude-opus-5-5", {"reasoning_effort": "none"}),
        (OLD, {"reasoning_effort": "xhigh"}),
        (OLD, {"reasoning_effort": "low", "max_tokens": 1024}),
    ],
)
def test_effort_that_a_model_cannot_make(model: str, params: dict[str, Any]) -> None:
    assert refused(upstream(model), **params) == "reasoning_effort"


def test_a_format_and_an_effort_share_their_place_with_what_the_client_says_itself() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": ADDRESS}}
    body = chat(
        reasoning_effort="low",
        response_format=schema,
        output_config={"task_budget": {"type": "tokens", "total": 9}},
        thinking={"type": "adaptive", "display": "summarized"},
    )
    assert body["output_config"].keys() == {"effort", "format", "task_budget"}
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}


def test_a_thinking_model_chooses_freely() -> None:
    params = {"tools": [tool()], "tool_choice": "required", "reasoning_effort": "low"}
    assert refused(**params) == "tool_choice"
    assert chat(**params | {"reasoning_effort": "none"})["tool_choice"] == {"type": "any"}
    forced = {"tools": [tool()], "tool_choice": "required"}
    assert refused(upstream("claude-sonnet-5-5"), **forced) == "tool_choice"
    for model in ("claude-sonnet-5", "claude-haiku-5-5", "claude-next"):
        assert chat(upstream(model), **forced)["tool_choice"] == {"type": "any"}


def test_the_beginning_of_an_answer() -> None:
    begun = [*HI, {"role": "assistant", "content": "It is \n"}]
    said = chat(upstream(OLD), messages=begun)["messages"][-1]
    assert said == {"role": "assistant", "content": [{"type": "text", "text": "It is"}]}
    for model in (NEW, "claude-sonnet-5-5"):
        assert refused(upstream(model), messages=begun) == "messages"


def test_a_thinking_model_wants_its_thoughts_back() -> None:
    signed = {
        "anthropic": {"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "s"}]}
    }
    answer = {"role": "assistant", "tool_calls": [call("a")]}
    old = upstream(OLD)
    history = [*HI, answer, result("a")]
    assert refused(old, messages=history, reasoning_effort="low") == "messages"
    history = [*HI, answer | {"extra_content": signed}, result("a")]
    assert chat(old, messages=history, reasoning_effort="low")["thinking"]["type"] == "enabled"


def test_fields_that_only_anthropic_knows_pass_through() -> None:
    own = {
        "cache_control": {"type": "ephemeral"},
        "container": "c-1",
        "inference_geo": "eu",
        "mcp_servers": [{"type": "url", "url": "https://mcp.example", "name": "m"}],
        "thinking": {"type": "enabled", "budget_tokens": 2000},
    }
    body = chat(**own)
    assert {name: body[name] for name in own} == own
    assert chat(top_k=5)["top_k"] == 5


@pytest.mark.parametrize(
    "params",
    [
        {"messages": [{"role": "user", "content": "\ud800"}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": ["Hi"]},
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        {"temperature": "hot"},
        {"thinking": "hard"},
        {"top_k": 2**70},
        {"tools": [tool(parameters=[1])]},
        {"reasoning_effort": []},
    ],
)
def test_fields_of_another_form_are_invalid(params: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        chat(**params)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize("depth", [100, 500, 900])
def test_a_schema_however_deep_breaks_nothing(depth: int) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": nested(depth)}}
    try:
        chat(response_format=wanted, tools=[tool(parameters=nested(depth), strict=True)])
    except InvalidRequest:
        assert depth > 100


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["text", "user", "assistant", "tool", "function", "json_schema", "{}"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("role", "content", "type", "text", "image_url", "url", "function", "id"),
                    *("name", "arguments", "tool_calls", "tool_call_id", "schema", "parameters"),
                    *("json_schema", "extra_content", "anthropic", "thinking_blocks", "strict"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)

_ANY = dict.fromkeys(
    (
        *("tools", "tool_choice", "stop", "response_format", "reasoning_effort"),
        *("max_tokens", "temperature", "top_p", "thinking", "output_config", "user"),
    ),
    _JSON,
)


@given(
    st.fixed_dictionaries(
        {"messages": _JSON | st.lists(_JSON, max_size=3)},
        optional=_ANY,
    )
)
def test_whatever_a_client_sends_is_sent_on_or_refused(params: dict[str, Any]) -> None:
    try:
        send(params)
    except InvalidRequest as refusal:
        assert refusal.status == 400
