"""Money as integers: micro-US-dollars (µUSD), never floats.

A price is kept in µUSD per million tokens, so "1.25 USD per million" is 1_250_000 and one
token costs 1.25 µUSD. A call's cost is rounded up once, to the whole µUSD, so that a priced
call is never free and a money quota can never be passed by many tiny calls.
"""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation

MICRO = 1_000_000
# More digits than any amount has. What would have to be rounded, or is larger, raises.
_EXACT = Context(prec=28, Emax=28, traps=[InvalidOperation, Inexact])


def to_micro(usd: str | int | Decimal) -> int:
    """USD as decimal text to µUSD. Raises ValueError for what is no exact number of µUSD."""
    try:
        micro = _EXACT.multiply(Decimal(str(usd)), MICRO)
    except InvalidOperation:
        raise ValueError(f"{usd!r} is not a decimal number") from None
    except Inexact:  # and so Overflow
        micro = Decimal("nan")
    if not micro.is_finite() or micro != micro.to_integral_value():
        raise ValueError(f"{usd!r} has more than six decimals, or is no amount of money")
    return int(micro)


def to_usd(micro: int) -> str:
    """µUSD as decimal text, exact: 1_250_000 → "1.25"."""
    sign, micro = ("-", -micro) if micro < 0 else ("", micro)
    whole, rest = divmod(micro, MICRO)
    return f"{sign}{whole}" + (f".{rest:06d}".rstrip("0") if rest else "")


def per_million_rounded_up(amount: int) -> int:
    """The sum of units × price-per-million, brought to whole µUSD, upward."""
    return -(-amount // MICRO)


WHOLE = 10_000  # hundredths of a per cent


def marked_up(micro: int, markup: int) -> int:
    """An amount with `markup` hundredths of a per cent on top, rounded up to the whole µUSD.

    A markup below zero is a discount; −10,000 makes everything free.
    """
    return -(-micro * (WHOLE + markup) // WHOLE)


def to_hundredths(percent: str | int | Decimal) -> int:
    """Per cent as decimal text to hundredths of a per cent: "12.5" → 1250. Raises ValueError."""
    try:
        hundredths = _EXACT.multiply(Decimal(str(percent)), 100)
    except (InvalidOperation, Inexact):
        raise ValueError(f"{percent!r} is not a decimal number") from None
    if not hundredths.is_finite() or hundredths != hundredths.to_integral_value():
        raise ValueError(f"{percent!r} has more than two decimals")
    return int(hundredths)


def to_percent(hundredths: int) -> str:
    """Hundredths of a per cent as decimal text, exact: 1250 → "12.5"."""
    return to_usd(hundredths * (MICRO // 100))
