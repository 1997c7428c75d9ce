"""Anthropic's request, said as a chat completion's, and again to Anthropic: nothing is lost."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.problems import InvalidRequest
from providers.adapters.anthropic import ADAPTER
from providers.annotations import LONGEST_USER, plain
from providers.call import Call, Upstream
from providers.dialects import adapter_for
from providers.operations import registry, validate
from providers.surfaces import FORMS

UPSTREAM = Upstream("anthropic", "https://a.example", "claude-opus-4-5", "key")
MARK = {"type": "ephemeral", "ttl": "1h"}
HI = {"role": "user", "content": "Hi"}
ASK: dict[str, Any] = {"model": "claude-opus-4-5", "max_tokens": 100, "messages": [HI]}
TOOL = {"name": "f", "description": "Does it", "input_schema": {"type": "object", "properties": {}}}
THOUGHT = {"type": "thinking", "thinking": "Well…", "signature": "c2ln"}
HIDDEN = {"type": "redacted_thinking", "data": "ZGF0YQ=="}
IMAGE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def use(call_id: str, **more: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "f", "input": {"a": [1, None]}, **more}


def result(call_id: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **more}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def chat(**asked: Any) -> dict[str, Any]:
    params = FORMS["messages"].speak("req-1").chat({**ASK, **asked})
    validate(registry()["chat.completions"], params)
    return params


def call(**asked: Any) -> Call:
    return Call("chat.completions", chat(**asked), annotated=True)


def sent(**asked: Any) -> dict[str, Any]:
    """What Anthropic is asked in the end."""
    body = ADAPTER.request(call(**asked), UPSTREAM).body
    assert body is not None
    document: dict[str, Any] = orjson.loads(body)
    return document


def spread(document: dict[str, Any]) -> dict[str, Any]:
    """Of two spellings that Anthropic takes for the same, the longer one."""
    made = {**document, "messages": [dict(message) for message in document["messages"]]}
    for holder, name in [(made, "system"), *((message, "content") for message in made["messages"])]:
        if isinstance(holder.get(name), str):
            holder[name] = [text(holder[name])]
    return made


LOSSLESS: dict[str, dict[str, Any]] = {
    "a text": {},
    "a system prompt": {"system": "Be kind."},
    "a marked system prompt": {"system": [text("Be kind."), text("Be brief.", cache_control=MARK)]},
    "texts": {"messages": [user(text("One"), text("Two", cache_control=MARK))]},
    "turns": {"messages": [HI, assistant(text("Hello"), text("there")), HI]},
    "a beginning of the answer": {"messages": [HI, assistant(text("Hello"))]},
    "images": {
        "messages": [
            user(
                {"type": "image", "source": IMAGE, "cache_control": MARK},
                {"type": "image", "source": {"type": "url", "url": "https://x.example/cat.png"}},
                text("Which?"),
            )
        ]
    },
    "a document": {"messages": [user({"type": "document", "source": PDF, "title": "a.pdf"})]},
    "tools": {
        "tools": [TOOL, {**TOOL, "name": "g", "cache_control": MARK}],
        "tool_choice": {"type": "any"},
    },
    "one call at most": {
        "tools": [TOOL],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    },
    "one tool": {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "f"}},
    "no tool": {"tools": [TOOL], "tool_choice": {"type": "none"}},
    "a tool's work": {
        "tools": [TOOL],
        "thinking": {"type": "adaptive", "display": "omitted"},
        "messages": [
            HI,
            assistant(THOUGHT, HIDDEN, text("I look."), use("t1"), use("t2", cache_control=MARK)),
            user(
                result("t1", "It rains."),
                result(
                    "t2",
                    [text("No."), {"type": "image", "source": IMAGE}],
                    is_error=True,
                    cache_control=MARK,
                ),
                text("Go on."),
            ),
        ],
    },
    "how to say it": {
        "temperature": 0.2,
        "top_k": 5,
        "stop_sequences": ["END", "\n\nHuman:"],
        "metadata": {"user_id": "u" * 100},
        "cache_control": MARK,
        "stream": True,
    },
    "a budget of thought": {"thinking": {"type": "enabled", "budget_tokens": 50}},
    "an effort": {"output_config": {"effort": "max"}},
    "a schema": {
        "output_config": {
            "effort": "low",
            "format": {
                "type": "json_schema",
                "schema": {"type": "object", "properties": {}, "additionalProperties": False},
            },
        }
    },
}


@pytest.mark.parametrize("asked", LOSSLESS.values(), ids=LOSSLESS.keys())
def test_an_anthropic_model_is_asked_what_the_client_asked(asked: dict[str, Any]) -> None:
    assert spread(sent(**asked)) == spread({**ASK, **asked})


@pytest.mark.parametrize("asked", LOSSLESS.values(), ids=LOSSLESS.keys())
def test_what_others_are_given_has_nothing_of_anthropics(asked: dict[str, Any]) -> None:
    params = plain(call(**asked)).params
    validate(registry()["chat.completions"], params)
    said = orjson.dumps(params)
    for name in (b"cache_control", b"is_error", b"signature", b"thinking", b"output_config"):
        assert name not in said
    assert len(params.get("user", "")) <= LONGEST_USER


@pytest.mark.parametrize("dialect", ["openai", "gemini", "cohere", "bedrock"])
@pytest.mark.parametrize(
    "name", ["a text", "a marked system prompt", "texts", "turns", "tools", "how to say it"]
)
def test_every_dialect_takes_it(dialect: str, name: str) -> None:
    """Whatever its client marks and signs."""
    asked = {**LOSSLESS[name], "top_k": None} if dialect == "bedrock" else LOSSLESS[name]
    request = adapter_for(dialect).request(call(**asked), UPSTREAM)
    assert request.body
    assert b"ephemeral" not in request.body


def test_it_is_the_same_call_as_an_openai_clients() -> None:
    """So that both find one answer in the cache."""
    assert chat(
        system="Be kind.",
        messages=[user(text("Hi")), assistant(use("t1")), user(result("t1", "4"), text("And?"))],
        tools=[TOOL],
        tool_choice={"type": "auto"},
        stop_sequences=["END"],
        temperature=0,
    ) == {
        "model": "claude-opus-4-5",
        "max_tokens": 100,
        "temperature": 0,
        "stop": ["END"],
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "t1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"a":[1,null]}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "t1", "content": "4"},
            {"role": "user", "content": "And?"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "Does it",
                    "parameters": {"type": "object", "properties": {}},
                },
            }
        ],
        "tool_choice": "auto",
    }


def test_thoughts_without_a_signature_are_told_as_openais_clients_tell_them() -> None:
    unsigned = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    (_, answer, _) = chat(messages=[HI, assistant(unsigned, text("Yes")), HI])["messages"]
    assert answer == {"role": "assistant", "content": "Yes", "reasoning_content": "Hm."}


@pytest.mark.parametrize(
    ("asked", "effort"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 8000}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 8193}}, "high"),
        ({"thinking": {"type": "adaptive"}}, "high"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low"),
        ({"thinking": {"type": "disabled"}}, None),
        ({"output_config": {"effort": "max"}}, "xhigh"),
        ({"output_config": {"effort": "high"}}, None),
        ({}, None),
    ],
)
def test_how_hard_to_think_is_said_in_openais_word(asked: Any, effort: str | None) -> None:
    assert plain(call(**asked)).params.get("reasoning_effort") == effort


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a member nobody knows": ({"mcp_servers": []}, "/mcp_servers"),
    "no messages": ({"messages": []}, "/messages"),
    "a role": ({"messages": [{"role": "system", "content": "x"}]}, "/messages/0/role"),
    "a block without its text": (
        {"messages": [user({"type": "text"})]},
        "/messages/0/content/0/text",
    ),
    "a block nobody knows": (
        {"messages": [user({"type": "search_result"})]},
        "/messages/0/content/0/type",
    ),
    "a user's call": ({"messages": [user(use("t1"))]}, "/messages/0/content/0/type"),
    "an assistant's image": (
        {"messages": [HI, assistant({"type": "image", "source": IMAGE})]},
        "/messages/1/content/0/type",
    ),
    "a system image": ({"system": [{"type": "image", "source": IMAGE}]}, "/system/0/type"),
    "a file kept elsewhere": (
        {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "x"}})]},
        "/messages/0/content/0/source",
    ),
    "a document of text": (
        {
            "messages": [
                user(
                    {
                        "type": "document",
                        "source": {"type": "text", "media_type": "text/plain", "data": "x"},
                    }
                )
            ]
        },
        "/messages/0/content/0/source",
    ),
    "citations": (
        {"messages": [user({"type": "document", "source": PDF, "citations": {"enabled": True}})]},
        "/messages/0/content/0/citations",
    ),
    "inside a result": (
        {"messages": [user(result("t1", [use("t2")]))]},
        "/messages/0/content/0/content/0/type",
    ),
    "a tool of Anthropic's": (
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "/tools/0/type",
    ),
    "a tool's examples": (
        {"tools": [{**TOOL, "input_examples": [{}]}]},
        "/tools/0/input_examples",
    ),
    "a choice of no tools": ({"tool_choice": {"type": "any"}}, "/tool_choice"),
    "a choice without a name": (
        {"tools": [TOOL], "tool_choice": {"type": "tool"}},
        "/tool_choice/name",
    ),
    "a tier": ({"service_tier": "standard_only"}, "/service_tier"),
    "a temperature": ({"temperature": 1.5}, "/temperature"),
    "a budget that is not told": ({"thinking": {"type": "enabled"}}, "/thinking/budget_tokens"),
}


@pytest.mark.parametrize(("asked", "pointer"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_said_is_refused_by_name(asked: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(**asked)
    assert pointer in [error["pointer"] for error in caught.value.extra["errors"]]
    assert caught.value.param


def test_a_message_needs_its_limit_and_a_count_does_not() -> None:
    asked = {"model": "m", "messages": [HI]}
    assert FORMS["messages.count_tokens"].speak("r").chat(asked) == asked
    with pytest.raises(InvalidRequest) as caught:
        FORMS["messages"].speak("r").chat(asked)
    assert caught.value.param == "max_tokens"


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "source", "content", "id", "name", "input", "data"]),
            inner
            | st.sampled_from(
                [
                    "text",
                    "image",
                    "document",
                    "tool_use",
                    "tool_result",
                    "thinking",
                    "url",
                    "base64",
                ]
            ),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.sampled_from(sorted(FORMS["messages"].request_schema["properties"])),
    JUNK,
    st.sampled_from(["user", "assistant"]),
)
def test_no_junk_is_a_fault_of_ours(name: str, junk: Any, role: str) -> None:
    for asked in ({name: junk}, {"messages": [{"role": role, "content": [junk]}]}):
        try:
            chat(**asked)
        except InvalidRequest as problem:
            assert problem.param
