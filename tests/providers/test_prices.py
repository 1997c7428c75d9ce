from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.money import MICRO
from providers.call import Usage
from providers.prices import Prices

price = st.none() | st.integers(0, 10**9)
KINDS = ("input", "output", "cached_input", "cache_write", "reasoning", "unit", "call")
prices = st.builds(Prices, **dict.fromkeys(KINDS, price))
tokens = st.integers(0, 10**9)
COUNTS = (
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "units",
)
hostile = st.builds(Usage, **dict.fromkeys(COUNTS, st.integers(-(10**12), 10**12)))


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    plain, cached, written, made, reasoned = (draw(tokens) for _ in range(5))
    return Usage(
        input_tokens=plain + cached + written,
        output_tokens=made + reasoned,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoned,
        units=draw(tokens),
    )


def plus(one: Usage, other: Usage) -> Usage:
    return Usage(**{name: getattr(one, name) + getattr(other, name) for name in COUNTS})


@given(prices, usages())
def test_a_cost_is_the_exact_sum_rounded_up_once(prices: Prices, usage: Usage) -> None:
    def of(own: int | None, whole: int | None) -> int:
        return own if own is not None else whole or 0

    parts = (
        (
            usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
            of(None, prices.input),
        ),
        (usage.cached_tokens, of(prices.cached_input, prices.input)),
        (usage.cache_write_tokens, of(prices.cache_write, prices.input)),
        (usage.output_tokens - usage.reasoning_tokens, of(None, prices.output)),
        (usage.reasoning_tokens, of(prices.reasoning, prices.output)),
        (usage.units, of(None, prices.unit)),
        (MICRO, of(None, prices.call)),
    )
    exact = sum(Fraction(count) * price for count, price in parts) / MICRO
    cost = prices.cost(usage)
    assert isinstance(cost, int)
    assert exact <= cost < exact + 1


@given(prices, usages(), usages())
def test_more_use_never_costs_less(prices: Prices, usage: Usage, more: Usage) -> None:
    assert prices.cost(plus(usage, more)) >= prices.cost(usage)


@given(prices, usages(), usages())
def test_the_parts_cost_what_the_whole_costs(prices: Prices, usage: Usage, more: Usage) -> None:
    """Up to what is rounded up a second time, and to the price per call."""
    parts = prices.cost(usage) + prices.cost(more) - (prices.call or 0)
    assert parts - 1 <= prices.cost(plus(usage, more)) <= parts


@given(prices, usages(), usages())
def test_no_usage_costs_more_than_the_worst_of_as_many_tokens(
    prices: Prices, usage: Usage, other: Usage
) -> None:
    """However the tokens turn out to be divided, and if fewer come."""
    bound = Usage(
        input_tokens=max(usage.input_tokens, other.input_tokens),
        output_tokens=max(usage.output_tokens, other.output_tokens),
        units=max(usage.units, other.units),
    )
    assert prices.cost(usage) <= prices.worst(bound)


@given(prices, hostile)
def test_no_lie_about_the_parts_passes_the_worst(prices: Prices, usage: Usage) -> None:
    assert prices.cost(usage) <= prices.worst(usage)


@given(hostile)
def test_no_lie_about_the_parts_is_cheaper_than_all_of_it_cached(usage: Usage) -> None:
    plain = Prices(4, 9, cached_input=1, cache_write=5, reasoning=9)
    true = Usage(
        input_tokens=max(0, usage.input_tokens),
        output_tokens=max(0, usage.output_tokens),
        cached_tokens=max(0, usage.input_tokens),
    )
    assert plain.cost(usage) >= plain.cost(true)


@given(prices, hostile)
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


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(input_tokens=1000, cache_write_tokens=1000), 1563),
        (Usage(input_tokens=1000, cached_tokens=400, cache_write_tokens=500), 957),
        (Usage(output_tokens=10, reasoning_tokens=10), 200),
        (Usage(output_tokens=10, reasoning_tokens=99), 200),
        (Usage(input_tokens=10, cached_tokens=10, cache_write_tokens=10), 16),
    ],
)
def test_examples_with_all_kinds(usage: Usage, cost: int) -> None:
    known = Prices(1_250_000, 10_000_000, 125_000, 1_562_500, reasoning=20_000_000)
    assert known.cost(usage) == cost


def test_units_and_calls() -> None:
    assert Prices(unit=1_500_000).cost(Usage(units=3)) == 5
    assert Prices(call=700).cost(Usage()) == 700
    assert Prices(unit=1, call=700).cost(Usage(units=1)) == 701


@pytest.mark.parametrize(
    ("known", "usage", "covered"),
    [
        (Prices(), Usage(), False),
        (Prices(1), Usage(input_tokens=1), True),
        (Prices(1), Usage(output_tokens=1), False),
        (Prices(1, 0), Usage(input_tokens=1, output_tokens=1, units=1), True),
        (Prices(unit=0), Usage(units=1), True),
        (Prices(unit=0), Usage(input_tokens=1), False),
        (Prices(call=1), Usage(units=1), True),
    ],
)
def test_a_price_covers_what_it_has_a_price_for(known: Prices, usage: Usage, covered: bool) -> None:
    assert known.covers(usage) is covered


def test_unknown_is_not_free() -> None:
    assert not Prices().known and not Prices(output=5).known
    assert Prices(0, 0).known and Prices(0, 0).cost(Usage(input_tokens=9)) == 0
    assert Prices().cost(Usage(input_tokens=9, output_tokens=9)) == 0


def test_cached_tokens_cost_as_input_where_they_have_no_price() -> None:
    usage = Usage(input_tokens=100, cached_tokens=60)
    assert Prices(input=3_000_000).cost(usage) == 300
    assert Prices(input=3_000_000, cached_input=0).cost(usage) == 120
