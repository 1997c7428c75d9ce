"""Request bodies: whatever a parameter holds, it says no more than itself."""

from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.adapters.manifest.bodies import Body
from providers.adapters.manifest.compiling_parts import Parts

PARTS = Parts({})
PARTS.known_params = frozenset({"q", "limit", "lang", "on"})
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def body(source: dict[str, Any]) -> Body:
    made = PARTS.body(source, ("body",))
    assert made is not None
    assert not PARTS.faults
    return made


TREE = body(
    {
        "json": {
            "text": ["{q}"],
            "say": "<{q}>",
            "n": "{limit|10}",
            "deep": {"lang": "{lang}", "on": "{on}", "fixed": [1, True, None, "x"]},
        }
    }
)


def test_a_parameter_alone_keeps_its_type() -> None:
    told = orjson.loads(TREE.render({"q": "å", "limit": 3, "on": False}))
    assert told == {
        "text": ["å"],
        "say": "<å>",
        "n": 3,
        "deep": {"on": False, "fixed": [1, True, None, "x"]},
    }


def test_what_is_absent_is_left_out_and_a_default_is_a_number() -> None:
    told = orjson.loads(TREE.render({}))
    assert told == {"text": [], "n": 10, "deep": {"fixed": [1, True, None, "x"]}}


@given(TEXT)
@settings(max_examples=150, deadline=None)
def test_no_text_leaves_its_place(text: str) -> None:
    told = orjson.loads(TREE.render({"q": text}))
    assert told["text"] == [text]
    assert told["say"] == f"<{text}>"
    assert set(told) == {"text", "say", "n", "deep"}


@given(TEXT, st.integers(1, 100), st.booleans())
@settings(max_examples=150, deadline=None)
def test_what_is_written_can_be_read_back(text: str, limit: int, on: bool) -> None:
    params = {"q": text, "limit": limit, "on": on}
    found = TREE.recover(TREE.render(params))
    assert found == {
        name: value for name, value in params.items() if (name, value) != ("limit", 10)
    }


@given(TEXT, TEXT)
@settings(max_examples=100, deadline=None)
def test_a_form_is_pairs(q: str, lang: str) -> None:
    form = body({"form": {"text": "{q}", "fixed": "a=b&c", "lang": "{lang}"}})
    pairs = [("text", q), ("fixed", "a=b&c"), ("lang", lang)]
    assert parse_qsl(form.render({"q": q, "lang": lang}).decode(), keep_blank_values=True) == pairs
    assert form.recover(form.render({"q": q})) == {"q": q}
    assert form.content_type == "application/x-www-form-urlencoded"


def test_graphql_takes_braces_as_they_are() -> None:
    query = "query ($q: String) { find(q: $q) { id } }"
    made = body({"graphql": {"query": query, "variables": {"q": "{q}"}}})
    hostile = '"}) { secrets } #'
    assert orjson.loads(made.render({"q": hostile})) == {
        "query": query,
        "variables": {"q": hostile},
    }


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"n":10,"text":[]}',
        b'{"n":10,"text":[],"deep":{"fixed":[1,1,null,"x"]}}',
    ],
)
def test_another_body_is_not_read_back(sent: bytes) -> None:
    assert TREE.recover(sent) is None
