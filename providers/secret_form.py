"""What a provider's secret is made of: one text, or several named parts.

Parts are kept as one sealed text, a JSON object, so that whatever is true of a secret is true
of all its parts: it is sealed, written only, drained and replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import orjson


class SecretForm(NamedTuple):
    """`parts` must be there and `optional` ones may be; `whole`: one text does as well."""

    parts: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    whole: bool = True

    def fault(self, secret: str) -> str:
        """What is wrong with a secret and what to write instead; "" where nothing is."""
        if not self.parts:
            return ""
        given = parts_of(secret)
        if not given and self.whole:
            return ""
        known = {*self.parts, *self.optional}
        if set(self.parts) <= given.keys() <= known:
            return ""
        wanted = ", ".join(f'"{part}": "…"' for part in self.parts)
        return f"The secret has several parts. Write a JSON object of texts: {{{wanted}}}."

    def of_the_sandbox(self, secret: str) -> str:
        """A secret of this form, made up: all parts are `secret`."""
        return written(dict.fromkeys(self.parts, secret)) if self.parts else secret


ONE_TEXT = SecretForm()


def parts_of(secret: str) -> Mapping[str, str]:
    """The parts of a secret; none where it is one text."""
    if not secret.startswith("{"):
        return {}
    try:
        parts = orjson.loads(secret)
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(parts, dict) or not all(_is_part(part) for part in parts.values()):
        return {}
    return parts


def _is_part(value: object) -> bool:
    return isinstance(value, str) and bool(value) and value.isascii() and value.isprintable()


def written(parts: Mapping[str, str]) -> str:
    """The parts as one text, the same for the same parts."""
    return orjson.dumps(dict(parts), option=orjson.OPT_SORT_KEYS).decode()
