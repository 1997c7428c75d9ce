"""What is generated fits the schema it was generated from."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from providers.sandbox.generate import pieces
from providers.sandbox.instances import instance

LEAVES = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
        st.integers(-50, 50),
        st.integers(0, 9),
    ),
    st.builds(
        lambda low, more: {
            "type": "number",
            "exclusiveMinimum": low,
            "exclusiveMaximum": low + more,
        },
        st.integers(-50, 50),
        st.integers(1, 9),
    ),
    st.builds(
        lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more},
        st.integers(0, 30),
        st.integers(0, 9),
    ),
    st.sampled_from(["date", "date-time", "email", "uri", "uuid", "ipv4"]).map(
        lambda form: {"type": "string", "format": form}
    ),
    st.lists(st.integers(), min_size=1, max_size=3, unique=True).map(lambda v: {"enum": v}),
    st.integers().map(lambda value: {"const": value}),
)


def nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.builds(
            lambda item, least: {"type": "array", "items": item, "minItems": least},
            inner,
            st.integers(0, 3),
        ),
        st.dictionaries(st.sampled_from("abcd"), inner, max_size=3).map(
            lambda properties: {
                "type": "object",
                "properties": properties,
                "required": sorted(properties),
                "additionalProperties": False,
            }
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches}),
        st.lists(inner, min_size=1, max_size=1).map(lambda parts: {"allOf": parts}),
    )


@settings(max_examples=150, deadline=None)
@given(st.recursive(LEAVES, nested, max_leaves=8))
def test_an_instance_is_valid(schema: dict[str, Any]) -> None:
    made = instance(schema)
    assert Draft202012Validator(schema, validate_formats=True).is_valid(made), made
    assert instance(schema) == made


def test_references_that_turn_in_circles_end() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    assert "next" in instance({"$ref": "#/$defs/node", "$defs": {"node": node}})
    assert instance({"$ref": "#"}) == "sample"
    assert instance({"$ref": "#/nowhere"}) == "sample"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": 5},
        {"type": "object", "properties": 3},
        {"type": "object", "required": "x"},
        {"type": "array", "minItems": "x"},
        {"type": "array", "minItems": 10**12},
        {"type": "string", "minLength": 10**12},
        {"type": "integer", "minimum": "x"},
        {"type": "integer", "multipleOf": 0},
        {"type": "integer", "minimum": 1e400},
        {"type": "array", "minItems": 90, "items": {"$ref": "#"}},
        {"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}, "required": ["a", "b"]},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"allOf": 3},
        {"anyOf": [3]},
        {"properties": {"a": 5}, "required": [[]]},
        {"$ref": 5},
    ],
)
def test_no_schema_breaks_the_sandbox(schema: dict[str, Any]) -> None:
    instance(schema)


@given(st.text(st.sampled_from("ab \n\t\u00a0\u2003é")))
def test_pieces_are_the_text_and_each_is_a_word(text: str) -> None:
    if text.strip():
        assert "".join(pieces(text)) == text
    assert len(pieces(text)) == len(text.split())
