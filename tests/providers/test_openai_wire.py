"""OpenAI's shapes as we build them, and what a call is reckoned to use."""

from __future__ import annotations

import base64
import struct
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from providers import openai_wire as wire
from providers import sse
from providers.call import Call, Upstream, Usage

UPSTREAM = Upstream("lab", "https://o.example", "gpt-x")
HEAD = wire.Head("chatcmpl-1", "gpt-x", 1700000000)
USAGE = Usage(9, 4, cached_tokens=5, cache_write_tokens=1, reasoning_tokens=3)
SHOWN = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


def chat(*messages: Any, **params: Any) -> Call:
    return Call("chat.completions", {"messages": list(messages), **params}, request_id="r1")


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def document(event: bytes) -> dict[str, Any]:
    [each] = sse.Decoder().feed(event)
    told: dict[str, Any] = orjson.loads(each.data)
    return told


def test_a_head_is_the_calls_until_the_provider_names_its_own() -> None:
    head = wire.Head.of(chat(), UPSTREAM)
    assert (head.id, head.model) == ("chatcmpl-r1", "gpt-x")
    assert head.named() == head.named(None, "") == head
    named = head.named("x", "gpt-y")
    assert (named.id, named.model, named.created) == ("chatcmpl-x", "gpt-y", head.created)


def test_a_completion() -> None:
    message = {"role": "assistant", "content": "Hej"}
    whole = wire.completion(HEAD, {"message": message, "finish_reason": "stop"}, USAGE)
    ChatCompletion.model_validate(whole)
    assert whole["usage"] == SHOWN
    assert whole["choices"][0] == {
        "index": 0,
        "message": message | {"refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }


def test_chunks_and_the_closing_count() -> None:
    first = document(wire.chunk(HEAD, {"content": "a"}, logprobs=None))
    last = document(wire.chunk(HEAD, {}, finish_reason="stop"))
    count = document(wire.usage_chunk(HEAD, USAGE))
    for each in (first, last, count):
        ChatCompletionChunk.model_validate(each)
    assert first["choices"][0]["finish_reason"] is None
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert (count["choices"], count["usage"]) == ([], SHOWN)


def test_a_whole_answer_as_a_stream() -> None:
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"message": message, "finish_reason": "tool_calls"}
    events = wire.as_chunks(wire.completion(HEAD, choice, USAGE))
    first, last = (document(event)["choices"][0] for event in events)
    assert first["delta"] == {"role": "assistant", "tool_calls": [{"index": 0, **call}]}
    assert (last["delta"], last["finish_reason"]) == ({}, "tool_calls")


def test_embeddings_as_numbers_and_packed() -> None:
    plain = wire.embeddings([[0.5, -1]], model="e", usage=Usage(3))
    packed = wire.embeddings([[0.5, -1]], model="e", usage=Usage(3), base64=True)
    CreateEmbeddingResponse.model_validate(plain)
    assert plain["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert plain["data"][0]["embedding"] == [0.5, -1]
    raw = base64.b64decode(packed["data"][0]["embedding"])
    assert struct.unpack("<2f", raw) == (0.5, -1.0)
    with pytest.raises(ValueError, match="no number"):
        wire.embeddings([["x"]], model="e", usage=Usage(), base64=True)  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (SHOWN, USAGE),
        ({"prompt_tokens": 3, "total_tokens": 3}, Usage(3)),
        ({"prompt_tokens": 3, "completion_tokens": None}, Usage(3)),
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 4}, Usage(9, cached_tokens=4)),
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 99}}, Usage(7, 0, 7)),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": {"cache_write_tokens": 2}},
            Usage(9, cache_write_tokens=2),
        ),
        ({"prompt_tokens": 1, "completion_tokens": "x", "prompt_tokens_details": 7}, Usage(1)),
        ({"prompt_tokens": -5, "completion_tokens": -1}, None),
        ({"prompt_tokens": 0, "completion_tokens": 5}, None),
        ({"prompt_tokens": 2**62, "completion_tokens": 5}, None),
        ({"prompt_tokens": True, "completion_tokens": 5}, None),
        ({"prompt_tokens": 9.0, "completion_tokens": 1e308}, Usage(9)),
        ({"completion_tokens": 3}, None),
        ({"prompt_tokens": "9"}, None),
        ([], None),
        (None, None),
    ],
)
def test_usage_as_it_is_told(told: Any, usage: Usage | None) -> None:
    assert wire.read_usage(told) == usage


def test_reasoning_beside_the_output_counts_as_output() -> None:
    beside = {"reasoning_tokens": 320}
    told = {"prompt_tokens": 12, "completion_tokens": 2, "completion_tokens_details": beside}
    assert wire.read_usage(told | {"total_tokens": 334}) == Usage(12, 322, reasoning_tokens=320)
    assert wire.read_usage(told | {"total_tokens": 14}) == Usage(12, 2, reasoning_tokens=320)


@pytest.mark.parametrize(
    ("params", "most", "output"),
    [
        ({}, None, wire.DEFAULT_MAX_OUTPUT),
        ({}, 100, 100),
        ({"max_tokens": 7}, 100, 7),
        ({"max_completion_tokens": 8}, 100, 8),
        ({"max_tokens": 7, "max_completion_tokens": 8}, None, 8),
        ({"max_tokens": None}, 100, 100),
    ],
)
def test_all_output_a_call_may_get_is_reckoned(
    params: dict[str, Any], most: int | None, output: int
) -> None:
    upstream = Upstream("lab", "https://o.example", "gpt-x", max_output=most)
    estimate = wire.estimate(chat(user("Hi"), **params), upstream)
    assert (estimate.output_tokens, estimate.units, estimate.estimated) == (output, 1, True)


def test_input_counts_every_text_tool_schema_and_image() -> None:
    bare = wire.input_estimate(chat(user("a" * 300)))
    assert bare == 100 + wire.TOKENS_PER_MESSAGE
    text = {"type": "text", "text": "ö" * 150}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}}
    assert wire.input_estimate(chat(user([text]))) == bare
    assert wire.input_estimate(chat(user([text, image]))) == bare + wire.TOKENS_PER_IMAGE
    assert wire.input_estimate(chat(user("a" * 300), tools=[{"x": "y" * 300}])) > bare + 100
    shape = {"type": "json_schema", "json_schema": {"schema": {"x": "y" * 300}}}
    assert wire.input_estimate(chat(user("a" * 300), response_format=shape)) > bare + 100
    called = {"role": "assistant", "content": None, "tool_calls": [{"a": "b" * 300}]}
    assert wire.input_estimate(chat(called)) > 100
    file = {"type": "file", "file": {"file_data": "A" * 9000}}
    assert wire.input_estimate(chat(user([file, "?"]))) > 3000


@pytest.mark.parametrize(
    ("texts", "least"),
    [("a" * 300, 100), (["a" * 300, "b" * 3], 101), ([1, 2, 3], 3), ([[1, 2], [3]], 3), (None, 0)],
)
def test_input_of_embeddings(texts: Any, least: int) -> None:
    call = Call("embeddings", {"input": texts})
    assert least <= wire.input_estimate(call) <= least + 1
    assert wire.estimate(call, UPSTREAM).output_tokens == 0


@given(st.text(max_size=200), st.text(max_size=200))
def test_more_text_is_never_reckoned_less(first: str, second: str) -> None:
    assert wire.input_estimate(chat(user(first))) <= wire.input_estimate(chat(user(first + second)))
