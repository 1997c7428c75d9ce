"""A provider, or a client, that sends what nobody should: the only ways out are a StreamFault
from a meter and an InvalidRequest from a request, and no figure that the ledger cannot hold."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.problems import InvalidRequest
from providers import sse
from providers.adapter import Meter, StreamFault
from providers.adapters.openai import ADAPTER
from providers.call import Call, Upstream, Usage, Verdict

HI = [{"role": "user", "content": "Hi"}]
DEEP = b'{"a":' * 600 + b"1" + b"}" * 600  # read by the parser, too deep for the writer
ANSWER = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "gpt-x-1",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
}
CHUNK = ANSWER | {
    "object": "chat.completion.chunk",
    "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}],
    "usage": None,
}


def meter(*, stream: bool = False, **settings: Any) -> Meter:
    params: dict[str, Any] = {"messages": HI}
    if stream:
        params |= {"stream": True, "stream_options": {"include_usage": True}}
    upstream = Upstream("lab", "https://o.example/v1", "gpt-x", "key", settings)
    return ADAPTER.meter(Call("chat.completions", params, request_id="r1"), upstream)


def planted(document: dict[str, Any], field: str, raw: bytes) -> bytes:
    rest = orjson.dumps({k: v for k, v in document.items() if k != field})
    return rest[:-1] + b',"' + field.encode() + b'":' + raw + b"}"


def event(raw: bytes) -> bytes:
    return b"data: " + raw + b"\n\n"


FIELDS = ["id", "model", "created", "usage", "object", "choices", "x_groq", "a_field_of_tomorrow"]
VALUES = [DEEP, b"1e999", b"1e308", b"-1", b"18446744073709551615", b"[]", b'"x"', b"true", b"[[]]"]


@pytest.mark.unmeasured
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", VALUES)
def test_one_hostile_field_in_a_whole_answer(field: str, value: bytes) -> None:
    body = planted(ANSWER, field, value)
    outcome = ADAPTER.outcome(200, {}, body)
    reader = meter()
    if outcome.is_answer:
        try:
            answer = orjson.loads(reader.whole(outcome, body).body)
        except StreamFault as fault:
            assert fault.outcome.verdict is Verdict.BAD_PAYLOAD
            return
        assert isinstance(answer["id"], str)
        assert isinstance(answer["model"], str)
        assert isinstance(answer["created"], int)
        assert reader.usage in (None, Usage(9, 4))


@pytest.mark.unmeasured
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", VALUES)
def test_one_hostile_field_in_a_stream(field: str, value: bytes) -> None:
    reader = meter(stream=True)
    try:
        reader.feed(event(planted(CHUNK, field, value)))
        reader.feed(event(orjson.dumps(CHUNK)))
        reader.feed(event(planted(CHUNK | {"choices": []}, field, value)) + sse.DONE)
    except StreamFault as fault:
        assert fault.outcome.verdict is Verdict.BAD_PAYLOAD
        return
    usage, done = reader.close()
    told = orjson.loads(usage.removeprefix(b"data: "))
    assert (told["choices"], done) == ([], sse.DONE)
    assert isinstance(told["id"], str)
    assert 0 <= told["usage"]["total_tokens"] < 2**53


def test_a_deep_count_is_told_without_its_depths() -> None:
    reader = meter(stream=True)
    counts = planted({"prompt_tokens": 9, "completion_tokens": 4}, "details", DEEP)
    reader.feed(event(orjson.dumps(CHUNK)))
    reader.feed(event(planted(CHUNK | {"choices": []}, "usage", counts)) + sse.DONE)
    assert reader.usage == Usage(9, 4)
    usage, _ = reader.close()
    assert orjson.loads(usage.removeprefix(b"data: "))["usage"]["total_tokens"] == 13


def test_very_many_choices_take_no_very_long_time() -> None:
    choices = [{"index": n, "delta": {"content": "a"}} for n in range(20_000)]
    reader = meter(stream=True)
    reader.feed(event(orjson.dumps(CHUNK | {"choices": choices})))
    assert reader.output_characters == 20_000


@pytest.mark.parametrize(
    ("settings", "events", "complete", "usage"),
    [
        ({}, ["finish", "count"], False, Usage(9, 4)),
        ({}, ["finish", "count", "done"], True, Usage(9, 4)),
        ({"done_marker": False}, ["finish"], False, None),
        ({"done_marker": False}, ["finish", "count"], True, Usage(9, 4)),
        ({"done_marker": False}, ["finish with count"], True, Usage(9, 4)),
        ({"done_marker": False}, ["count"], False, Usage(9, 4)),
        ({"done_marker": False, "stream_usage": False}, ["finish"], True, None),
        ({"done_marker": False, "stream_usage": False}, [], False, None),
    ],
)
def test_what_ends_a_stream(
    settings: dict[str, Any], events: list[str], complete: bool, usage: Usage | None
) -> None:
    counts = ANSWER["usage"]
    finish = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    said = {
        "finish": event(orjson.dumps(CHUNK | {"choices": finish})),
        "finish with count": event(orjson.dumps(CHUNK | {"choices": finish, "usage": counts})),
        "count": event(orjson.dumps(CHUNK | {"choices": [], "usage": counts})),
        "done": sse.DONE,
    }
    reader = meter(stream=True, **settings)
    reader.feed(event(orjson.dumps(CHUNK)))
    for name in events:
        assert not reader.complete
        reader.feed(said[name])
    assert (reader.complete, reader.usage) == (complete, usage)


def test_a_stream_answered_whole_keeps_one_name() -> None:
    reader = meter(stream=True)
    body = orjson.dumps(ANSWER)
    reader.whole(ADAPTER.outcome(200, {}, body), body)
    told = orjson.loads(reader.close()[0].removeprefix(b"data: "))
    assert (told["id"], told["model"], told["created"]) == ("c1", "gpt-x-1", 1700000000)
    assert told["usage"]["total_tokens"] == 13


_WORDS = (
    *("choices", "delta", "message", "content", "tool_calls", "function", "arguments", "index"),
    *("usage", "x_groq", "prompt_tokens", "completion_tokens", "total_tokens", "finish_reason"),
    *("prompt_tokens_details", "cached_tokens", "reasoning_tokens", "error", "id", "type"),
    *("text", "thinking", "name", "object", "completion_tokens_details", "code"),
)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
    | st.sampled_from(["stop", "error", "text", "thinking", "chat.completion.done"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=5)
    ),
    max_leaves=14,
)
_CHOICES = st.lists(
    st.fixed_dictionaries(
        {}, optional={"delta": _JSON, "message": _JSON, "finish_reason": _JSON, "index": _JSON}
    ),
    max_size=2,
)
_CHUNKS = st.fixed_dictionaries(
    {"choices": _CHOICES | _JSON}, optional={"usage": _JSON, "id": _JSON, "x_groq": _JSON}
)


@given(st.lists(_CHUNKS | _JSON, max_size=4))
def test_no_stream_whatever_raises_anything_but_a_fault(documents: list[Any]) -> None:
    reader = meter(stream=True)
    try:
        for document in documents:
            reader.feed(event(orjson.dumps(document)))
        reader.close()
    except StreamFault as fault:
        assert not fault.outcome.is_answer


@given(_CHUNKS)
def test_no_whole_answer_raises_anything_but_a_fault(document: dict[str, Any]) -> None:
    body = orjson.dumps(document)
    outcome = ADAPTER.outcome(200, {}, body)
    reader = meter()
    if outcome.is_answer:
        try:
            reader.whole(outcome, body)
        except StreamFault as fault:
            assert not fault.outcome.is_answer
        else:
            assert reader.usage is None or 0 <= reader.usage.input_tokens < 2**53


@pytest.mark.parametrize(
    "params",
    [
        {"messages": [{"role": "user", "content": "\ud800"}]},
        {"messages": HI, "seed": 2**70},
        {"messages": HI, "metadata": {1: 2}},
        {"messages": orjson.loads(DEEP)},
        {"messages": HI, "stream": True, "stream_options": "x"},
        {"messages": HI, "stream": True, "stream_options": [1]},
        {"messages": HI, "max_tokens": "x", "max_completion_tokens": 5},
    ],
)
def test_what_cannot_be_written_is_an_invalid_request(params: dict[str, Any]) -> None:
    to = Upstream("lab", "https://o", "gpt-x", settings={"max_tokens_parameter": "max_tokens"})
    with pytest.raises(InvalidRequest):
        ADAPTER.request(Call("chat.completions", params), to)


@given(st.dictionaries(st.sampled_from([*_WORDS, "stream", "stream_options", "max_tokens"]), _JSON))
def test_whatever_a_client_sends_is_sent_on_or_refused(params: dict[str, Any]) -> None:
    settings = {"refused_parameters": ["id"], "max_tokens_parameter": "max_completion_tokens"}
    for upstream in (
        Upstream("lab", "https://o", "gpt-x"),
        Upstream("lab", "https://o", "gpt-x", settings=settings),
    ):
        try:
            request = ADAPTER.request(Call("chat.completions", params), upstream)
            assert orjson.loads(request.body or b"")["model"] == "gpt-x"
        except InvalidRequest as refusal:
            assert refusal.status == 400


def test_tools_too_deep_to_be_sent_on_are_refused_before_anything_is_reserved() -> None:
    call = Call("chat.completions", {"messages": HI, "tools": [orjson.loads(DEEP)]})
    with pytest.raises(InvalidRequest):
        ADAPTER.estimate(call, Upstream("lab", "https://o", "gpt-x"))
