from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.money import MICRO
from providers.call import Usage
from providers.prices import Prices

price = st.none() | st.integers(0, 10**9)
prices = st.builds(Prices, input=price, output=price, cached_input=price)
tokens = st.integers(0, 10**9)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    read = draw(tokens)
    return Usage(
        input_tokens=read, output_tokens=draw(tokens), cached_tokens=draw(st.integers(0, read))
    )


@given(prices, usages())
def test_a_cost_is_the_exact_sum_rounded_up_once(prices: Prices, usage: Usage) -> None:
    cached = prices.cached_input if prices.cached_input is not None else prices.input or 0
    exact = (
        Fraction(usage.input_tokens - usage.cached_tokens) * (prices.input or 0)
        + Fraction(usage.cached_tokens) * cached
        + Fraction(usage.output_tokens) * (prices.output or 0)
    ) / MICRO
    cost = prices.cost(usage)
    assert isinstance(cost, int)
    assert exact <= cost < exact + 1


@given(prices, usages(), usages())
def test_more_use_never_costs_less(prices: Prices, usage: Usage, more: Usage) -> None:
    both = Usage(
        input_tokens=usage.input_tokens + more.input_tokens,
        output_tokens=usage.output_tokens + more.output_tokens,
        cached_tokens=usage.cached_tokens + more.cached_tokens,
    )
    assert prices.cost(both) >= prices.cost(usage)


@given(
    prices,
    st.builds(Usage, *[st.integers(-(10**12), 10**12)] * 3),
)
def test_whatever_a_provider_tells_nobody_is_paid_for_calling(prices: Prices, usage: Usage) -> None:
    assert prices.cost(usage) >= 0


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_cached_tokens_beyond_the_input_lower_no_bill(read: int, cached: int, output: int) -> None:
    plain = Prices(input=2_000_000, output=8_000_000, cached_input=500_000)
    usage = Usage(input_tokens=read, output_tokens=output, cached_tokens=cached)
    least = plain.cost(Usage(input_tokens=read, output_tokens=output, cached_tokens=read))
    assert plain.cost(usage) >= least


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(), 0),
        (Usage(input_tokens=1), 2),
        (Usage(input_tokens=1_000_000), 1_250_000),
        (Usage(input_tokens=1000, cached_tokens=1000), 125),
        (Usage(input_tokens=1000, cached_tokens=400, output_tokens=10), 900),
        (Usage(output_tokens=7, reasoning_tokens=5), 70),
    ],
)
def test_examples(usage: Usage, cost: int) -> None:
    assert Prices(input=1_250_000, output=10_000_000, cached_input=125_000).cost(usage) == cost


def test_unknown_is_not_free() -> None:
    assert not Prices().known and not Prices(output=5).known
    assert Prices(0, 0).known and Prices(0, 0).cost(Usage(input_tokens=9)) == 0
    assert Prices().cost(Usage(input_tokens=9, output_tokens=9)) == 0


def test_cached_tokens_cost_as_input_where_they_have_no_price() -> None:
    usage = Usage(input_tokens=100, cached_tokens=60)
    assert Prices(input=3_000_000).cost(usage) == 300
    assert Prices(input=3_000_000, cached_input=0).cost(usage) == 120
