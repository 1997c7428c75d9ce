"""XML and tables from strangers: read as told, or not at all."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.adapters.manifest.decoding import (
    MAX_CELLS,
    MAX_DEPTH,
    MAX_ELEMENTS,
    Table,
    document,
    xml_document,
)

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


@pytest.mark.parametrize(
    ("form", "text", "above", "rows"),
    [
        (Table(), "a,b\n1,2\n3,4\n", [], [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]),
        (Table(), "a,b\r\n1,\r\n\r\n", [], [{"a": "1", "b": ""}]),
        (Table(), 'a,b\n"1,5","say ""x"""\n', [], [{"a": "1,5", "b": 'say "x"'}]),
        (Table(), " a , b \n 1 , 2 ", [], [{"a": "1", "b": "2"}]),
        (Table(), "a,b", [], []),
        (
            Table("bar", 2),
            "27.11.2026 #3\nměna|kurz\nUSD|1,5",
            ["27.11.2026 #3"],
            [{"měna": "USD", "kurz": "1,5"}],
        ),
        (Table("tab"), "\ufeffa\tb\n1,000.5\tx", [], [{"a": "1,000.5", "b": "x"}]),
    ],
)
def test_lines_become_rows(form: Table, text: str, above: list[str], rows: Any) -> None:
    assert document(text.encode(), form) == {"above": above, "rows": rows}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"Service unavailable\n",
        b"a,b\n1\n",
        b"a,b\n1,2,3\n",
        b"a,a\n1,2\n",
        b'a,b\n"1,2\n',
        b"a,b\n\xff,2\n",
        b"<html><body>a,b</body></html>",
        b"a,b\n" + b"1,2\n" * (MAX_CELLS // 2 + 1),
        b",".join(b"%d" % n for n in range(MAX_CELLS + 1)) + b"\n" + b"," * MAX_CELLS,
    ],
)
def test_what_is_no_table(body: bytes) -> None:
    """A row that was cut off would be told as a true one."""
    assert document(body, Table()) is None


def test_json_is_read_where_tables_are_spoken() -> None:
    assert document(b'{"a":1}', Table()) == {"a": 1}
    assert document(b"a,b\n1,2", None) is None
    assert document(b"a,b\n1,2", LISTS) is None


@given(st.binary(max_size=60) | st.text('ab,"|\r\n\t\x00\ufeff', max_size=40).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_table_or_none(body: bytes) -> None:
    for form in (Table(), Table("bar", 2), Table("tab", 20)):
        orjson.dumps(document(body, form))
