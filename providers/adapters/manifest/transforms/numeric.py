"""Numbers: exact ones become decimal text, measured ones JSON numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from providers.adapters.manifest.transforms.base import (
    ArgumentError,
    Step,
    TransformError,
    kind_of,
    text_argument,
    whole_argument,
)

_NUMERIC = re.compile(
    r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?", re.ASCII
)
MOST_EXACT: Final = 2**53 - 1
"""The largest whole number that every reader of JSON has exactly (RFC 8259 §6)."""

_MAX_DIGITS = 30
_DECIMALS = 4


def exact(value: Any) -> Decimal:
    """A number, or the text of one, without a step through binary floats."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TransformError(f"number expected, {kind_of(value)} found")
    text = value.strip() if isinstance(value, str) else repr(value)
    if not _NUMERIC.fullmatch(text):
        raise TransformError("text that is no number")
    number = Decimal(text)
    if max(number.adjusted() + 1, -int(number.as_tuple().exponent)) > _MAX_DIGITS:
        raise TransformError("number out of range")
    return number


def decimal(value: Any) -> str:
    """1.5e-7 → "0.00000015", "112.6300" → "112.6300"."""
    text = format(exact(value), "f")
    return text.removeprefix("-") if set(text) <= set("-0.") else text


def percent(value: Any) -> str:
    """ "-0.5852%" → "-0.5852": per cent, not a fraction."""
    return decimal(value.strip().removesuffix("%") if isinstance(value, str) else value)


def number(value: Any) -> int | float:
    """A JSON number: a whole one where the text is whole."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise TransformError("number out of range")
        return value
    found = exact(value)
    is_whole = found == found.to_integral_value() and "." not in value and abs(found) <= MOST_EXACT
    return int(found) if is_whole else float(found)


def whole(value: Any) -> int:
    found = exact(value)
    if found != found.to_integral_value():
        raise TransformError("whole number expected")
    if abs(found) > MOST_EXACT:
        raise TransformError("number out of range")
    return int(found)


UNITS: Final[dict[str, Callable[[float], float]]] = {
    "f_to_c": lambda x: (x - 32) / 1.8,
    "k_to_c": lambda x: x - 273.15,
    "mph_to_mps": lambda x: x * 0.44704,
    "kph_to_mps": lambda x: x / 3.6,
    "knots_to_mps": lambda x: x * 1852 / 3600,
    "in_to_mm": lambda x: x * 25.4,
    "inhg_to_hpa": lambda x: x * 33.8638866667,
    "fraction_to_pct": lambda x: x * 100,
}


def unit(argument: Any) -> Step:
    """A conversion by name, rounded to four decimals."""
    name = text_argument(argument)
    if name not in UNITS:
        raise ArgumentError(f"takes one of {', '.join(sorted(UNITS))}")
    convert = UNITS[name]
    return lambda value, _params: round(convert(float(number(value))), _DECIMALS)


def scale(argument: Any) -> Step:
    """Multiplies, rounded to ten decimals."""
    if isinstance(argument, bool) or not isinstance(argument, (int, float)) or not argument:
        raise ArgumentError("takes a number that is not 0")
    return lambda value, _params: round(float(number(value)) * argument, 10)


def rounded(argument: Any) -> Step:
    """To so many decimals."""
    places = whole_argument(argument)
    if not 0 <= places <= 12:
        raise ArgumentError("takes a number of decimals from 0 to 12")
    return lambda value, _params: round(number(value), places)
