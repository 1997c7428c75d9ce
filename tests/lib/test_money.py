from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.money import (
    MICRO,
    marked_up,
    per_million_rounded_up,
    to_hundredths,
    to_micro,
    to_percent,
    to_usd,
)

BIGINT = 2**63 - 1


@given(st.integers(-BIGINT, BIGINT))
def test_micro_to_text_and_back_is_exact(micro: int) -> None:
    text = to_usd(micro)
    assert to_micro(text) == micro
    assert Fraction(text) == Fraction(micro, MICRO)


@given(st.integers(-BIGINT, BIGINT))
def test_text_is_as_short_as_it_can_be(micro: int) -> None:
    text = to_usd(micro)
    assert not ("." in text and text.endswith(("0", ".")))
    assert "e" not in text.lower()


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_decimal_is_taken_exactly_or_refused(value: Decimal) -> None:
    exact = Fraction(value) * MICRO if abs(value.adjusted()) < 400 else None
    try:
        micro = to_micro(value)
    except ValueError:
        assert exact is None or exact.denominator != 1 or abs(exact) > BIGINT
    else:
        assert exact is None or micro == exact


@given(st.integers(-(10**12), 10**12), st.integers(7, 60), st.integers(1, 9))
def test_more_than_six_decimals_are_refused_however_many(
    whole: int, places: int, digit: int
) -> None:
    with pytest.raises(ValueError, match="decimals"):
        to_micro(f"{whole}.{'0' * (places - 1)}{digit}")


@pytest.mark.parametrize(
    "text",
    ["", " ", "x", "1,5", "0x10", "1.2.3", "$1", "nan", "-nan", "snan", "inf", "-inf", "None"],
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="decimal"):
        to_micro(text)


@pytest.mark.parametrize(
    "text",
    [
        "1e400000",
        "1e999999",
        "1e99999999999999999999",
        "-1e999999",
        "1e-999999",
        "123456789012345678901234567890.123456",
        "1.0000000000000000000000000000000000001",
    ],
)
def test_huge_and_tiny_numbers_are_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="decimal"):
        to_micro(text)


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        ("1.25", 1_250_000),
        ("0.000001", 1),
        ("-0.5", -500_000),
        ("1.0000000000000000000000000000000000000000", 1_000_000),
        ("1e3", 1_000_000_000),
        ("0", 0),
        (3, 3_000_000),
        (Decimal("0.10"), 100_000),
    ],
)
def test_examples(text: str, micro: int) -> None:
    assert to_micro(text) == micro


@given(st.integers(0, 10**30))
def test_rounding_up_is_the_least_whole_number_not_below(amount: int) -> None:
    micro = per_million_rounded_up(amount)
    assert (micro - 1) * MICRO < amount <= micro * MICRO


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=30))
def test_many_small_calls_never_cost_less_than_one_big_one(amounts: list[int]) -> None:
    apart = sum(per_million_rounded_up(amount) for amount in amounts)
    assert apart >= per_million_rounded_up(sum(amounts))
    assert all(per_million_rounded_up(amount) >= 1 for amount in amounts)


@given(st.integers(0, 10**15), st.integers(-10_000, 10**6))
def test_a_markup_is_exact_and_rounded_up_once(micro: int, markup: int) -> None:
    exact = Fraction(micro) * (10_000 + markup) / 10_000
    assert exact <= marked_up(micro, markup) < exact + 1
    assert marked_up(micro, 0) == micro
    assert marked_up(micro, -10_000) == 0


@given(st.integers(0, 10**12), st.integers(0, 10**6), st.integers(-10_000, 10**6))
def test_who_uses_more_never_pays_less(micro: int, more: int, markup: int) -> None:
    assert marked_up(micro, markup) <= marked_up(micro + more, markup)
    assert marked_up(micro, markup) <= marked_up(micro, markup + more)


@given(st.integers(-10_000, 10**9))
def test_per_cent_and_back_is_exact(hundredths: int) -> None:
    text = to_percent(hundredths)
    assert to_hundredths(text) == hundredths
    assert Fraction(text) == Fraction(hundredths, 100)


@pytest.mark.parametrize("text", ["", "x", "1.005", "nan", "inf", "1e30", "0.001"])
def test_no_percentage(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|more than"):
        to_hundredths(text)
