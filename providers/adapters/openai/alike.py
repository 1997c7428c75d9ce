"""Most events of a stream are the one before again, but for the text. Such an event is known by
its bytes, which is some ten times faster than to read it."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, Self

import orjson

from providers.adapters.openai.repair import characters

_TEXT = re.compile(rb'"content"\s*:\s*"((?:[^"\\]|\\.)*)"')
_OTHER = b"?"  # any text will do


class Alike(NamedTuple):
    """All events that are `head`, a text, and `tail`; both with the text's quotation mark."""

    head: bytes
    tail: bytes

    @classmethod
    def to(cls, data: bytes, document: dict[str, Any]) -> Self | None:
        """Those like a chunk with one choice that says nothing but text, written as `data`; None
        for another, and where it is not sure which of its strings the text is."""
        try:
            (choice,) = document["choices"]
            if not choice["delta"]["content"]:
                return None
            delta = {**choice["delta"], "content": _OTHER.decode()}
            if characters(delta) != len(_OTHER) or delta.get("tool_calls"):
                return None
        except (LookupError, TypeError, ValueError, AttributeError):
            return None
        if (written := _TEXT.search(data)) is None:
            return None
        head, tail = data[: written.start(1)], data[written.end(1) :]
        other = {**document, "choices": [{**choice, "delta": delta}]}
        if orjson.loads(head + _OTHER + tail) != other:
            return None
        return cls(head, tail)

    def text(self, data: bytes) -> str | None:
        """The text of an event that is one of them; None for another."""
        if not (data.startswith(self.head) and data.endswith(self.tail)):
            return None
        try:
            text: str = orjson.loads(data[len(self.head) - 1 : len(data) - len(self.tail) + 1])
        except orjson.JSONDecodeError:
            return None
        return text
