"""How good an answer looks, and that no caller's schema can hold the gateway up."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from gateway import quality
from gateway.quality import EMPTY, GOOD, MALFORMED, OFF_SCHEMA, REFUSED, TRUNCATED
from providers.call import Answer, Call
from tests.gateway.unit.rig import event

JSON = {"type": "json_object"}
NUMBER = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


def schema(of: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": of}}


def call(response_format: Any = None, **params: Any) -> Call:
    return Call("chat.completions", {"messages": [], "response_format": response_format, **params})


def body(content: Any, finish: str = "stop", **message: Any) -> bytes:
    choice = {"message": {"content": content, **message}, "finish_reason": finish}
    return json.dumps({"choices": [choice]}).encode()


WHOLE: dict[str, tuple[Any, bytes, float]] = {
    "good": (None, body("hello"), GOOD),
    "empty": (None, body(""), EMPTY),
    "blank": (None, body(" \n "), EMPTY),
    "nothing": (None, body(None), EMPTY),
    "tool calls say nothing": (None, body(None, "tool_calls", tool_calls=[{"id": "1"}]), GOOD),
    "truncated": (None, body("hel", "length"), TRUNCATED),
    "filtered": (None, body("", "content_filter"), REFUSED),
    "refused": (None, body(None, refusal="I cannot"), REFUSED),
    "JSON": (JSON, body('{"n": 1}'), GOOD),
    "no JSON": (JSON, body("Sure! {n: 1}"), MALFORMED),
    "JSON that was not asked for": (None, body("{n: 1}"), GOOD),
    "as the schema says": (schema(NUMBER), body('{"n": 1}'), GOOD),
    "off the schema": (schema(NUMBER), body('{"n": "one"}'), OFF_SCHEMA),
    "a schema that is none": (schema({"type": "nope"}), body('{"n": "one"}'), GOOD),
    "no schema": ({"type": "json_schema"}, body('{"n": 1}'), GOOD),
    "truncated JSON": (JSON, body('{"n": ', "length"), TRUNCATED),
}


@pytest.mark.parametrize(("asked", "told", "expected"), WHOLE.values(), ids=WHOLE.keys())
def test_whole_answers(asked: Any, told: bytes, expected: float) -> None:
    assert quality.of_chat(call(asked), Answer(told)) == expected


def test_what_is_too_long_is_not_read() -> None:
    assert quality.of_chat(call(), Answer(body("x" * quality.MAX_READ))) is None
    assert quality.of_stream(call(), [b"x" * (quality.MAX_READ + 1)]) is None


def spelled(text: str) -> list[bytes]:
    return [event(letter) for letter in text] + [event()]


def test_streams() -> None:
    assert quality.of_stream(call(), [event()]) == GOOD
    cut = event().replace(b'"stop"', b'"length"')
    assert quality.of_stream(call(), [cut]) == TRUNCATED
    assert quality.of_stream(call(JSON), spelled('{"n": 1}')) == GOOD
    assert quality.of_stream(call(JSON), spelled("{n: 1}")) == MALFORMED
    assert quality.of_stream(call(schema(NUMBER)), spelled('{"n": ""}')) == OFF_SCHEMA
    assert quality.of_stream(call(JSON), []) == EMPTY


def test_data() -> None:
    assert quality.of_data({"price": "1"}) == quality.of_data([{"name": "x"}]) == GOOD
    assert quality.of_data([]) == quality.of_data(None) < GOOD


def doubling(depth: int) -> dict[str, Any]:
    """Each definition twice the work of the next."""
    steps = {
        f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2, "title": str(n)}
        for n in range(depth)
    }
    return {"$defs": {**steps, f"d{depth}": {"type": "integer"}}, "$ref": "#/$defs/d0"}


HOSTILE: dict[str, Any] = {
    "twice and twice again": doubling(60),
    "a circle": {"allOf": [{"$ref": "#"}]},
    "somebody else's": {"$ref": "http://127.0.0.1:9/schema.json"},
    "a file": {"$ref": "file:///etc/passwd"},
    "slow pattern": {"type": "string", "pattern": "^(a+)+$"},
    "huge pattern": {"type": "string", "pattern": "(?:[a-z]{1,100}){100}x"},
    "large": {"anyOf": [{"const": n} for n in range(200_000)]},
}


@pytest.mark.parametrize("of", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_schema_is_done_with_at_once(of: Any) -> None:
    begun = time.process_time()
    long = Answer(body(json.dumps("a" * 100_000 + "!")))
    assert quality.of_chat(call(schema(of)), long) is not None
    assert time.process_time() - begun < 2
