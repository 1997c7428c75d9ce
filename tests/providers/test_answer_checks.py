"""Checks of answers: what they refuse, what staff may write, and that nothing takes long."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.answer_checks import MOST_READ, MOST_SCHEMA, CheckFault, Checks, parse

SCHEMA = {
    "type": "object",
    "required": ["city"],
    "properties": {"city": {"type": "string", "pattern": "^[A-Z]"}},
}


def made(**value: Any) -> Checks:
    checks = parse(value)
    assert checks is not None
    return checks


@pytest.mark.parametrize("value", [{}, {"not_empty": False}, {"json": False, "forbidden": []}])
def test_checks_that_ask_for_nothing_are_none(value: Any) -> None:
    assert parse(value) is None


@pytest.mark.parametrize(
    ("value", "text", "fault"),
    [
        ({"not_empty": True}, " \n\t", "empty"),
        ({"not_empty": True}, "x", None),
        ({"json": True}, '{"a": 1}', None),
        ({"json": True}, "7", None),
        ({"json": True}, '```json\n{"a": 1}\n```', "no JSON"),
        ({"json": True}, '{"a": ', "no JSON"),
        ({"json": True}, "[" * 10_000, "no JSON"),
        ({"json": True}, "", "no JSON"),
        ({"schema": SCHEMA}, '{"city": "Rome"}', None),
        ({"schema": SCHEMA}, '{"city": "rome"}', "schema"),
        ({"schema": SCHEMA}, "[]", "schema"),
        ({"schema": SCHEMA}, "Rome", "no JSON"),
        ({"min_characters": 3}, "né", "shorter than 3"),
        ({"min_characters": 3}, "née", None),
        ({"max_characters": 3}, "née!", "longer than 3"),
        ({"max_characters": 3}, "née", None),
        ({"max_characters": 3}, "", None),
        ({"forbidden": ["x", "(?i)as an ai"]}, "Well, As An AI I", "pattern 2"),
        ({"forbidden": ["(?i)as an ai"]}, "as a nail", None),
        ({"forbidden": [r"^\d+$"]}, "a\n12\n", None),
    ],
)
def test_what_a_text_fails_by(value: Any, text: str, fault: str | None) -> None:
    told = made(**value).of_text(text)
    assert told is None if fault is None else fault in str(told)


@pytest.mark.parametrize(
    ("value", "data", "fault"),
    [
        ({"not_empty": True}, [], "empty"),
        ({"not_empty": True}, [{"a": 1}], None),
        ({"json": True}, [], None),
        ({"schema": {"minItems": 2}}, [1], "schema"),
        ({"schema": {"minItems": 2}}, [1, 2], None),
        ({"forbidden": ["N/A"]}, {"price": "N/A"}, "pattern 1"),
        ({"min_characters": 9}, {}, "shorter"),
        ({"max_characters": 9}, {"a": "123456789"}, "longer"),
    ],
)
def test_what_data_fails_by(value: Any, data: Any, fault: str | None) -> None:
    told = made(**value).of_data(data)
    assert told is None if fault is None else fault in str(told)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([], ()),
        ({"no_such": True}, ()),
        ({"not_empty": "yes"}, ("not_empty",)),
        ({"min_characters": 0}, ("min_characters",)),
        ({"min_characters": 9, "max_characters": 8}, ("min_characters",)),
        ({"max_characters": 1.5}, ("max_characters",)),
        ({"schema": True}, ("schema",)),
        ({"schema": {"type": "nope"}}, ("schema",)),
        ({"schema": {"$ref": "#"}}, ("schema",)),
        ({"schema": {"$defs": {"a": {"$dynamicRef": "https://evil.test/"}}}}, ("schema",)),
        ({"schema": {"pattern": "(?=a)"}}, ("schema",)),
        ({"schema": {"const": 10**40}}, ("schema",)),
        ({"schema": {"const": "x" * MOST_SCHEMA}}, ("schema",)),
        ({"forbidden": "x"}, ("forbidden",)),
        ({"forbidden": ["x"] * 11}, ("forbidden",)),
        ({"forbidden": ["a", "["]}, ("forbidden", 1)),
        ({"forbidden": [""]}, ("forbidden", 0)),
        ({"forbidden": ["(?=a)b"]}, ("forbidden", 0)),
        ({"forbidden": [r"(a)\1"]}, ("forbidden", 0)),
        ({"forbidden": ["((a{1,100}){1,100}){1,100}"]}, ("forbidden", 0)),
        ({"forbidden": ["(?:[a-z]{1,100}){100}x"]}, ("forbidden", 0)),
    ],
)
def test_what_staff_may_not_write(value: Any, path: tuple[Any, ...]) -> None:
    with pytest.raises(CheckFault) as caught:
        parse(value)
    assert caught.value.path == path and caught.value.text


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", r"(\w+\s?)+:$", "(.*)(.*)(.*)(.*)[^a]>"])
def test_patterns_that_hang_other_engines_take_no_time(pattern: str) -> None:
    checks = made(forbidden=[pattern], schema={"type": "string", "pattern": pattern})
    began = time.perf_counter()
    checks.of_text('"' + "a" * (MOST_READ - 3) + '!"')
    assert time.perf_counter() - began < 2


def test_no_check_reads_on_for_ever() -> None:
    longer = "a" * (MOST_READ + 1)
    for value in ({"json": True}, {"schema": {}}, {"forbidden": ["b"]}):
        assert "longer" in str(made(**value).of_text(longer))
    assert made(not_empty=True, max_characters=MOST_READ * 2).of_text(longer) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["not_empty", "schema", "forbidden", "json", "type"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(JSON, st.text(max_size=40))
def test_whatever_is_written_is_understood_or_refused(value: Any, text: str) -> None:
    try:
        checks = parse(value)
    except CheckFault:
        return
    if checks is not None:
        told = checks.of_text(text)
        assert told is None or len(told) < 100
