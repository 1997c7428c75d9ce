"""A Responses request, said as a chat completion's."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.problems import InvalidRequest
from providers.adapters.anthropic import ADAPTER
from providers.call import Call, Upstream
from providers.operations import registry, validate
from providers.surfaces import FORMS
from providers.surfaces.responses.sealing import opened, sealed

HI = {"role": "user", "content": "Hi"}
ASK: dict[str, Any] = {"model": "m", "input": [HI]}
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}", "id": "fc_1"}
THOUGHT = {"type": "thinking", "thinking": "Well…", "signature": "c2ln"}
SIGNED = {"anthropic": {"thinking_blocks": [THOUGHT]}}


def said(text: str) -> dict[str, Any]:
    """An answer of an earlier Response."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    head = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant"}
    return {**head, "content": [part]}


def output(call_id: str, told: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": told}


def thought(**more: Any) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs_1", "summary": [], **more}


def called(call_id: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}


def chat(**asked: Any) -> dict[str, Any]:
    params = FORMS["responses"].speak("req-1").chat({**ASK, **asked})
    validate(registry()["chat.completions"], params)
    return params


def messages(*items: Any) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = chat(input=list(items))["messages"]
    return made


def test_all_that_may_be_asked() -> None:
    assert chat(
        input="Hi",
        instructions="Be kind.",
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.9,
        stream=True,
        stream_options={"include_obfuscation": False},
        tools=[TOOL],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
        reasoning={"effort": "low", "summary": "auto"},
        text={
            "verbosity": "low",
            "format": {"type": "json_schema", "name": "x", "schema": {}, "strict": True},
        },
        include=["reasoning.encrypted_content"],
        metadata={"a": "b"},
        user="u",
        safety_identifier="s",
        prompt_cache_key="k",
        service_tier="auto",
        truncation="disabled",
        store=False,
        background=False,
        previous_response_id=None,
        top_logprobs=0,
    ) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hi"},
        ],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "parameters": {"type": "object"}, "strict": True},
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
        "verbosity": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": {}, "strict": True},
        },
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "service_tier": "auto",
    }


def test_a_choice_without_tools_asks_for_nothing() -> None:
    assert chat(tool_choice="auto", parallel_tool_calls=True, tools=[]) == chat()


def test_a_turn_of_the_assistants_is_one_message() -> None:
    assert messages(
        HI,
        thought(summary=[{"type": "summary_text", "text": "Hm."}]),
        said("I look."),
        CALL,
        {**CALL, "call_id": "c2"},
        output("c1", "4"),
        output("c2", [{"type": "input_text", "text": "5"}]),
        said("Rain."),
        HI,
    ) == [
        HI,
        {
            "role": "assistant",
            "content": "I look.",
            "reasoning_content": "Hm.",
            "tool_calls": [called("c1"), called("c2")],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
        {"role": "tool", "tool_call_id": "c2", "content": "5"},
        {"role": "assistant", "content": "Rain."},
        HI,
    ]


def test_calls_without_a_word() -> None:
    assert messages(HI, CALL)[1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [called("c1")],
    }


def test_every_kind_of_part() -> None:
    (message,) = messages(
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What?"},
                {"type": "input_image", "image_url": "https://x.example/cat.png", "detail": "auto"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
                {
                    "type": "input_file",
                    "file_data": "data:application/pdf;base64,AA==",
                    "filename": "a",
                },
            ],
        }
    )
    assert message["content"] == [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "https://x.example/cat.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
        {
            "type": "file",
            "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a"},
        },
    ]


def test_signed_thoughts_come_back_to_their_model() -> None:
    surface = FORMS["responses"].speak("req-1")
    items = [HI, thought(encrypted_content=sealed(SIGNED)), CALL, output("c1", "4")]
    params = surface.chat({**ASK, "input": items, "tools": [TOOL]})
    assert params["messages"][1]["extra_content"] == SIGNED
    assert surface.annotated
    call = Call("chat.completions", params, annotated=True)
    body = ADAPTER.request(call, Upstream("a", "https://a.example", "claude-x", "key")).body
    turn = orjson.loads(body or b"")["messages"][1]
    assert turn["content"][0] == THOUGHT


def test_several_thoughts_of_one_turn_are_joined() -> None:
    sign = thought(encrypted_content=sealed(SIGNED))
    (_, turn) = messages(HI, sign, sign, said("Yes"))
    assert turn["extra_content"] == {"anthropic": {"thinking_blocks": [THOUGHT, THOUGHT]}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a member nobody knows": ({"moderation": {}}, "/moderation"),
    "an earlier response": ({"previous_response_id": "resp_1"}, "/previous_response_id"),
    "a conversation": ({"conversation": "conv_1"}, "/conversation"),
    "keeping": ({"store": True}, "/store"),
    "the background": ({"background": True}, "/background"),
    "a prompt that is kept": ({"prompt": {"id": "p"}}, "/prompt"),
    "calls of OpenAI's tools": ({"max_tool_calls": 3}, "/max_tool_calls"),
    "probabilities": ({"top_logprobs": 2}, "/top_logprobs"),
    "cutting": ({"truncation": "auto"}, "/truncation"),
    "including": ({"include": ["file_search_call.results"]}, "/include/0"),
    "a tool of OpenAI's": ({"tools": [{"type": "web_search"}]}, "/tools/0/type"),
    "a tool's callers": ({"tools": [{**TOOL, "defer_loading": True}]}, "/tools/0/defer_loading"),
    "a choice of several": (
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}},
        "/tool_choice/type",
    ),
    "a choice of none": ({"tool_choice": "required"}, "/tool_choice"),
    "no choice": ({"tool_choice": "sometimes"}, "/tool_choice"),
    "an old summary": ({"reasoning": {"generate_summary": "auto"}}, "/reasoning/generate_summary"),
    "no input": ({"input": []}, "/input"),
    "a reference": ({"input": [{"type": "item_reference", "id": "x"}]}, "/input/0/type"),
    "an item nobody knows": ({"input": [{"type": "computer_call"}]}, "/input/0/type"),
    "a call without its name": (
        {"input": [{"type": "function_call", "call_id": "c", "arguments": "{}"}]},
        "/input/0/name",
    ),
    "a role": ({"input": [{"role": "tool", "content": "x"}]}, "/input/0/role"),
    "a file that is kept": (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
        "/input/0/content/0/file_id",
    ),
    "an image that is nowhere": (
        {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
        "/input/0/content/0/image_url",
    ),
    "an image in instructions": (
        {
            "input": [
                {"role": "system", "content": [{"type": "input_image", "image_url": "https://x"}]}
            ]
        },
        "/input/0/content/0/type",
    ),
    "what another sealed": (
        {"input": [thought(encrypted_content="gAAAA")]},
        "/input/0/encrypted_content",
    ),
    "a schema without a name": (
        {"text": {"format": {"type": "json_schema", "schema": {}}}},
        "/text/format/name",
    ),
}


@pytest.mark.parametrize(("asked", "pointer"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_said_is_refused_by_name(asked: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(**asked)
    assert pointer in [error["pointer"] for error in caught.value.extra["errors"]]
    assert caught.value.param


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "text",
                    "role",
                    "content",
                    "call_id",
                    "name",
                    "output",
                    "summary",
                    "arguments",
                ]
            ),
            inner
            | st.sampled_from(
                [
                    "message",
                    "function_call",
                    "function_call_output",
                    "reasoning",
                    "input_text",
                    "user",
                ]
            ),
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(sorted(FORMS["responses"].request_schema["properties"])), JUNK)
def test_no_junk_is_a_fault_of_ours(name: str, junk: Any) -> None:
    for asked in (
        {name: junk},
        {"input": [junk]},
        {"input": [{"role": "user", "content": [junk]}]},
    ):
        try:
            chat(**asked)
        except InvalidRequest as problem:
            assert problem.param


@given(st.text(max_size=20))
def test_what_we_did_not_seal_is_not_opened(text: str) -> None:
    assert opened(text) is None
    for junk in ("pb1." + text, sealed(SIGNED)[:-3]):
        extra = opened(junk)
        assert extra is None or isinstance(extra, dict)
