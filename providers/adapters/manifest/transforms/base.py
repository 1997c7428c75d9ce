"""What a transform is: a pure step from one JSON value to another.

A factory takes the argument written in the manifest and makes the step, so that a wrong
argument is found when the manifest is compiled and not when a call runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Params = Mapping[str, Any]
Step = Callable[[Any, Params], Any]
"""Takes a value (never None) and the call's parameters. Raises TransformError."""


class TransformError(ValueError):
    """The value is not what the transform works on: the provider's answer is not as told."""


class ArgumentError(ValueError):
    """A transform's argument in the manifest is not one it takes."""


def plain(function: Callable[[Any], Any]) -> Callable[[Any], Step]:
    """A factory for a transform that takes no argument."""

    def factory(argument: Any) -> Step:
        if argument is not None:
            raise ArgumentError("takes no argument")
        return lambda value, _params: function(value)

    return factory


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    kinds = {dict: "an object", list: "a list", str: "a text", type(None): "nothing"}
    return kinds.get(type(value), "a number" if type(value) in (int, float) else "true or false")


def text_of(value: Any) -> str:
    """Raises TransformError for what is no text."""
    if not isinstance(value, str):
        raise TransformError(f"text expected, {kind_of(value)} found")
    return value


def object_of(value: Any) -> dict[str, Any]:
    """Raises TransformError for what is no object."""
    if not isinstance(value, dict):
        raise TransformError(f"object expected, {kind_of(value)} found")
    return value


def list_of(value: Any) -> list[Any]:
    """Raises TransformError for what is no list."""
    if not isinstance(value, list):
        raise TransformError(f"list expected, {kind_of(value)} found")
    return value


def text_argument(argument: Any) -> str:
    if not isinstance(argument, str) or not argument:
        raise ArgumentError("takes a text")
    return argument


def texts_argument(argument: Any) -> tuple[str, ...]:
    items = argument if isinstance(argument, list) else [argument]
    if not items or not all(isinstance(item, str) and item for item in items):
        raise ArgumentError("takes a text or a list of texts")
    return tuple(items)


def whole_argument(argument: Any) -> int:
    if not isinstance(argument, int) or isinstance(argument, bool):
        raise ArgumentError("takes a whole number")
    return argument
