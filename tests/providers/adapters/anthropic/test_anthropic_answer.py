"""Anthropic's bytes in, cut anywhere; exact OpenAI answer, chunks and usage out."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import sse
from providers.adapter import Meter, StreamFault
from providers.adapters.anthropic import ADAPTER
from providers.call import Call, Outcome, Upstream, Usage, Verdict

UPSTREAM = Upstream("anthropic", "https://a.example", "claude-x", "key")
JSON = {"content-type": "application/json"}
COUNTS = {
    "input_tokens": 20,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 8,
    "output_tokens": 12,
    "output_tokens_details": {"thinking_tokens": 7},
}
USAGE = Usage(
    input_tokens=33,
    output_tokens=12,
    cached_tokens=8,
    cache_write_tokens=5,
    reasoning_tokens=7,
)


def meter(**params: Any) -> Meter:
    params.setdefault("messages", [{"role": "user", "content": "Hi"}])
    return ADAPTER.meter(Call("chat.completions", params, request_id="req-1"), UPSTREAM)


def message(*blocks: Any, reason: Any = "end_turn", **more: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x-1",
        "content": list(blocks),
        "stop_reason": reason,
        "usage": COUNTS,
        **more,
    }


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def use(call_id: str, name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def whole(document: Any, reader: Meter | None = None) -> dict[str, Any]:
    body = orjson.dumps(document)
    outcome = ADAPTER.outcome(200, JSON, body)
    assert outcome.verdict is Verdict.OK, outcome
    answer: dict[str, Any] = orjson.loads((reader or meter()).whole(outcome, body).body)
    return answer


def message_of(document: Any) -> dict[str, Any]:
    said: dict[str, Any] = whole(document)["choices"][0]["message"]
    return said


def wire(*events: dict[str, Any]) -> bytes:
    return b"".join(
        b"event: " + str(event["type"]).encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"
        for event in events
    )


def start(index: int, block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, **what: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **what}}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


BEGIN = {
    "type": "message_start",
    "message": message(reason=None, usage=COUNTS | {"output_tokens": 1}),
}
END = (
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {
            "input_tokens": None,
            "output_tokens": 12,
            "output_tokens_details": {"thinking_tokens": 7},
        },
    },
    {"type": "message_stop"},
)


def fed(reader: Meter, *chunks: bytes) -> bytes:
    return b"".join(b"".join(reader.feed(chunk)) for chunk in chunks)


def chunks_of(raw: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(event.data) for event in sse.Decoder().feed(raw)]


def deltas_of(raw: bytes) -> list[tuple[dict[str, Any], str | None]]:
    choices = [choice for chunk in chunks_of(raw) for choice in chunk["choices"]]
    return [(choice["delta"], choice["finish_reason"]) for choice in choices]


def test_a_whole_answer_is_exactly_this() -> None:
    reader = meter()
    answer = whole(message(text("2 + 2"), text(" = 4")), reader)
    assert isinstance(answer.pop("created"), int)
    assert answer == {
        "id": "chatcmpl-msg_1",
        "object": "chat.completion",
        "model": "claude-x-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "2 + 2 = 4", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 33,
            "completion_tokens": 12,
            "total_tokens": 45,
            "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 5},
            "completion_tokens_details": {"reasoning_tokens": 7},
        },
    }
    assert reader.usage == USAGE
    assert reader.complete
    assert reader.output_characters == len("2 + 2 = 4")


def test_thoughts_citations_and_calls() -> None:
    thoughts = [
        {"type": "thinking", "thinking": "Hm. ", "signature": "s1"},
        {"type": "redacted_thinking", "data": "…"},
    ]
    citation = {"type": "char_location", "cited_text": "sky"}
    said = message_of(
        message(
            *thoughts,
            text("I look.", citations=[citation]),
            use("toolu_1", "weather", b=1, a="å"),
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
            {"type": "a_block_of_tomorrow"},
            use("toolu_2", "now"),
            reason="tool_use",
        )
    )
    assert said == {
        "role": "assistant",
        "content": "I look.",
        "refusal": None,
        "reasoning_content": "Hm. ",
        "citations": [citation],
        "extra_content": {"anthropic": {"thinking_blocks": thoughts}},
        "tool_calls": [
            {
                "id": "toolu_1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"b":1,"a":"å"}'},
            },
            {
                "id": "toolu_2",
                "type": "function",
                "function": {"name": "now", "arguments": "{}"},
            },
        ],
    }
    silent = message_of(message(use("t", "f"), reason="tool_use"))
    assert silent["content"] is None


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("a_reason_of_tomorrow", "content_filter"),
    ],
)
def test_finish_reasons(reason: str, finish: str) -> None:
    assert whole(message(text("x"), reason=reason))["choices"][0]["finish_reason"] == finish
    ended = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {}}
    assert deltas_of(fed(meter(), wire(BEGIN, ended)))[-1] == ({}, finish)


@pytest.mark.parametrize("status", [200, 400])
def test_a_filtered_answer_is_an_answer(status: int) -> None:
    error = {
        "type": "invalid_request_error",
        "message": "Output blocked by content filtering policy",
    }
    body = orjson.dumps({"type": "error", "error": error})
    outcome = ADAPTER.outcome(status, JSON, body)
    reader = meter()
    answer = orjson.loads(reader.whole(outcome, body).body)
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert answer["choices"][0]["message"]["content"] == ""
    assert answer["id"] == "chatcmpl-req-1"
    assert reader.usage == Usage()
    assert reader.complete


def test_a_filter_may_end_a_stream() -> None:
    reader = meter(stream=True)
    error = {"type": "api_error", "message": "Output blocked by content filtering policy"}
    said = fed(reader, wire(BEGIN, {"type": "error", "error": error}))
    assert deltas_of(said)[-1] == ({}, "content_filter")
    assert reader.complete
    assert fed(reader, wire(start(0, text("x")))) == b""


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": 0}, {"output_tokens": True}])
def test_an_answer_without_counts_has_an_estimated_usage(usage: Any) -> None:
    reader = meter()
    answer = whole(message(text("x" * 40), usage=usage), reader)
    assert reader.usage is None
    assert answer["usage"]["completion_tokens"] == 10


@pytest.mark.parametrize("figure", [-5, 2**62, 1.5, "7", True, [1], {"a": 1}])
def test_figures_that_are_no_counts_do_not_count(figure: Any) -> None:
    reader = meter()
    whole(message(text("x"), usage={"input_tokens": figure, "output_tokens": 3}), reader)
    assert reader.usage == Usage(output_tokens=3)


@pytest.mark.parametrize(
    "document",
    [
        {},
        message(reason=None) | {"content": None},
        {"content": [text("x")]},
        message("x"),
        message({"no": "type"}),
        message({"type": "text"}),
        message({"type": "text", "text": 5}),
        message({"type": "tool_use", "id": "a", "name": "f"}),
        message({"type": "tool_use", "id": "a", "name": 5, "input": {}}),
        message({"type": "tool_use", "id": 5, "name": "f", "input": {}}),
        message({"type": "thinking", "thinking": 5}),
        message(text("x", citations=5)),
        message(text("x"), usage=[1]),
    ],
)
def test_answers_that_are_not_of_the_dialect(document: Any) -> None:
    with pytest.raises(StreamFault) as fault:
        meter().whole(Outcome(Verdict.OK, 200, document=document), b"")
    assert fault.value.outcome.verdict is Verdict.BAD_PAYLOAD


STREAM = wire(
    BEGIN,
    start(0, {"type": "thinking", "thinking": "", "signature": ""}),
    {"type": "ping"},
    delta(0, "thinking_delta", thinking="Hm"),
    delta(0, "thinking_delta", thinking="m"),
    delta(0, "signature_delta", signature="sig"),
    stop(0),
    start(1, {"type": "redacted_thinking", "data": "…"}),
    stop(1),
    start(2, text("")),
    delta(2, "text_delta", text="Blå"),
    delta(2, "citations_delta", citation={"cited_text": "bär"}),
    delta(2, "text_delta", text="bär"),
    delta(2, "text_delta", text=""),
    stop(2),
    start(3, {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),
    delta(3, "input_json_delta", partial_json='{"q":1}'),
    stop(3),
    start(4, use("toolu_1", "f")),
    delta(4, "input_json_delta", partial_json=""),
    delta(4, "input_json_delta", partial_json='{"x"'),
    delta(4, "input_json_delta", partial_json=":1}"),
    stop(4),
    start(5, use("toolu_2", "g")),
    delta(5, "input_json_delta", partial_json=""),
    stop(5),
    {"type": "an_event_of_tomorrow"},
    *END,
)


def call(number: int, arguments: str, **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments, **more.pop("function", {})}
    return {"tool_calls": [{"index": number, **more, "function": function}]}


def test_a_stream_is_exactly_these_chunks() -> None:
    reader = meter(stream=True, stream_options={"include_usage": True})
    said = fed(reader, STREAM)
    assert reader.complete
    assert reader.usage == USAGE
    assert reader.output_characters == len("Hmm" + "Blåbär" + "f" + '{"x":1}' + "g" + "{}")

    def signed(block: dict[str, Any]) -> dict[str, Any]:
        return {"extra_content": {"anthropic": {"thinking_blocks": [block]}}}

    assert deltas_of(said) == [
        ({"role": "assistant", "content": ""}, None),
        ({"reasoning_content": "Hm"}, None),
        ({"reasoning_content": "m"}, None),
        (signed({"type": "thinking", "thinking": "Hmm", "signature": "sig"}), None),
        (signed({"type": "redacted_thinking", "data": "…"}), None),
        ({"content": "Blå"}, None),
        ({"citations": [{"cited_text": "bär"}]}, None),
        ({"content": "bär"}, None),
        (call(0, "", id="toolu_1", type="function", function={"name": "f"}), None),
        (call(0, '{"x"'), None),
        (call(0, ":1}"), None),
        (call(1, "", id="toolu_2", type="function", function={"name": "g"}), None),
        (call(1, "{}"), None),
        ({}, "tool_calls"),
    ]
    for chunk in chunks_of(said):
        assert chunk["id"] == "chatcmpl-msg_1"
        assert chunk["object"] == "chat.completion.chunk"
        assert chunk["model"] == "claude-x-1"
        assert isinstance(chunk["created"], int)
    usage, done = reader.close()
    assert done == sse.DONE
    [last] = chunks_of(usage)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 45


@pytest.mark.unmeasured
def test_a_stream_cut_at_every_byte_says_the_same() -> None:
    expected = deltas_of(fed(meter(), STREAM))
    for cut in range(1, len(STREAM)):
        reader = meter()
        said = fed(reader, STREAM[:cut], STREAM[cut:])
        assert deltas_of(said) == expected
        assert reader.usage == USAGE
    single = meter()
    assert deltas_of(fed(single, *(STREAM[i : i + 1] for i in range(len(STREAM))))) == expected
    assert single.complete


@pytest.mark.parametrize("missing", [1, 2])
def test_without_its_last_events_a_stream_is_not_complete(missing: int) -> None:
    events = STREAM.split(b"\n\n")[:-1]
    reader = meter()
    fed(reader, b"\n\n".join(events[:-missing]) + b"\n\n")
    assert not reader.complete
    assert reader.usage is not None
    assert reader.usage.input_tokens == 33
    assert reader.output_characters > 0


def test_an_end_without_a_reason_is_no_end() -> None:
    reader = meter()
    unreasoned = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 2}}
    said = fed(reader, wire(BEGIN, unreasoned, {"type": "message_stop"}))
    assert not reader.complete
    assert [finish for _, finish in deltas_of(said)] == [None]


def test_text_that_comes_with_the_start_of_its_block() -> None:
    said = fed(
        meter(),
        wire(
            BEGIN,
            start(0, {"type": "thinking", "thinking": "Hm"}),
            delta(0, "thinking_delta", thinking="m"),
            stop(0),
            start(1, text("Hello")),
            delta(1, "text_delta", text="!"),
        ),
    )
    thought = {"type": "thinking", "thinking": "Hmm"}
    assert [what for what, _ in deltas_of(said)[1:]] == [
        {"reasoning_content": "Hm"},
        {"reasoning_content": "m"},
        {"extra_content": {"anthropic": {"thinking_blocks": [thought]}}},
        {"content": "Hello"},
        {"content": "!"},
    ]


def test_nothing_follows_the_end() -> None:
    reader = meter()
    fed(reader, STREAM)
    assert fed(reader, STREAM) == b""
    assert reader.usage == USAGE


def test_the_client_that_did_not_ask_gets_no_usage_chunk() -> None:
    reader = meter(stream=True)
    fed(reader, STREAM)
    assert reader.close() == [sse.DONE]


def test_later_counts_stand_in_for_earlier_ones() -> None:
    begin = {"type": "message_start", "message": message(usage={"input_tokens": 0})}
    end = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"input_tokens": 9, "cache_read_input_tokens": 4, "output_tokens": 2},
    }
    reader = meter()
    fed(reader, wire(begin, end, {"type": "message_stop"}))
    assert reader.usage == Usage(input_tokens=13, output_tokens=2, cached_tokens=4)


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        ("overloaded_error", Verdict.UNAVAILABLE),
        ("api_error", Verdict.UNAVAILABLE),
        ("rate_limit_error", Verdict.RATE_LIMITED),
        ("timeout_error", Verdict.TIMEOUT),
        ("invalid_request_error", Verdict.INVALID_REQUEST),
        ("an_error_of_tomorrow", Verdict.UNAVAILABLE),
    ],
)
def test_an_error_event_in_a_stream(kind: str, verdict: Verdict) -> None:
    reader = meter()
    fed(reader, wire(BEGIN))
    with pytest.raises(StreamFault) as fault:
        fed(reader, wire({"type": "error", "error": {"type": kind, "message": "Sorry."}}))
    assert (fault.value.outcome.verdict, fault.value.outcome.message) == (verdict, "Sorry.")
    assert not reader.complete


@pytest.mark.parametrize(
    "event",
    [
        b"data: {broken\n\n",
        b"data: [1]\n\n",
        b"data: {}\n\n",
        b'data: {"type":"message_start"}\n\n',
        b'data: {"type":"message_delta"}\n\n',
        b'data: {"type":"content_block_start","index":0}\n\n',
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use"}}\n\n',
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":5}}\n\n',
        b'data: {"type":"content_block_delta","index":[],"delta":{"type":"thinking_delta"}}\n\n',
        b'data: {"type":["error"]}\n\n',
        b"data: " + b"x" * (sse.MAX_EVENT_BYTES + 1),
    ],
)
def test_events_that_are_not_of_the_dialect(event: bytes) -> None:
    reader = meter()
    fed(reader, wire(BEGIN))
    with pytest.raises(StreamFault) as fault:
        reader.feed(event)
    assert fault.value.outcome.verdict is Verdict.BAD_PAYLOAD
    assert not reader.complete


def test_what_came_with_a_fault_is_counted() -> None:
    reader = meter()
    with pytest.raises(StreamFault):
        reader.feed(
            wire(BEGIN, start(0, text("")), delta(0, "text_delta", text="four"))
            + b"data: {broken\n\n"
        )
    assert reader.output_characters == len("four")


_WORDS = (
    *("type", "index", "delta", "content_block", "message", "usage", "content", "text"),
    *("thinking", "name", "id", "input", "error", "stop_reason", "output_tokens"),
    *("input_tokens", "partial_json", "signature", "citations", "model"),
)
_KINDS = (
    *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
    *("message_delta", "message_stop", "error", "text", "tool_use", "thinking", "text_delta"),
    *("thinking_delta", "signature_delta", "input_json_delta", "redacted_thinking", "end_turn"),
)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
    | st.sampled_from(_KINDS),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=5)
        | st.builds(
            lambda kind, rest: {**rest, "type": kind},
            st.sampled_from(_KINDS),
            st.dictionaries(st.sampled_from(_WORDS), inner, max_size=4),
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_no_document_whatever_raises_anything_else(document: Any) -> None:
    body = orjson.dumps(document)
    outcome = ADAPTER.outcome(200, JSON, body)
    if outcome.is_answer:
        reader = meter()
        try:
            reader.whole(outcome, body)
        except StreamFault:
            assert not reader.complete


@given(st.lists(_JSON, max_size=5))
def test_no_stream_whatever_raises_anything_else(documents: list[Any]) -> None:
    reader = meter(stream=True, stream_options={"include_usage": True})
    try:
        for document in documents:
            reader.feed(b"data: " + orjson.dumps(document) + b"\n\n")
        reader.close()
    except StreamFault:
        assert not reader.complete


@pytest.mark.parametrize("field", ["id", "model", "stop_reason", "usage", "content"])
def test_a_document_however_deep_breaks_nothing(field: str) -> None:
    deep = b'{"a":' * 600 + b"1" + b"}" * 600
    body = orjson.dumps(message(text("x"))).replace(
        orjson.dumps({field: message(text("x"))[field]})[1:-1], f'"{field}":'.encode() + deep
    )
    outcome = ADAPTER.outcome(200, JSON, body)
    assert outcome.verdict is Verdict.OK
    try:
        meter().whole(outcome, body)
    except StreamFault as fault:
        assert fault.outcome.verdict is Verdict.BAD_PAYLOAD
