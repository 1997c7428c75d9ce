"""Objects and lists: the ways in which providers lay out records."""

from __future__ import annotations

import math
from typing import Any

from providers.adapters.manifest.templates import Template, TemplateError
from providers.adapters.manifest.transforms.base import (
    ArgumentError,
    Params,
    Step,
    TransformError,
    list_of,
    object_of,
    text_argument,
    whole_argument,
)

_MAX_COUNT = 100


def entries(value: Any) -> list[dict[str, Any]]:
    """An object keyed by date or symbol → a list of {key, value}."""
    return [{"key": key, "value": item} for key, item in object_of(value).items()]


def zipped(value: Any) -> list[dict[str, Any]]:
    """An object of parallel arrays → a list of objects."""
    columns = {name: list_of(column) for name, column in object_of(value).items()}
    if len({len(column) for column in columns.values()}) > 1:
        raise TransformError("arrays of different length")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def index(argument: Any) -> Step:
    """`{key: code, value: rate}`: a list of objects → an object of their values by their keys."""
    if not isinstance(argument, dict) or set(argument) != {"key", "value"}:
        raise ArgumentError("takes {key: text, value: text}")
    key, wanted = text_argument(argument["key"]), text_argument(argument["value"])

    def step(value: Any, _params: Params) -> dict[str, Any]:
        items = (object_of(item) for item in list_of(value))
        found = ((table_key(item.get(key)), item.get(wanted)) for item in items)
        return {name: inner for name, inner in found if name is not None}

    return step


def pick_by(argument: Any) -> Step:
    """`uids`: an object that lists its own keys under that name → what stands under them."""
    name = text_argument(argument)

    def step(value: Any, _params: Params) -> list[Any]:
        known = object_of(value)
        keys = (table_key(key) for key in list_of(known.get(name)))
        return [known[key] for key in keys if key in known]

    return step


def first(value: Any) -> Any:
    """A list's first item; of anything else, itself."""
    if isinstance(value, list):
        return value[0] if value else None
    return value


def collect_numbered(argument: Any) -> Step:
    """`{prefix: strIngredient, count: 20}` → what strIngredient1 … strIngredient20 hold."""
    if not isinstance(argument, dict) or set(argument) != {"prefix", "count"}:
        raise ArgumentError("takes {prefix: text, count: whole number}")
    stem, count = text_argument(argument["prefix"]), whole_argument(argument["count"])
    if not 1 <= count <= _MAX_COUNT:
        raise ArgumentError(f"takes a count from 1 to {_MAX_COUNT}")
    names = [f"{stem}{index}" for index in range(1, count + 1)]

    def step(value: Any, _params: Params) -> list[Any]:
        found = (object_of(value).get(name) for name in names)
        return [item for item in found if item not in (None, "")]

    return step


def at_key(argument: Any) -> Step:
    """An object's value at a key made from the call's parameters: `{base}{quote}`."""
    try:
        template = Template.parse(text_argument(argument))
    except TemplateError as error:
        raise ArgumentError(str(error)) from None

    def step(value: Any, params: Params) -> Any:
        key = template.render(params)
        return None if key is None else object_of(value).get(key)

    return step


def null_if(argument: Any) -> Step:
    """None for the values by which a provider says that it has none."""
    nothing = argument if isinstance(argument, list) else [argument]
    return lambda value, _params: None if _is_one_of(value, nothing) else value


def equals(argument: Any) -> Step:
    """True for this value (or one of these), false for any other."""
    wanted = argument if isinstance(argument, list) else [argument]
    return lambda value, _params: _is_one_of(value, wanted)


def _is_one_of(value: Any, others: list[Any]) -> bool:
    """JSON's equality: true is not 1."""
    return any(
        value == other and isinstance(value, bool) == isinstance(other, bool) for other in others
    )


def table_key(value: Any) -> str | None:
    """How a value is written as a key of a table: 3 and 3.0 and "3" are one key."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, (str, int, float)) else None
