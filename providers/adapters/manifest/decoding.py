"""A body as a document: JSON, and XML or a table of text where the manifest says so.

XML comes from a stranger: no document type, no entity but the five that are built in, and bounds
on its depth and on the number of its elements. So does a table: each of its rows is as wide as its
head, or none is read, and there is an end to its cells.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Any, Final, NoReturn
from xml.parsers import expat

import orjson

MAX_DEPTH: Final = 50
MAX_ELEMENTS: Final = 100_000
MAX_CELLS: Final = 500_000
MARKS: Final = {"comma": ",", "semicolon": ";", "bar": "|", "tab": "\t"}
_LEADING = b" \t\r\n\xef\xbb\xbf"
_OTHER: Final = frozenset({b"", b"{", b"[", b"<"})  # what no table begins with


@dataclass(frozen=True, slots=True)
class Table:
    """How lines of text are a table: what stands between two cells, `by` its name, and the line
    that names the columns."""

    by: str = "comma"
    head: int = 1


class _Refused(Exception):
    """XML, or a table, that is not read."""


def json_document(body: bytes) -> Any:
    """None for what is no JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def document(body: bytes, form: Set[str] | Table | None) -> Any:
    """What the body says, or None. `form` is None for a provider that speaks JSON only; else it is
    the elements of XML that are lists however often they come, or a table's form. JSON is read all
    the same."""
    if form is None:
        return json_document(body)
    start = body.lstrip(_LEADING)[:1]
    if isinstance(form, Table):
        return json_document(body) if start in _OTHER else table_document(body, form)
    return xml_document(body, form) if start == b"<" else json_document(body)


def table_document(body: bytes, form: Table) -> dict[str, Any] | None:
    """`{above: [line, …], rows: [{column: text}, …]}`, or None for what is no table.

    `above` are the lines before the head. Lines without anything are passed over.
    """
    try:
        lines = body.decode("utf-8-sig").splitlines()
        above, rest = lines[: form.head - 1], lines[form.head - 1 :]
        return {
            "above": above,
            "rows": list(_rows(csv.reader(rest, delimiter=MARKS[form.by], strict=True))),
        }
    except (UnicodeDecodeError, csv.Error, _Refused):
        return None


def _rows(cells: Iterator[list[str]]) -> Iterator[dict[str, str]]:
    head = [name.strip() for name in next(cells, [])]
    if len(head) < 2 or len(set(head)) < len(head):
        raise _Refused
    most = MAX_CELLS // len(head)
    for count, row in enumerate(filter(None, cells)):
        if len(row) != len(head) or count >= most:
            raise _Refused
        yield dict(zip(head, map(str.strip, row), strict=True))


def xml_document(body: bytes, lists: Set[str]) -> dict[str, Any] | None:
    """`{root: …}`, or None for what is no XML or more than is read.

    An element is an object of its attributes (`@name`), its elements and its text (`#text`); one
    with nothing but text is that text, and one with nothing at all is null. Elements that come
    more than once are a list. Names are without their namespace's prefix.
    """
    reader = _Reader(lists)
    try:
        reader.parser.Parse(body, True)
    except (expat.ExpatError, _Refused, LookupError, ValueError):
        return None
    return reader.root


class _Reader:
    def __init__(self, lists: Set[str]) -> None:
        self.root: dict[str, Any] = {}
        self._lists = lists
        self._open: list[dict[str, Any]] = [self.root]
        self._texts: list[list[str]] = [[]]
        self._left = MAX_ELEMENTS
        parser = self.parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = _refuse
        parser.EntityDeclHandler = _refuse
        parser.ExternalEntityRefHandler = _refuse

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._left -= 1
        if self._left < 0 or len(self._open) > MAX_DEPTH:
            raise _Refused
        known = {
            f"@{_local(attribute)}": value
            for attribute, value in attributes.items()
            if attribute.partition(":")[0] != "xmlns"
        }
        self._open.append(known)
        self._texts.append([])

    def _end(self, name: str) -> None:
        element, text = self._open.pop(), "".join(self._texts.pop()).strip()
        if element and text:
            element["#text"] = text
        self._put(_local(name), element or text or None)

    def _text(self, text: str) -> None:
        self._texts[-1].append(text)

    def _put(self, name: str, value: Any) -> None:
        parent = self._open[-1]
        if name not in parent:
            parent[name] = [value] if name in self._lists else value
        elif isinstance(parent[name], list):
            parent[name].append(value)
        else:
            parent[name] = [parent[name], value]


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _refuse(*_: Any) -> NoReturn:
    raise _Refused
