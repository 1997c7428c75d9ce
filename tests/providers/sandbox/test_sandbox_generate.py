"""The sandbox's model: deterministic, and honest about its tokens."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.sandbox.dialects.openai_messages import turns
from providers.sandbox.generate import pieces, reply
from providers.sandbox.instances import instance
from providers.sandbox.prompt import Choice, Finish, Prompt, Speaker, Tool, Turn, words
from providers.sandbox.vectors import vector


def asked(text: str, **more: Any) -> Prompt:
    return Prompt(model="m", turns=(Turn(Speaker.USER, text),), **more)


@given(st.text())
def test_pieces_are_the_text_and_one_token_each(text: str) -> None:
    made = pieces(text)
    assert len(made) == words(text)
    assert "".join(made) == (text if text.strip() else "")


@given(st.text(), st.integers(1, 8), st.lists(st.text(min_size=1, max_size=3), max_size=3))
def test_a_reply_keeps_its_limit_and_its_stops(text: str, limit: int, stops: list[str]) -> None:
    prompt = asked(text, max_tokens=limit, stop=tuple(stops))
    made = reply(prompt)
    assert made == reply(prompt)
    assert made.output_tokens <= limit
    assert not any(stop in made.text for stop in stops)
    if made.finish is Finish.LENGTH:
        assert made.output_tokens == limit
        assert made.stop_sequence is None


def test_tools_that_do_not_fit_are_left_out() -> None:
    made = reply(asked("x", tools=(Tool("f"),), choice=Choice.REQUIRED, max_tokens=1))
    assert (made.finish, made.calls, made.output_tokens) == (Finish.LENGTH, (), 0)


@pytest.mark.parametrize(
    ("text", "parallel", "called"),
    [
        ("use alpha and BETA", True, ["alpha", "beta"]),
        ("use alpha and beta", False, ["alpha"]),
        ("alphabet", True, []),
        ("nothing", True, []),
    ],
)
def test_tools_are_called_when_named(text: str, parallel: bool, called: list[str]) -> None:
    tools = (Tool("alpha"), Tool("beta"))
    made = reply(asked(text, tools=tools, parallel=parallel))
    assert [call.name for call in made.calls] == called
    assert not reply(asked(text, tools=tools, choice=Choice.NONE)).calls


def test_json_in_a_string_costs_what_the_object_costs() -> None:
    told, meant = '{"a": "one two", "b": [3, null]}', {"a": "one two", "b": [3, None]}
    assert Turn(Speaker.TOOL, values=(told,)).tokens == 4
    assert Turn(Speaker.TOOL, values=(meant,)).tokens == 4


def test_text_in_parts_costs_what_it_costs_in_one() -> None:
    parts = [{"type": "text", "text": "one two"}, {"type": "text", "text": "three"}]
    for content in ("one two three", parts):
        made = turns({"messages": [{"role": "user", "content": content}]})
        assert sum(turn.tokens for turn in made) == 3


scalars = st.one_of(
    st.builds(
        lambda least, span: {"type": "integer", "minimum": least, "maximum": least + span},
        st.integers(-50, 50),
        st.integers(0, 20),
    ),
    st.builds(
        lambda above, span: {
            "type": "number",
            "exclusiveMinimum": above,
            "exclusiveMaximum": above + span,
        },
        st.integers(-50, 50),
        st.integers(1, 20),
    ),
    st.builds(
        lambda least, span: {"type": "string", "minLength": least, "maxLength": least + span},
        st.integers(0, 20),
        st.integers(0, 5),
    ),
    st.builds(lambda values: {"enum": values}, st.lists(st.text(), min_size=1)),
    st.builds(lambda value: {"const": value}, st.one_of(st.none(), st.integers(), st.text())),
    st.just({"type": ["null", "boolean"]}),
    st.builds(lambda step: {"type": "integer", "multipleOf": step}, st.integers(1, 9)),
)
schemas = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.builds(
            lambda items, least: {"type": "array", "items": items, "minItems": least},
            inner,
            st.integers(0, 3),
        ),
        st.builds(
            lambda properties: {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            },
            st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
        ),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"allOf": [part]}, inner),
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(schemas)
def test_an_instance_fits_its_schema(schema: dict[str, Any]) -> None:
    jsonschema.validate(instance(schema), schema)


def test_a_schema_that_holds_itself_ends() -> None:
    node = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
        "required": ["next"],
    }
    schema = {"$ref": "#/$defs/node", "$defs": {"node": node}}
    jsonschema.validate(instance(schema), schema)
    endless = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    assert instance(endless) is not None


@pytest.mark.parametrize("schema", [{"type": "OBJECT", "properties": {"n": {"type": "INTEGER"}}}])
def test_geminis_type_names(schema: dict[str, Any]) -> None:
    assert instance(schema) == {"n": 1}


@given(st.text(), st.integers(1, 64))
def test_vectors_have_length_one(text: str, size: int) -> None:
    made = vector("m", text, size)
    assert len(made) == size
    assert abs(sum(each * each for each in made) - 1) < 1e-5
    assert made == vector("m", text, size)
    assert size < 4 or made != vector("another", text, size)
