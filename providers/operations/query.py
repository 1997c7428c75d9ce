"""A data operation's query string as typed parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from providers.operations.checking import MAX_FAULTS, Fault, refusal
from providers.operations.operation import Operation

_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_BOOLEANS: Final = {"true": True, "false": False, "1": True, "0": False}


def parse_query(operation: Operation, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The pairs with each value as its schema's type. Unknown names are left for `validate`.

    Raises InvalidRequest for a name said twice and for text that is no value of its type.
    """
    properties = operation.request_schema["properties"]
    params: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, text in pairs:
        if name in params:
            faults.append(("Said twice. Say it once.", (name,)))
            continue
        try:
            params[name] = _typed(properties.get(name, {}), text)
        except ValueError as error:
            params[name] = None
            faults.append((str(error), (name,)))
    if faults:
        raise refusal(faults[:MAX_FAULTS])
    return params


def written(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The pairs that `parse_query` reads back as these parameters."""
    return [(name, _text(value)) for name, value in sorted(params.items())]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _typed(schema: Mapping[str, Any], text: str) -> Any:
    value = _PARSERS[schema.get("type", "string")](text)
    return value.upper() if schema.get("x-upper") else value


def _string(text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("Must be valid Unicode text.")
    return text


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text) or not math.isfinite(number := float(text)):
        raise ValueError("Must be a finite number.")
    return number


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError("Must be a whole number.")
    return int(text)


def _boolean(text: str) -> bool:
    if text not in _BOOLEANS:
        raise ValueError("Must be true or false.")
    return _BOOLEANS[text]


_PARSERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "string": _string,
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
}
