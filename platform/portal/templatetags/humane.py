"""Figures as people read them, in the tenant's locale."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal

from django import template

from api.docs import with_code
from portal.numbers import number as written

register = template.Library()
NONE = "–"
MOST_WORDS = 3
register.filter("with_code", with_code)


@register.filter
def count(number: int) -> str:
    return written(number, 0)


@register.filter
def share(ratio: float | None) -> str:
    return NONE if ratio is None else f"{written(round(ratio * 100, 1), 1)}\N{NO-BREAK SPACE}%"


@register.filter
def ms(milliseconds: int | None) -> str:
    return NONE if milliseconds is None else f"{count(milliseconds)}\N{NO-BREAK SPACE}ms"


@register.filter
def money(microusd: int | None) -> str:
    """Cents; where there are none, as many decimals as it takes to show something."""
    if microusd is None:
        return NONE
    amount = Decimal(microusd) / 1_000_000
    places = 2 if not amount or abs(amount) >= Decimal("0.01") else 6
    return f"${written(round(amount, places), places)}"


@register.filter
def of_operations(patterns: Sequence[str]) -> str:
    """What a limit counts: `!` begins what it leaves out."""
    named = [pattern for pattern in patterns if not pattern.startswith("!")]
    left_out = [pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")]
    told = f", of {', '.join(named)}" if named else ""
    return f"{told}, of all but {', '.join(left_out)}" if left_out else told


@register.filter
def some(words: Collection[str]) -> str:
    """For a cell of a table: the first few, and how many there are besides."""
    first, more = list(words)[:MOST_WORDS], len(words) - MOST_WORDS
    return " ".join(first) + (f" and {more} more" if more > 0 else "")


@register.filter
def words(name: str) -> str:
    return name.replace("_", " ")


@register.filter
def plain(number: float) -> str:
    """For SVG, whatever the locale."""
    return str(number)


@register.filter
def of(mapping: dict[str, str], name: str) -> str:
    return mapping.get(name, "")
