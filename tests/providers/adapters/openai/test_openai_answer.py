"""Whole answers: the provider's own bytes where an SDK can read them, repaired where not."""

from __future__ import annotations

import base64
import struct
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from providers.adapter import Meter, StreamFault
from providers.adapters.openai import ADAPTER
from providers.call import Call, Outcome, Upstream, Usage, Verdict

UPSTREAM = Upstream("lab", "https://o.example/v1", "gpt-x", "key")
PARAMS = {"model": "gpt-x", "messages": [{"role": "user", "content": "Hi"}]}
COUNTS = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
MESSAGE = {"role": "assistant", "content": "Hej!"}


def meter(operation: str = "chat.completions", **params: Any) -> Meter:
    return ADAPTER.meter(Call(operation, PARAMS | params, request_id="req-1"), UPSTREAM)


def document(message: Any = MESSAGE, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": fields.pop("finish", "stop")}
    whole = {
        "id": "c1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "gpt-x-2026",
        "choices": [choice],
        "usage": COUNTS,
    }
    return whole | fields


def read(body: bytes, reader: Meter | None = None) -> bytes:
    outcome = ADAPTER.outcome(200, {"content-type": "application/json"}, body)
    assert outcome.verdict is Verdict.OK, outcome
    return (reader or meter()).whole(outcome, body).body


def repaired(whole: dict[str, Any], reader: Meter | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = orjson.loads(read(orjson.dumps(whole), reader))
    ChatCompletion.model_validate(answer)
    return answer


def message_of(message: Any, **fields: Any) -> dict[str, Any]:
    told: dict[str, Any] = repaired(document(message, **fields))["choices"][0]["message"]
    return told


def test_an_answer_in_order_goes_on_as_the_same_bytes() -> None:
    body = orjson.dumps(document() | {"vendor": {"citations": ["x"]}}, option=orjson.OPT_INDENT_2)
    reader = meter()
    assert read(body, reader) is body
    assert reader.usage == Usage(9, 4)
    assert (reader.complete, reader.output_characters) == (True, 4)


def test_what_an_sdk_needs_is_added_and_nothing_else_changes() -> None:
    bare = {"choices": [{"message": {"content": "Hej!"}}], "vendor": 1}
    answer = repaired(bare)
    assert isinstance(answer.pop("created"), int)
    assert answer == {
        "id": "chatcmpl-req-1",
        "object": "chat.completion",
        "model": "gpt-x",
        "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
        "vendor": 1,
    }


CALL = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


@pytest.mark.parametrize(
    ("told", "message", "finish"),
    [
        ("stop", MESSAGE, "stop"),
        ("content_filter", MESSAGE, "content_filter"),
        ("model_length", MESSAGE, "length"),
        ("SAFETY", MESSAGE, "content_filter"),
        ("eos_token", MESSAGE, "stop"),
        (None, MESSAGE, "stop"),
        (None, {"role": "assistant", "tool_calls": [CALL]}, "tool_calls"),
        (7, MESSAGE, "stop"),
    ],
)
def test_finish_reasons(told: Any, message: Any, finish: str) -> None:
    assert repaired(document(message, finish=told))["choices"][0]["finish_reason"] == finish


def test_calls_without_type_or_with_arguments_as_an_object() -> None:
    call = {"id": "t1", "function": {"name": "f", "arguments": {"a": 1}}}
    assert message_of({"role": "assistant", "tool_calls": [call]}, finish="tool_calls") == {
        "role": "assistant",
        "content": None,
        "tool_calls": [CALL],
    }


def test_thoughts_among_the_parts_of_a_content() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]},
        {"type": "thinking", "thinking": "."},
        {"type": "text", "text": "44"},
        {"type": "reference", "reference_ids": [1]},
    ]
    reader = meter()
    answer = repaired(document({"role": "assistant", "content": parts}), reader)
    message = answer["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("44", "Hm.")
    assert reader.output_characters == 5


def test_a_content_in_parts_that_are_all_text() -> None:
    parts = [{"type": "text", "text": "4"}, {"type": "text", "text": "4"}]
    assert message_of({"role": "assistant", "content": parts}) == MESSAGE | {"content": "44"}


def test_reasoning_that_was_left_out_of_the_output_is_put_in() -> None:
    counts = {
        "prompt_tokens": 12,
        "completion_tokens": 2,
        "total_tokens": 334,
        "prompt_tokens_details": {"cached_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 320},
    }
    reader = meter()
    answer = repaired(document(usage=counts), reader)
    assert reader.usage == Usage(12, 322, cached_tokens=5, reasoning_tokens=320)
    assert answer["usage"] == counts | {"completion_tokens": 322}


def test_an_answer_without_a_count_is_not_given_one() -> None:
    reader = meter()
    assert "usage" not in repaired({k: v for k, v in document().items() if k != "usage"}, reader)
    assert reader.usage is None


def test_a_blocked_prompt_is_an_empty_answer() -> None:
    body = orjson.dumps({"error": {"code": "content_filter", "message": "Filtered."}})
    outcome = ADAPTER.outcome(400, {}, body)
    reader = meter()
    answer = ChatCompletion.model_validate_json(reader.whole(outcome, body).body)
    assert answer.choices[0].finish_reason == "content_filter"
    assert answer.choices[0].message.content == ""
    assert reader.usage == Usage()
    assert reader.complete


@pytest.mark.parametrize("reason", ["error", "insufficient_system_resource"])
def test_an_answer_that_ended_in_a_failure_is_none(reason: str) -> None:
    broken = document(finish=reason)
    broken["choices"][0]["error"] = {"code": 502, "message": "Behind sk-abcdef123456 it broke"}
    with pytest.raises(StreamFault) as fault:
        read(orjson.dumps(broken))
    assert fault.value.outcome.verdict is Verdict.UNAVAILABLE
    assert "sk-abc" not in fault.value.outcome.message


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"choices": []},
        {"choices": "x"},
        {"choices": {}},
        {"choices": [7]},
        {"choices": [{}]},
        {"choices": [{"message": None}]},
        {"choices": [{"message": {"content": ["x"]}}]},
        {"choices": [{"message": {"tool_calls": ["x"]}}]},
        {"choices": [{"message": {"tool_calls": [{"function": 7}]}}]},
        {"choices": [{"message": MESSAGE, "finish_reason": []}]},
        document(x_groq="x", usage=None),
    ],
)
def test_answers_that_are_not_of_the_dialect(broken: Any) -> None:
    with pytest.raises(StreamFault) as fault:
        meter().whole(Outcome(Verdict.OK, 200, document=broken), orjson.dumps(broken))
    assert fault.value.outcome.verdict is Verdict.BAD_PAYLOAD


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("choices", "message", "content", "tool_calls", "function", "usage"),
                    *("finish_reason", "error", "type", "text", "thinking", "prompt_tokens"),
                    *("completion_tokens_details", "x_groq", "delta", "data", "embedding"),
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(st.sampled_from(["chat.completions", "embeddings"]), st.dictionaries(st.text(), JUNK), JUNK)
def test_no_answer_raises_anything_but_a_fault(
    operation: str, fields: dict[str, Any], choices: Any
) -> None:
    whole = {**fields, "choices": choices, "data": choices}
    reader = meter(operation, input="x")
    try:
        reader.whole(Outcome(Verdict.OK, 200, document=whole), b"{}")
    except StreamFault as fault:
        assert not fault.outcome.is_answer


def embedded(*vectors: Any, **fields: Any) -> dict[str, Any]:
    data = [{"object": "embedding", "index": n, "embedding": v} for n, v in enumerate(vectors)]
    counts = {"prompt_tokens": 3, "total_tokens": 3}
    return {"object": "list", "data": data, "model": "e-1", "usage": counts} | fields


@pytest.mark.parametrize("texts", ["a", ["a"], [17, 4], [[17, 4]]])
def test_embeddings_go_on_as_the_same_bytes(texts: Any) -> None:
    body = orjson.dumps(embedded([0.5, -1]), option=orjson.OPT_INDENT_2)
    reader = meter("embeddings", input=texts)
    assert read(body, reader) is body
    assert (reader.usage, reader.complete, reader.close()) == (Usage(3), True, [])


def test_embeddings_that_came_as_numbers_though_base64_was_asked() -> None:
    reader = meter("embeddings", input=["a", "b"], encoding_format="base64")
    answer = orjson.loads(read(orjson.dumps(embedded([0.5, -1], [1, 2])), reader))
    packed = [base64.b64decode(entry["embedding"]) for entry in answer["data"]]
    assert [struct.unpack("<2f", each) for each in packed] == [(0.5, -1.0), (1.0, 2.0)]
    body = orjson.dumps(embedded("AAAAPw=="))
    assert read(body, meter("embeddings", input="a", encoding_format="base64")) is body


def test_embeddings_without_a_count_get_a_flagged_one() -> None:
    reader = meter("embeddings", input="some text")
    answer = orjson.loads(read(orjson.dumps({"data": embedded([1.0])["data"]}), reader))
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert (answer["object"], answer["model"]) == ("list", "gpt-x")
    assert reader.usage is None


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"data": 7},
        {"data": [7]},
        {"data": [{}]},
        embedded(),
        embedded([1.0], [2.0]),
        embedded(["x"]),
        embedded(None),
    ],
)
def test_embeddings_that_are_not_of_the_dialect(broken: Any) -> None:
    reader = meter("embeddings", input="a", encoding_format="base64")
    with pytest.raises(StreamFault) as fault:
        reader.whole(Outcome(Verdict.OK, 200, document=broken), b"")
    assert fault.value.outcome.verdict is Verdict.BAD_PAYLOAD
    with pytest.raises(StreamFault):
        reader.feed(b"data: {}\n\n")


def test_a_blocked_text_has_no_embedding_and_is_the_callers_to_change() -> None:
    body = orjson.dumps({"error": {"code": "content_filter", "message": "Filtered."}})
    with pytest.raises(StreamFault) as fault:
        meter("embeddings", input="a").whole(ADAPTER.outcome(400, {}, body), body)
    assert fault.value.outcome == Outcome(Verdict.INVALID_REQUEST, 400, "Filtered.")
