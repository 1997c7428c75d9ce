"""From a provider's document to canonical records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from providers.adapters.manifest.expression import Expression
from providers.adapters.manifest.transforms import Params, Step, TransformError

EXTRA: Final = "extra"


class MappingError(ValueError):
    """The document is not of the shape that the manifest tells. Names the place, no values."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where one value comes from, and what is done to it.

    The first of `path`, `param`, `value` and `any_of` that was written counts.
    """

    path: Expression | None = None
    whole_document: bool = False
    param: str = ""
    value: Any = None
    any_of: tuple[Source, ...] = ()
    step: Step | None = None

    def read(self, record: Any, document: Any, params: Params) -> Any:
        """The value, or None. Raises TransformError."""
        value = self._raw(record, document, params)
        return self.step(value, params) if self.step and value is not None else value

    def _raw(self, record: Any, document: Any, params: Params) -> Any:
        if self.path:
            return self.path.search(document if self.whole_document else record)
        if self.param:
            return params.get(self.param)
        for source in self.any_of:
            if (value := source.read(record, document, params)) is not None:
                return value
        return self.value


@dataclass(frozen=True, slots=True)
class Field:
    """One canonical field: its path in the item and its source."""

    path: tuple[str, ...]
    source: Source

    @property
    def is_extra(self) -> bool:
        return self.path[0] == EXTRA

    @property
    def name(self) -> str:
        return ".".join(self.path)


def canonical(
    fields: Iterable[Field], record: Any, document: Any, params: Params
) -> dict[str, Any]:
    """One item; what has no value is left out. Raises MappingError."""
    item: dict[str, Any] = {}
    for field in fields:
        try:
            value = field.source.read(record, document, params)
        except TransformError as error:
            raise MappingError(f"{field.name}: {error}") from None
        if value is not None:
            _put(item, field.path, value)
    return item


def extras(fields: Iterable[Field], record: Any, document: Any, params: Params) -> dict[str, Any]:
    """What only this provider tells: flat values only, and what is not as told is left out."""
    found: dict[str, Any] = {}
    for field in fields:
        try:
            value = field.source.read(record, document, params)
        except TransformError:
            continue
        if _is_flat(value) or (isinstance(value, list) and all(map(_is_flat, value))):
            found[field.path[-1]] = value
    return found


def _is_flat(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def _put(item: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    *parents, last = path
    for parent in parents:
        item = item.setdefault(parent, {})
    item[last] = value
