"""XML from strangers: read as told, or not at all."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.adapters.manifest.decoding import MAX_DEPTH, MAX_ELEMENTS, document, xml_document

LISTS = frozenset({"item"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<a/>", {"a": None}),
        ("<a>x</a>", {"a": "x"}),
        ("<a b='1'>x</a>", {"a": {"@b": "1", "#text": "x"}}),
        ("<a><b>1</b><b>2</b></a>", {"a": {"b": ["1", "2"]}}),
        ("<a><b>1</b></a>", {"a": {"b": "1"}}),
        ("<a><item>1</item></a>", {"a": {"item": ["1"]}}),
        ("<a> <b> x </b>\n</a>", {"a": {"b": "x"}}),
        ("<n:a xmlns:n='urn:x' xmlns='urn:y' n:k='v'><n:b/></n:a>", {"a": {"@k": "v", "b": None}}),
        ("<a>1<b/>2</a>", {"a": {"b": None, "#text": "12"}}),
        ("<a><![CDATA[<&]]></a>", {"a": "<&"}),
        ("<a>&lt;&#229;</a>", {"a": "<å"}),
        ("\ufeff<?xml version='1.0' encoding='UTF-8'?>\n<a>å</a>", {"a": "å"}),
    ],
)
def test_elements_become_objects(text: str, expected: Any) -> None:
    assert document(text.encode(), LISTS) == expected


@pytest.mark.parametrize(
    "text",
    [
        "<!DOCTYPE a><a/>",
        "<!DOCTYPE a SYSTEM 'http://127.0.0.1/x.dtd'><a/>",
        "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>",
        "<!DOCTYPE a [<!ENTITY x 'ha'><!ENTITY y '&x;&x;&x;&x;'>]><a>&y;</a>",
        "<a>&unknown;</a>",
        "<a>",
        "<a></b>",
        "<a/><b/>",
        "<html><br></html>",
        "<a>" * (MAX_DEPTH + 2) + "</a>" * (MAX_DEPTH + 2),
        "<?xml version='1.0' encoding='nonsense'?><a/>",
    ],
)
def test_what_is_not_read(text: str) -> None:
    assert document(text.encode(), LISTS) is None


def test_there_is_an_end_to_elements() -> None:
    body = b"<a>" + b"<b/>" * MAX_ELEMENTS + b"</a>"
    assert xml_document(body, LISTS) is None


def test_json_is_read_all_the_same_and_xml_only_where_it_is_spoken() -> None:
    assert document(b'{"a":1}', LISTS) == {"a": 1}
    assert document(b"<a/>", None) is None


@given(st.binary(max_size=60) | st.text("<a>/ &;![]'=x", max_size=40).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_not(body: bytes) -> None:
    orjson.dumps(document(body, LISTS))
