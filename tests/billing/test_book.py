"""Which price is in force when."""

from __future__ import annotations

import bisect
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import book
from billing.book import UNKNOWN, PriceBook, PriceVersion
from providers.call import Usage
from providers.prices import Prices
from tests.factories import PriceFactory, ProviderFactory

CHAT = "chat.completions"
MOMENT = dt.datetime(2027, 3, 1, 12, 0, 0, 123_457, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)


@given(
    st.lists(st.integers(0, 50), unique=True, max_size=12),
    st.integers(-5, 55),
    st.randoms(use_true_random=False),
)
def test_the_newest_that_has_begun_is_in_force(moments: list[int], at: int, pick: object) -> None:
    shuffled = [
        (("lab", "m", ""), PriceVersion(moment + 1, Prices(moment), float(moment)))
        for moment in moments
    ]
    pick.shuffle(shuffled)  # type: ignore[attr-defined]
    begun = sorted(moments)[: bisect.bisect_right(sorted(moments), at)]
    found = PriceBook(shuffled).price("lab", "m", CHAT, float(at))
    assert found.id == (begun[-1] + 1 if begun else None)


@pytest.mark.django_db
def test_a_version_takes_over_exactly_at_its_moment() -> None:
    lab = ProviderFactory(slug="lab")
    old = PriceFactory(provider=lab, model_id="m", effective_from=MOMENT - dt.timedelta(days=1))
    new = PriceFactory(provider=lab, model_id="m", effective_from=MOMENT, input=5)
    prices = book.load()
    for moment, price in (
        (MOMENT - MICROSECOND, old),
        (MOMENT, new),
        (MOMENT + MICROSECOND, new),
    ):
        found = prices.price("lab", "m", CHAT, moment.timestamp())
        assert (found.id, found.prices) == (price.pk, price.prices)
    before = old.effective_from - MICROSECOND
    assert prices.price("lab", "m", CHAT, before.timestamp()) is UNKNOWN


@given(st.integers(1_600_000_000, 4_000_000_000), st.integers(1, 999_998))
def test_microseconds_are_told_apart(seconds: int, microsecond: int) -> None:
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC).replace(microsecond=microsecond)
    versions = [
        (("lab", "m", ""), PriceVersion(number, Prices(0), moment.timestamp()))
        for number, moment in ((1, moment - MICROSECOND), (2, moment), (3, moment + MICROSECOND))
    ]
    assert PriceBook(versions).price("lab", "m", CHAT, moment.timestamp()).id == 2


VERSIONS = {
    ("lab", "m", CHAT): 1,
    ("lab", "m", ""): 2,
    ("lab", "*", CHAT): 3,
    ("lab", "*", ""): 4,
    ("lab", "", ""): 5,
    ("other", "m", ""): 6,
}


@pytest.mark.parametrize(
    ("there", "asked", "expected"),
    [
        ({1, 2, 3, 4, 5}, ("lab", "m", CHAT), 1),
        ({1, 2, 3, 4, 5}, ("lab", "m", "embeddings"), 2),
        ({2, 3, 4}, ("lab", "m", CHAT), 2),
        ({3, 4, 5, 6}, ("lab", "m", CHAT), 3),
        ({3, 4, 5, 6}, ("lab", "m", "embeddings"), 4),
        ({5, 6}, ("lab", "m", CHAT), None),
        ({3, 4, 5}, ("lab", "", "finance.quote"), 5),
        ({3, 4}, ("lab", "", CHAT), None),
        (set(), ("lab", "m", CHAT), None),
    ],
)
def test_the_nearest_price_counts(
    there: set[int], asked: tuple[str, str, str], expected: int | None
) -> None:
    prices = PriceBook(
        (of, PriceVersion(number, Prices(number)))
        for of, number in VERSIONS.items()
        if number in there
    )
    assert prices.price(*asked, 0.0).id == expected


def test_a_price_that_was_withdrawn_leaves_the_default_one() -> None:
    prices = PriceBook(
        [
            (("lab", "m", ""), PriceVersion(1, Prices(7), 10.0)),
            (("lab", "m", ""), PriceVersion(2, Prices(), 20.0)),
            (("lab", "*", ""), PriceVersion(3, Prices(9), 30.0)),
        ]
    )
    found = [prices.price("lab", "m", CHAT, at).id for at in (9.0, 10.0, 20.0, 30.0)]
    assert found == [None, 1, None, 3]


def test_the_worst_case_is_unknown_where_a_price_is() -> None:
    prices = PriceBook(
        [
            (
                ("lab", "m", ""),
                PriceVersion(1, Prices(2_000_000, 4_000_000, cache_write=5_000_000)),
            ),
            (("lab", "half", ""), PriceVersion(2, Prices(2_000_000))),
            (("free", "", ""), PriceVersion(3, Prices(unit=0))),
        ]
    )
    usage = Usage(input_tokens=10, output_tokens=5)
    assert prices.worst("lab", "m", CHAT, usage, 0.0) == 70
    assert prices.worst("lab", "half", CHAT, usage, 0.0) is None
    assert prices.worst("lab", "new", CHAT, usage, 0.0) is None
    assert prices.worst("free", "", "finance.quote", Usage(units=1), 0.0) == 0
    assert prices.worst("dear", "", "finance.quote", Usage(units=1), 0.0) is None
