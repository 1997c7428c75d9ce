"""A body as a document: JSON, and XML where the manifest says so.

XML comes from a stranger: no document type, no entity but the five that are built in, and bounds
on its depth and on the number of its elements.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any, Final, NoReturn
from xml.parsers import expat

import orjson

MAX_DEPTH: Final = 50
MAX_ELEMENTS: Final = 100_000
_LEADING = b" \t\r\n\xef\xbb\xbf"


class _Refused(Exception):
    """XML that is not read."""


def json_document(body: bytes) -> Any:
    """None for what is no JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def document(body: bytes, lists: Set[str] | None) -> Any:
    """What the body says, or None. `lists` is None for a provider that speaks JSON only; else XML
    is read too, and these are the elements that are lists however often they come."""
    if lists is not None and body.lstrip(_LEADING)[:1] == b"<":
        return xml_document(body, lists)
    return json_document(body)


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
