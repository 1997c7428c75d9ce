"""JMESPath, guarded: an expression looks at a hostile document and finds something or nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import jmespath
from jmespath import ast
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from providers.adapters.manifest.growth import MAX_GROWTH, growth

_MAX_LENGTH = 500
_NAMES: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


class ExpressionError(ValueError):
    """The text is no JMESPath."""


@dataclass(frozen=True, slots=True)
class Expression:
    """One compiled JMESPath."""

    source: str
    compiled: ParsedResult

    @classmethod
    def parse(cls, source: str) -> Expression:
        """Raises ExpressionError."""
        if len(source) > _MAX_LENGTH:
            raise ExpressionError(f"longer than {_MAX_LENGTH} characters")
        return cls(source, _compiled(source))

    def search(self, document: Any) -> Any:
        """What is there, or None; a function that meets the wrong type finds nothing."""
        try:
            return self.compiled.search(document)
        except (JMESPathError, TypeError, ValueError, AttributeError, RecursionError):
            return None

    def holds(self, document: Any) -> bool:
        """As a predicate, by JMESPath's truth: 0 is true; null, false and all that is empty not.

        Nothing holds of a body that was no JSON.
        """
        if document is None:
            return False
        found = self.search(document)
        is_number = isinstance(found, (int, float)) and not isinstance(found, bool)
        return is_number or bool(found)


@lru_cache(maxsize=4096)
def _compiled(source: str) -> ParsedResult:
    """Once for all manifests, which say many of them alike. Raises ExpressionError."""
    if _NAMES.fullmatch(source):
        return ParsedResult(source, _path(source.split(".")))
    try:
        compiled = jmespath.compile(source)
        grown = growth(compiled.parsed)
    except (JMESPathError, RecursionError, ValueError) as error:
        raise ExpressionError(f"no JMESPath: {str(error).splitlines()[0]}") from None
    if grown > MAX_GROWTH:
        raise ExpressionError(f"makes more than {MAX_GROWTH} copies of what it reads")
    return compiled


def _path(names: Sequence[str]) -> Any:
    """What the parser makes of `a.b.c`: two of three expressions are no more than that, and to
    parse them takes a third of a gateway's start."""
    fields = [ast.field(name) for name in names]
    return ast.subexpression(fields) if len(fields) > 1 else fields[0]
