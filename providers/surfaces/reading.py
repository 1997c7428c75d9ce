"""Reads what the relay sends on, whatever a provider put into it: a member that has not the form
it should have says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from providers import openai_wire as wire
from providers.call import Usage

Fields = Mapping[str, Any]
END = b"[DONE]"
_NOTHING: Fields = {}
_DATA = b"data: "


class Events:
    """Feed it a stream of chat completion chunks, cut anywhere; get what is in each event, and
    END. The framing is our own, so an event is one line."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        *whole, self._rest = (self._rest + chunk).split(b"\n\n")
        return [event[len(_DATA) :] for event in whole if event.startswith(_DATA)]


def document_of(data: bytes) -> Fields:
    return fields_of(orjson.loads(data))


def fields_of(value: Any) -> Fields:
    return value if isinstance(value, dict) else _NOTHING


def entries_of(value: Any) -> list[Fields]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def choice_of(document: Fields) -> Fields:
    """The only one, or nothing."""
    return next(iter(entries_of(document.get("choices"))), _NOTHING)


def reasoning_of(message: Fields) -> str:
    return text_of(message.get("reasoning_content")) or text_of(message.get("reasoning"))


def usage_of(document: Fields) -> Usage | None:
    return wire.read_usage(document.get("usage"))


def joined(one: Fields, other: Fields) -> dict[str, Any]:
    """Both; what both have is joined, and lists grow."""
    made = dict(one)
    for name, value in other.items():
        known = made.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            made[name] = joined(known, value)
        elif isinstance(known, list) and isinstance(value, list):
            made[name] = [*known, *value]
        else:
            made[name] = value
    return made
