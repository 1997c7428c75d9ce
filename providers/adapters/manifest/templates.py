"""`{param}` and `{param|default}` in paths, queries, bodies and keys: nothing more, and reversible.

Besides the call's own parameters there are dotted ones, which a manifest's operation makes itself:
`steps.<step>.<value>` from an earlier answer, `each` of a fan-out, `page.<…>` of a list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any
from urllib.parse import unquote

_NAME = r"steps\.[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*|page\.[a-z]+|[a-z][a-z0-9_]*"
_HOLE = re.compile(rf"\{{({_NAME})(?:\|([^{{}}|]*))?\}}")


class TemplateError(ValueError):
    """The text is no template."""


@dataclass(frozen=True)
class Hole:
    """Where a parameter goes. Without a default the parameter must be there."""

    param: str
    default: str | None = None


@dataclass(frozen=True)
class Template:
    """Literal texts and holes, in turn."""

    parts: tuple[str | Hole, ...]

    @classmethod
    def parse(cls, source: str) -> Template:
        """Raises TemplateError for a brace that is no hole."""
        parts: list[str | Hole] = []
        end = 0
        for match in _HOLE.finditer(source):
            parts += [source[end : match.start()], Hole(match[1], match[2])]
            end = match.end()
        parts.append(source[end:])
        if any("{" in part or "}" in part for part in parts if isinstance(part, str)):
            raise TemplateError("a brace that is no {param} or {param|default}")
        return cls(tuple(part for part in parts if part != ""))

    @property
    def params(self) -> frozenset[str]:
        return frozenset(part.param for part in self.parts if isinstance(part, Hole))

    @property
    def required(self) -> frozenset[str]:
        """The parameters without which nothing can be rendered."""
        holes = (part for part in self.parts if isinstance(part, Hole))
        return frozenset(hole.param for hole in holes if hole.default is None)

    def render(
        self, params: Mapping[str, Any], encode: Callable[[str], str] = lambda text: text
    ) -> str | None:
        """The text with every parameter encoded, or None where a needed one is absent."""
        pieces = []
        for part in self.parts:
            piece = part if isinstance(part, str) else _filled(part, params, encode)
            if piece is None:
                return None
            pieces.append(piece)
        return "".join(pieces)

    def recover(self, text: str) -> dict[str, str] | None:
        """The parameters that render to `text` (percent-decoded), or None where none do.

        A hole that holds its default is taken for a parameter that was not given.
        """
        match = self._pattern.fullmatch(text)
        if not match:
            return None
        defaults = {part.param: part.default for part in self.parts if isinstance(part, Hole)}
        found = {
            name: unquote(value) for name, value in zip(self._names, match.groups(), strict=True)
        }
        return {name: value for name, value in found.items() if value != defaults[name]}

    @property
    def alone(self) -> Hole | None:
        """The hole, where there is nothing but one."""
        part = self.parts[0] if len(self.parts) == 1 else None
        return part if isinstance(part, Hole) else None

    @cached_property
    def _names(self) -> list[str]:
        """The parameters in the order of their first holes."""
        return list(dict.fromkeys(part.param for part in self.parts if isinstance(part, Hole)))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        seen: set[str] = set()
        pieces = []
        for part in self.parts:
            if isinstance(part, str):
                pieces.append(re.escape(part))
            elif part.param in seen:
                pieces.append(f"(?:\\{self._names.index(part.param) + 1})")
            else:
                pieces.append("(.*?)")
                seen.add(part.param)
        return re.compile("".join(pieces), re.DOTALL)


def _filled(hole: Hole, params: Mapping[str, Any], encode: Callable[[str], str]) -> str | None:
    value = params.get(hole.param)
    if value is None:
        return hole.default if hole.default is None else encode(hole.default)
    return encode(as_text(value))


def as_text(value: Any) -> str:
    """A parameter as it is written in a URL: numbers plain, never 1e-07 or 18.0."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = format(Decimal(repr(value)).normalize(), "f")
        return "0" if text == "-0" else text
    return str(value)
