"""A stream answers a whole call and the other way round, just as OpenAI's SDK would read it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming._deltas import accumulate_delta
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from cache.replay import replayed, stream, whole
from providers.call import Usage
from providers.sse import DONE, Decoder, encode

USAGE = Usage(3, 5)
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "gpt-x", "system_fingerprint": "fp"}

texts = st.text(st.characters(codec="utf-8"), max_size=30)
tool_calls = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from(["call_1", "call_2"]),
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": st.just("look"), "arguments": texts}),
        }
    ),
    min_size=1,
    max_size=2,
)
messages = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | texts, "refusal": st.none() | texts},
    optional={"tool_calls": tool_calls, "reasoning_content": texts},
)
logprobs = st.none() | st.lists(
    st.fixed_dictionaries({"token": texts, "logprob": st.floats(-9, 0)}), min_size=1, max_size=3
).map(lambda content: {"content": content, "refusal": None})


def completion(message: dict[str, Any], logprobs: Any = None) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    return {**HEAD, "object": "chat.completion", "choices": [choice], "usage": usage}


def parsed(events: list[bytes]) -> list[Any]:
    told = Decoder().feed(b"".join(events))
    return [orjson.loads(event.data) for event in told if event.data != b"[DONE]"]


def streamed(document: dict[str, Any], cuts: list[int]) -> list[bytes]:
    """As a provider would: role first, then every text in pieces, then the finish reason."""
    message = document["choices"][0]["message"]
    deltas: list[dict[str, Any]] = [{"role": message["role"]}]
    for name in ("reasoning_content", "content", "refusal"):
        if message.get(name) is not None:
            deltas += [{name: piece} for piece in pieces(message[name], cuts)]
    for index, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        begun = {**call, "index": index, "function": {"name": function["name"], "arguments": ""}}
        deltas.append({"tool_calls": [begun]})
        for piece in pieces(function["arguments"], cuts):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    told = document["choices"][0]["logprobs"]
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas
    ]
    choices += [
        {"index": 0, "delta": {}, "logprobs": {"content": [each], "refusal": None}}
        for each in (told or {}).get("content") or ()
    ]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    head = {**HEAD, "object": "chat.completion.chunk"}
    chunks = [encode({**head, "choices": [choice]}) for choice in choices]
    return [*chunks, encode({**head, "choices": [], "usage": document["usage"]}), DONE]


def pieces(text: str, cuts: list[int]) -> list[str]:
    ends = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    return [text[a:b] for a, b in pairwise(ends)] or [""]


@given(messages, logprobs, st.lists(st.integers(0, 30), max_size=4))
def test_a_stream_put_together_is_the_whole_answer(
    message: dict[str, Any], told: Any, cuts: list[int]
) -> None:
    document = completion(message, told)
    assert orjson.loads(whole(streamed(document, cuts), USAGE)) == document


@given(messages)
def test_a_whole_answer_as_a_stream_is_the_same_answer_again(message: dict[str, Any]) -> None:
    document = completion(message)
    del document["system_fingerprint"]
    events = stream(orjson.dumps(document), usage_wanted=True)
    assert events[-1] == DONE
    again = orjson.loads(whole(events, Usage()))
    assert again == document
    without = stream(orjson.dumps(document), usage_wanted=False)
    assert without == [event for event in events if b'"choices":[]' not in event]
    for chunk in parsed(events):
        ChatCompletionChunk.model_validate(chunk, strict=True)
    ChatCompletion.model_validate(again)


def test_the_usage_chunk_comes_and_goes_and_all_else_stays_byte_for_byte() -> None:
    first = (
        b'data: {"id":"a","created":1,"model":"m","choices":[],"prompt_filter_results":[]}\r\n\r\n'
    )
    middle = b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"\\"choices\\":[] \\"usage\\""}}]}\n\n'
    usage = b'data: {"id":"a","choices": [ ],"usage":{"prompt_tokens":3}}\n\n'
    events = [first, middle, usage, DONE]
    assert replayed(events, USAGE, usage_wanted=True) == events
    assert replayed(events, USAGE, usage_wanted=False) == [first, middle, DONE]
    made = replayed([first, middle, DONE], USAGE, usage_wanted=True)
    assert made[:2] == [first, middle] and made[3] == DONE
    told = parsed([made[2]])[0]
    assert (told["id"], told["model"], told["choices"]) == ("a", "m", [])
    assert told["usage"]["prompt_tokens"] == 3


def test_a_stream_that_tells_no_usage_has_what_was_counted() -> None:
    events = streamed(completion({"role": "assistant", "content": "hi", "refusal": None}), [])
    del events[-2]
    assert orjson.loads(whole(events, USAGE))["usage"]["total_tokens"] == 8


@given(messages, st.lists(st.integers(0, 30), max_size=4))
def test_it_is_put_together_as_openais_sdk_does_it(
    message: dict[str, Any], cuts: list[int]
) -> None:
    events = streamed(completion(message), cuts)
    theirs: dict[object, object] = {}
    for chunk in parsed(events):
        for choice in chunk["choices"]:
            theirs = accumulate_delta(theirs, json.loads(json.dumps(choice["delta"])))
    for call in theirs.get("tool_calls", ()):  # type: ignore[attr-defined]
        call.pop("index")
    ours = orjson.loads(whole(events, USAGE))["choices"][0]["message"]
    assert {name: value for name, value in ours.items() if value is not None} == theirs


@pytest.mark.parametrize("count", [2, 3])
def test_several_choices_stay_apart(count: int) -> None:
    events = [
        encode({**HEAD, "choices": [{"index": index, "delta": {"content": f"{index}{part}"}}]})
        for part in "ab"
        for index in reversed(range(count))
    ]
    choices = orjson.loads(whole(events, USAGE))["choices"]
    assert [choice["message"]["content"] for choice in choices] == [
        f"{n}a{n}b" for n in range(count)
    ]
    assert [choice["index"] for choice in choices] == list(range(count))


def test_what_providers_add_to_chunks_and_leave_out_of_them() -> None:
    call = {"index": 0, "id": "call_1", "function": {"name": "look", "arguments": "{"}}
    more = {"index": 0, "id": "", "function": {"name": "", "arguments": "}"}}
    events = [
        encode(
            {
                **HEAD,
                "obfuscation": "xx",
                "choices": [{"index": 0, "delta": {"tool_calls": [each]}}],
            }
        )
        for each in (call, more)
    ]
    told = orjson.loads(whole(events, USAGE))
    assert "obfuscation" not in told
    assert told["choices"][0]["message"]["tool_calls"] == [
        {"type": "function", "id": "call_1", "function": {"name": "look", "arguments": "{}"}}
    ]
