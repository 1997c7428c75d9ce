"""Text: cutting, cleaning, joining. No regular expressions from a manifest, so none can hang."""

from __future__ import annotations

import html
import re
from typing import Any

from providers.adapters.manifest.transforms.base import (
    ArgumentError,
    Step,
    TransformError,
    kind_of,
    list_of,
    text_argument,
    text_of,
    texts_argument,
)

_TAG = re.compile(r"<[^<>]*>")
_SPACE = re.compile(r"\s+")


def text(value: Any) -> str:
    """A text or a number as text; an empty one is nothing."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise TransformError(f"text expected, {kind_of(value)} found")
    return str(value)


def trim(value: Any) -> str | None:
    """Without outer and double white space; None when nothing is left."""
    return _SPACE.sub(" ", text_of(value)).strip() or None


def strip_html(value: Any) -> str | None:
    """Tags out, entities resolved."""
    return trim(html.unescape(_TAG.sub(" ", text_of(value))))


def upper(value: Any) -> str:
    return text_of(value).upper()


def lower(value: Any) -> str:
    return text_of(value).lower()


def sentence(value: Any) -> str:
    """A capital first letter: "light rain" → "Light rain"."""
    words = text_of(value)
    return words[:1].upper() + words[1:]


def split(argument: Any) -> Step:
    """`{by: ",", part: 0}`: one part (None where there is none), or all without `part`."""
    known = argument if isinstance(argument, dict) else {"by": argument}
    by, part = text_argument(known.get("by")), known.get("part")
    if set(known) - {"by", "part"} or not (part is None or type(part) is int):
        raise ArgumentError("takes {by: text, part: whole number}")

    def step(value: Any, _params: Any) -> Any:
        parts = text_of(value).split(by)
        if part is None:
            return parts
        return parts[part].strip() if -len(parts) <= part < len(parts) else None

    return step


def before(argument: Any) -> Step:
    """The text up to the first of these marks; all of it where there is none."""
    marks = texts_argument(argument)

    def step(value: Any, _params: Any) -> str | None:
        words = text_of(value)
        ends = [at for mark in marks if (at := words.find(mark)) >= 0]
        return words[: min(ends, default=len(words))].strip() or None

    return step


def between(argument: Any) -> Step:
    """`["(", ")"]`: what stands between the first opening mark and the one that closes it."""
    marks = texts_argument(argument)
    if len(marks) != 2:
        raise ArgumentError("takes two texts")
    opening, closing = marks

    def step(value: Any, _params: Any) -> str | None:
        _, _, rest = text_of(value).partition(opening)
        pieces = rest.split(closing)
        for count in range(1, len(pieces)):
            inner = closing.join(pieces[:count])
            if opening == closing or inner.count(opening) == count - 1:
                return inner.strip() or None
        return None

    return step


def prefix(argument: Any) -> Step:
    known = text_argument(argument)
    return lambda value, _params: known + text(value)


def join(argument: Any) -> Step:
    """A list's texts, without the empty ones; None when nothing is left."""
    glue = text_argument(argument)

    def step(value: Any, _params: Any) -> str | None:
        return glue.join(text(item) for item in list_of(value) if item not in (None, "")) or None

    return step


def part(argument: Any) -> Step:
    """`slice: [from, to]` of a text or a list."""
    known = argument if isinstance(argument, list) else [None, argument]
    if len(known) != 2 or not all(end is None or type(end) is int for end in known):
        raise ArgumentError("takes a whole number or [from, to]")
    window = slice(*known)

    def step(value: Any, _params: Any) -> Any:
        if not isinstance(value, (str, list)):
            raise TransformError(f"text or list expected, {kind_of(value)} found")
        return value[window] or None

    return step
