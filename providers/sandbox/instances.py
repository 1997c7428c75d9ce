"""A value that fits a JSON Schema, always the same one: tool arguments and structured answers.

Knows what the providers' structured outputs know: types, enum, const, default, bounds, formats,
items, properties, anyOf/oneOf/allOf and local $refs. `pattern` is beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# A schema may refer to itself; from here on only what is required is filled in …
_SPARSE_DEPTH = 4
# … and from here on nothing, whatever the schema says.
_MAX_DEPTH = 24
# What a schema may ask for, at most: the sandbox is not there to be filled up.
_MAX_LENGTH = 10_000
_MAX_ITEMS = 100
_MAX_VALUES = 10_000

_FORMATS = {
    "date": "2026-01-15",
    "date-time": "2026-01-15T12:00:00Z",
    "time": "12:00:00Z",
    "email": "sandbox@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "hostname": "example.com",
    "duration": "P1D",
}

Schema = Mapping[str, Any]


def instance(schema: Schema) -> Any:
    """One instance of `schema`. Gemini's upper-case type names are understood too."""
    return _Maker(schema).make(schema, 0)


class _Maker:
    def __init__(self, root: Schema) -> None:
        self._root = root
        self._left = _MAX_VALUES

    def make(self, schema: Any, depth: int) -> Any:
        self._left -= 1
        if not isinstance(schema, Mapping) or depth > _MAX_DEPTH or self._left < 0:
            return None
        schema = self._resolved(schema, depth)
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        for key in ("enum", "examples"):
            if isinstance(schema.get(key), list) and schema[key]:
                return schema[key][0]
        for key in ("anyOf", "oneOf"):
            if isinstance(schema.get(key), list) and schema[key]:
                return self.make(self._easiest(schema[key], depth), depth + 1)
        return self._typed(schema, depth)

    def _resolved(self, schema: Schema, depth: int) -> Schema:
        self._left -= 1
        if depth > _MAX_DEPTH or self._left < 0:
            return {}
        for _ in range(_MAX_DEPTH):
            if "$ref" not in schema:
                break
            schema = {**self._target(str(schema["$ref"])), **_without(schema, "$ref")}
        for part in _listed(schema, "allOf"):
            if isinstance(part, Mapping):
                schema = _merged(schema, self._resolved(part, depth + 1))
        return schema

    def _target(self, ref: str) -> Schema:
        node: Any = self._root
        for step in ref.removeprefix("#").strip("/").split("/"):
            if step and isinstance(node, Mapping):
                node = node.get(step.replace("~1", "/").replace("~0", "~"))
        return node if isinstance(node, Mapping) else {}

    def _easiest(self, branches: list[Any], depth: int) -> Any:
        """The first branch; deep down, one that ends there if there is any."""
        if depth >= _SPARSE_DEPTH:
            for branch in branches:
                if isinstance(branch, Mapping) and _type(branch) not in ("object", "array", ""):
                    return branch
        return branches[0]

    def _typed(self, schema: Schema, depth: int) -> Any:
        match _type(schema) or _implied(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "integer" | "number" as kind:
                return _number(schema, whole=kind == "integer")
            case "boolean":
                return True
            case "null":
                return None
        return _text(schema)

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        properties = _mapped(schema, "properties")
        required = [name for name in _listed(schema, "required") if isinstance(name, str)]
        wanted = dict.fromkeys([*properties, *required] if depth < _SPARSE_DEPTH else required)
        return {name: self.make(properties.get(name, {}), depth + 1) for name in wanted}

    def _array(self, schema: Schema, depth: int) -> list[Any]:
        least = _size(schema, "minItems", 0)
        count = max(least, 1) if depth < _SPARSE_DEPTH else least
        count = min(count, _size(schema, "maxItems", count), _MAX_ITEMS)
        return [self.make(schema.get("items", {}), depth + 1) for _ in range(count)]


def _type(schema: Schema) -> str:
    kind = schema.get("type", "")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    return str(kind).lower().removeprefix("type_unspecified")


def _implied(schema: Schema) -> str:
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _number(schema: Schema, *, whole: bool) -> int | float:
    """The smallest that is allowed and not below 1, if 1 is; else the nearest to the bounds."""
    lowest = _bound(schema, "minimum", -math.inf)
    above = _bound(schema, "exclusiveMinimum", -math.inf)
    highest = min(_bound(schema, "maximum", math.inf), _bound(schema, "exclusiveMaximum", math.inf))
    step = _bound(schema, "multipleOf", 1 if whole else 0)
    value = max(1, lowest)
    if value <= above:
        value = above + (1 if whole or highest > above + 1 else (highest - above) / 2)
    if value > highest or value == schema.get("exclusiveMaximum"):
        top = highest - 1 if highest == schema.get("exclusiveMaximum") else highest
        value = top if top >= lowest and top > above else (max(lowest, above) + highest) / 2
    if step:
        value = math.ceil(value / step) * step
        value = value - step if value > highest else value
    return int(value) if whole or value == int(value) else value


def _text(schema: Schema) -> str:
    text = _FORMATS.get(str(schema.get("format", "")), "sample")
    text = text.ljust(min(_size(schema, "minLength", 0), _MAX_LENGTH), "x")
    return text[: _size(schema, "maxLength", len(text))]


def _size(schema: Schema, key: str, usual: int) -> int:
    value = schema.get(key)
    return value if isinstance(value, int) and value >= 0 else usual


def _bound(schema: Schema, key: str, usual: float) -> float:
    value = schema.get(key)
    return value if isinstance(value, int | float) and math.isfinite(value) else usual


def _listed(schema: Schema, key: str) -> list[Any]:
    value = schema.get(key)
    return value if isinstance(value, list) else []


def _mapped(schema: Schema, key: str) -> Mapping[str, Any]:
    value = schema.get(key)
    return value if isinstance(value, Mapping) else {}


def _merged(one: Schema, other: Schema) -> Schema:
    """What both say, for allOf: properties and required names of both."""
    both: dict[str, Any] = {**other, **one}
    if "properties" in one and "properties" in other:
        both["properties"] = {**_mapped(other, "properties"), **_mapped(one, "properties")}
    if "required" in one and "required" in other:
        both["required"] = [*_listed(other, "required"), *_listed(one, "required")]
    return both


def _without(schema: Schema, key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}
