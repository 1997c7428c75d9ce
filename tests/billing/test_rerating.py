"""An old bill comes out again to the digit; what was wrong is corrected beside it."""

from __future__ import annotations

import datetime as dt
import io
from dataclasses import asdict
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from billing import book, rerating
from billing.models import Correction, Price
from billing.rerating import Period, correct, reproduce
from lib.money import marked_up
from providers.call import Usage
from providers.prices import Prices
from tests.factories import (
    AttemptFactory,
    PriceFactory,
    ProviderFactory,
    TenantFactory,
    UsageRecordFactory,
)
from usage.models import UsageRecord

START = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
END = dt.datetime(2027, 2, 1, tzinfo=dt.UTC)
JANUARY = Period(START, END)
COUNTS = (
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "units",
)


ONLY_CALLS = dict.fromkeys(("input", "output", "cached_input", "reasoning", "unit"))


def bill(price: Price | None, *, markup: int = 0, **fields: Any) -> UsageRecord:
    """A row as the data path bills it."""
    row = UsageRecordFactory.build(
        **{"created_at": START, "markup": markup, "price_id": price and price.pk} | fields
    )
    cost = price.prices.cost(Usage(**{name: getattr(row, name) for name in COUNTS})) if price else 0
    row.cost, row.charge = cost, marked_up(cost, markup)
    row.save()
    return row


def reprice(*arguments: str) -> str:
    out = io.StringIO()
    call_command(
        "reprice", "--from", "2027-01-01", "--to", "2027-02-01", *arguments, stdout=out, stderr=out
    )
    return out.getvalue()


@pytest.fixture
def lab(db: None) -> Any:
    return ProviderFactory(slug="lab")


@pytest.fixture
def price(lab: Any) -> Price:
    long_ago = START - dt.timedelta(days=99)
    return PriceFactory(provider=lab, model_id="gpt-x", effective_from=long_ago)


class ALedger(TestCase):
    """Whatever was billed comes out again."""

    @given(
        prices=st.lists(
            st.builds(Prices, *[st.none() | st.integers(0, 10**8)] * 5), min_size=1, max_size=3
        ),
        rows=st.lists(
            st.tuples(
                st.integers(0, 2),
                st.integers(-10_000, 50_000),
                st.lists(st.integers(-(10**6), 10**6), min_size=6, max_size=6),
            ),
            max_size=12,
        ),
        page=st.integers(1, 5),
    )
    @settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
    def test_is_reproduced_to_the_digit(
        self, prices: list[Prices], rows: list[tuple[int, int, list[int]]], page: int
    ) -> None:
        provider = ProviderFactory()
        versions = [
            PriceFactory(
                provider=provider,
                model_id=f"m{number}",
                effective_from=START,
                **asdict(one),
            )
            for number, one in enumerate(prices)
        ]
        for number, markup, counts in rows:
            version = versions[number] if number < len(versions) else None
            bill(version, markup=markup, **dict(zip(COUNTS, counts, strict=True)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rerating, "PAGE", page)
            report = reproduce(JANUARY)
        charged = sum(UsageRecord.objects.values_list("charge", flat=True))
        assert (report.rows, report.charged, report.recomputed) == (len(rows), charged, charged)
        assert report.first == []


def test_a_dry_run_says_that_all_is_right(price: Price) -> None:
    for markup in (0, 1250):
        bill(price, markup=markup, input_tokens=1000, output_tokens=1)
    bill(price, created_at=END)
    bill(price, created_at=START - dt.timedelta(microseconds=1))
    bill(None, status=503)
    out = reprice("--dry-run")
    assert out.startswith("3 rows, charged 0.002678 USD, recomputed 0.002678 USD, difference 0 USD")


def test_a_dry_run_finds_what_differs(price: Price) -> None:
    rows = [bill(price) for _ in range(12)]
    wrong = [
        UsageRecordFactory(created_at=START, price_id=price.pk, charge=row.charge + delta)
        for row, delta in zip(rows, [1, -1] * 6, strict=True)
    ]
    with pytest.raises(CommandError) as told:
        reprice("--dry-run")
    assert "12 rows come out differently" in str(told.value)
    assert str(told.value).count("-") >= 40
    # Ten are named, in the ledger's order, which within a millisecond is chance.
    first_ten = sorted(row.request_id for row in wrong)[:10]
    assert all(name in str(told.value) for name in first_ten)
    assert not Correction.objects.exists()


def test_only_a_tenants_rows(price: Price) -> None:
    tenant = TenantFactory(slug="acme")
    bill(price, tenant_id=tenant.pk)
    bill(price, tenant_id=tenant.pk + 1)
    assert reprice("--dry-run", "--tenant", "acme").startswith("1 rows")
    with pytest.raises(CommandError, match="There is no tenant nobody"):
        reprice("--tenant", "nobody")


@pytest.mark.parametrize(
    "arguments",
    [("--from", "2027-02-01"), ("--to", "yesterday"), ("--from", "2027-13-01")],
)
def test_a_period_that_is_none(db: None, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        reprice(*arguments)


def test_a_price_that_was_told_late_is_corrected_once(lab: Any, price: Price) -> None:
    before = bill(price, markup=1000, input_tokens=1000, output_tokens=0)
    after = bill(
        price,
        markup=1000,
        input_tokens=1000,
        output_tokens=0,
        created_at=START + dt.timedelta(days=10),
    )
    late = PriceFactory(
        provider=lab,
        model_id="gpt-x",
        effective_from=START + dt.timedelta(days=10),
        input=1_000_000,
    )
    ledger = list(UsageRecord.objects.values())
    assert "1 rows corrected" in reprice()
    correction = Correction.objects.get()
    assert correction.request_id == after.request_id != before.request_id
    assert (correction.cost, correction.charge) == (-250, 1100 - after.charge)
    assert (correction.price_id, correction.tenant_id) == (late.pk, 1)
    assert "0 rows corrected" in reprice()
    assert Correction.objects.count() == 1
    later = PriceFactory(
        provider=lab,
        model_id="gpt-x",
        effective_from=START + dt.timedelta(days=9),
        input=0,
        output=0,
    )
    assert "0 rows corrected" in reprice(), "the newer one is still in force at that time"
    assert later.pk
    last = PriceFactory(
        provider=lab,
        model_id="gpt-x",
        operation="chat.completions",
        effective_from=START + dt.timedelta(days=9),
        input=0,
        output=0,
    )
    assert "1 rows corrected" in reprice()
    total = sum(Correction.objects.values_list("charge", flat=True))
    assert total == -after.charge, "now it is free"
    assert Correction.objects.latest("pk").price_id == last.pk
    assert list(UsageRecord.objects.values()) == ledger
    assert "difference 0 USD" in reprice("--dry-run")


def test_what_had_no_price_is_charged_when_it_has_one(lab: Any) -> None:
    row = bill(None, input_tokens=100, output_tokens=0)
    PriceFactory(provider=lab, model_id="*", effective_from=START, input=3_000_000)
    assert "1 rows corrected" in reprice()
    assert Correction.objects.get(request_id=row.request_id).charge == 300


def test_what_is_free_stays_free(lab: Any) -> None:
    """Test mode, what nobody answered, and what came from the cache."""
    bill(None, mode="test")
    bill(None, provider="", status=503)
    bill(None, cache="hit")
    PriceFactory(provider=lab, model_id="*", effective_from=START, call=5)
    assert "0 rows corrected" in reprice()


def test_what_was_asked_to_keep_it_warm_is_rated_like_any_call(lab: Any) -> None:
    bill(None, cache="warm")
    PriceFactory(provider=lab, model_id="*", effective_from=START, call=5)
    assert "1 rows corrected" in reprice()


def test_what_several_answered_is_the_sum_of_what_each_takes(lab: Any) -> None:
    """`?strategy=all`: one row, whose cost is that of each answer at its own price."""
    other = ProviderFactory(slug="other")
    long_ago = START - dt.timedelta(days=9)
    for provider, call in ((lab, 40), (other, 7)):
        PriceFactory(
            provider=provider, model_id="", effective_from=long_ago, **ONLY_CALLS | {"call": call}
        )
    row = UsageRecordFactory(
        created_at=START, model="", units=2, cost=47, charge=52, markup=1000, attempts=3
    )
    for number, (slug, cost) in enumerate((("lab", 40), ("other", 7)), 1):
        AttemptFactory(
            request_id=row.request_id, number=number, provider=slug, model="", units=1, cost=cost
        )
    AttemptFactory(
        request_id=row.request_id, number=3, provider="third", verdict="timeout", cost=99
    )
    assert "difference 0 USD" in reprice("--dry-run")
    assert "0 rows corrected" in reprice()
    late = PriceFactory(
        provider=other, model_id="", effective_from=START, **ONLY_CALLS | {"call": 17}
    )
    assert "1 rows corrected" in reprice()
    correction = Correction.objects.get()
    assert (correction.cost, correction.charge, correction.price_id) == (10, 11, late.pk)
    assert "0 rows corrected" in reprice()


def test_any_number_of_rows_in_pages_of_one_size(
    price: Price, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connection

    monkeypatch.setattr(rerating, "PAGE", 10)
    for _ in range(35):
        bill(price)
    told: list[int] = []
    with CaptureQueriesContext(connection) as captured:
        assert reproduce(JANUARY, told.append).rows == 35
    assert told == [10, 20, 30, 35]
    pages = [q["sql"] for q in captured if "usage_usagerecord" in q["sql"]]
    assert len(pages) == 5
    assert all("LIMIT 10" in sql for sql in pages)
    assert correct(JANUARY, book.load()).differing == 0
