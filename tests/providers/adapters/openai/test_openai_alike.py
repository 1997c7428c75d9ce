"""An event known by its bytes comes to what it would have come to had it been read."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from providers.adapter import StreamFault
from providers.adapters.openai.alike import Alike
from providers.adapters.openai.meter import ChatMeter
from tests.providers.adapters.openai.test_openai_stream import HEAD, meter

FORMS = (
    '{"id":"c1","object":"chat.completion.chunk","created":17,"model":"m","choices":'
    '[{"index":0,"delta":{"content":%s},"finish_reason":null}]}',
    '{"choices": [{"delta": {"role": "assistant", "content": %s}, "index": 0}], "created": 17, '
    '"model": "m", "id": "c1", "object": "chat.completion.chunk", "usage": null}',
    # Another string that is called so: before the text, behind it, and one that is said twice.
    '{"id":"c1","object":"chat.completion.chunk","created":17,"model":"m","note":{"content":"n"},'
    '"choices":[{"index":0,"delta":{"content":%s}}]}',
    '{"id":"c1","object":"chat.completion.chunk","created":17,"model":"m",'
    '"choices":[{"index":0,"delta":{"content":%s}}],"note":{"content":"n"}}',
    '{"id":"c1","object":"chat.completion.chunk","created":17,"model":"m",'
    '"choices":[{"index":0,"delta":{"content":"first","content":%s}}]}',
    '{"id":"c1","object":"chat.completion.chunk","created":17,"model":"m",'
    '"choices":[{"index":0,"delta":{"refusal":"No","content":%s}}]}',
    '{"id":"c1","object":"chat.completion.chunk","created":17,"model":"m",'
    '"choices":[{"index":0,"delta":{"content":%s}},{"index":1,"delta":{"content":"x"}}]}',
    '{"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":%s}}]}',
)
# What stands in the text's place, raw: texts, and what only looks like one.
TEXTS = st.text().map(json.dumps) | st.text().map(lambda text: orjson.dumps(text).decode())
RAW = st.sampled_from(
    ['"a","finish_reason":"stop', '"', '""', "null", "7", '["a"]', '"a" "b"', '"\\u00', '"\\ud800"',
     '"a"}],"usage":{"prompt_tokens":1,"completion_tokens":1},"x":[{"y":"z"', '{"content":"a"}',
     '"a","content":"b"', '"a","tool_calls":[{"index":0,"id":"t","function":{"name":"f"}}]',
     '"a"}],"error":{"message":"no"},"x":[{"y":"z"', '"\\\\"', '"\t"']
)  # fmt: skip
LINES = st.sampled_from(
    ["data: [DONE]\n\n", "event: error\n", ": comment\n\n", "data: {}\n\n", "event: message\n"]
)
EVENTS = st.tuples(st.sampled_from(FORMS), TEXTS | RAW).map(
    lambda made: f"data: {made[0] % made[1]}\n\n"
)


def came_to(reader: ChatMeter, chunks: list[bytes]) -> Any:
    said: list[bytes] = []
    try:
        for chunk in chunks:
            said += reader.feed(chunk)
    except StreamFault as fault:
        said.append(repr(fault.outcome).encode())
    return said, reader.output_characters, reader.complete, reader.usage


def unhurried(settings: dict[str, Any] | None = None) -> ChatMeter:
    """One that reads every event."""
    reader = meter(settings)
    assert isinstance(reader, ChatMeter)
    reader._looks = 0
    return reader


@given(st.lists(EVENTS | LINES, max_size=12), st.sampled_from([{}, {"done_marker": False}]))
@example([f"data: {FORMS[0] % raw}\n\n" for raw in ('"a"', '"b"', '"c\\n"', '"d" ')], {})
@example([f"data: {FORMS[0] % raw}\n\n" for raw in ('"a"', '"b","finish_reason":"stop"')], {})
def test_it_comes_to_the_same(events: list[str], settings: dict[str, Any]) -> None:
    chunks = [event.encode("utf-8", "surrogatepass") for event in events]
    reader = meter(settings)
    assert isinstance(reader, ChatMeter)
    assert came_to(reader, chunks) == came_to(unhurried(settings), chunks)


@pytest.mark.parametrize("form", FORMS[:2])
def test_the_next_event_is_known_by_its_bytes(form: str) -> None:
    first = (form % '"a"').encode()
    alike = Alike.to(first, orjson.loads(first))
    assert alike is not None
    assert alike.text((form % '"\\u00e9 \\"b\\""').encode()) == 'é "b"'
    assert alike.text((form % '"å"').encode()) == "å"
    assert alike.text((form % "null").encode()) is None
    assert alike.text((form % '"a').encode()) is None
    assert alike.text(alike.head[:-1] + alike.tail) is None


@pytest.mark.parametrize("form", FORMS[2:7:2])
def test_none_is_alike_where_the_text_is_not_sure(form: str) -> None:
    data = (form % '"a"').encode()
    assert Alike.to(data, orjson.loads(data)) is None


@pytest.mark.parametrize("document", [{}, {"choices": []}, {"choices": [7]}, {"choices": None},
                                      {"choices": [{"delta": None}]}, {**HEAD, "choices": [{}]}])  # fmt: skip
def test_none_is_like_what_is_no_chunk(document: Any) -> None:
    assert Alike.to(orjson.dumps(document), document) is None
