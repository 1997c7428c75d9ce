"""The closed list of named transforms, and how a manifest's steps become one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from providers.adapters.manifest.templates import Template
from providers.adapters.manifest.transforms import numeric, shapes, texts, times
from providers.adapters.manifest.transforms.base import (
    ArgumentError,
    Params,
    Step,
    TransformError,
    list_of,
    plain,
)

__all__ = [
    "NAMES",
    "ArgumentError",
    "Params",
    "Step",
    "Tables",
    "TransformError",
    "compile_steps",
    "params_of",
]

Tables = Mapping[str, Mapping[str, Any]]

_FACTORIES: Final[Mapping[str, Callable[[Any], Step]]] = {
    "decimal": plain(numeric.decimal),
    "percent": plain(numeric.percent),
    "number": plain(numeric.number),
    "int": plain(numeric.whole),
    "unit": numeric.unit,
    "scale": numeric.scale,
    "round": numeric.rounded,
    "epoch_s": plain(times.epoch_s),
    "epoch_ms": plain(times.epoch_ms),
    "iso": plain(times.iso),
    "day": plain(times.day),
    "format": times.pattern,
    "format_day": times.day_pattern,
    "write_day": times.written_day,
    "text": plain(texts.text),
    "trim": plain(texts.trim),
    "strip_html": plain(texts.strip_html),
    "upper": plain(texts.upper),
    "lower": plain(texts.lower),
    "sentence": plain(texts.sentence),
    "split": texts.split,
    "before": texts.before,
    "between": texts.between,
    "prefix": texts.prefix,
    "join": texts.join,
    "slice": texts.part,
    "entries": plain(shapes.entries),
    "index": shapes.index,
    "pick_by": shapes.pick_by,
    "zip": plain(shapes.zipped),
    "first": plain(shapes.first),
    "collect_numbered": shapes.collect_numbered,
    "at_key": shapes.at_key,
    "null_if": shapes.null_if,
    "equals": shapes.equals,
}

NAMES: Final = frozenset(_FACTORIES) | {"lookup", "each"}


def compile_steps(source: Any, tables: Tables) -> Step:
    """One function for a step or a list of them, written `name` or `{name: argument}`.

    None goes through every step unchanged. Raises ArgumentError.
    """
    written = source if isinstance(source, list) else [source]
    steps = [_compile(step, tables) for step in written]

    def run(value: Any, params: Params) -> Any:
        for step in steps:
            if value is None:
                return None
            value = step(value, params)
        return value

    return run


def params_of(source: Any) -> frozenset[str]:
    """The call's parameters that the steps make keys from."""
    written = source if isinstance(source, list) else [source]
    pairs = [pair for step in written if isinstance(step, dict) for pair in step.items()]
    found = [params_of(argument) for name, argument in pairs if name == "each"]
    keys = [argument for name, argument in pairs if name == "at_key"]
    return frozenset().union(*found, *(Template.parse(key).params for key in keys))


def _compile(written: Any, tables: Tables) -> Step:
    if isinstance(written, dict) and len(written) == 1:
        name, argument = next(iter(written.items()))
    else:
        name, argument = written, None
    if name == "lookup":
        return _lookup(argument, tables)
    if name == "each":
        return _each(argument, tables)
    if not isinstance(name, str) or name not in _FACTORIES:
        raise ArgumentError(f"there is no transform {name!r}")
    try:
        return _FACTORIES[name](argument)
    except ArgumentError as error:
        raise ArgumentError(f"`{name}` {error}") from None


def _lookup(argument: Any, tables: Tables) -> Step:
    """What the manifest's table of that name holds for the value; None for an unknown one."""
    if not isinstance(argument, str) or argument not in tables:
        raise ArgumentError("`lookup` takes the name of one of the manifest's tables")
    table = {str(key): value for key, value in tables[argument].items()}

    def step(value: Any, _params: Params) -> Any:
        found = table.get(shapes.table_key(value) or "")
        return dict(found) if isinstance(found, dict) else found

    return step


def _each(argument: Any, tables: Tables) -> Step:
    """The steps on every item of a list; items that become None are left out."""
    inner = compile_steps(argument, tables)

    def step(value: Any, params: Params) -> list[Any]:
        done = (inner(item, params) for item in list_of(value))
        return [item for item in done if item is not None]

    return step
