"""A price that is or was in force is what bills were made with: it never changes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from billing.models import Correction, InForce, Price
from billing.services import add_price, prices_in_force
from lib.models import Revision
from providers.prices import Prices
from tests.factories import CorrectionFactory, PriceFactory, ProviderFactory
from usage.models import AppendOnly

pytestmark = pytest.mark.django_db
DAY = dt.timedelta(days=1)


def save(price: Price) -> None:
    price.input = 99
    price.save()


def save_as_if_to_come(price: Price) -> None:
    price.effective_from = timezone.now() + DAY
    price.save()


CHANGES: dict[str, Callable[[Price], Any]] = {
    "save": save,
    "save as if to come": save_as_if_to_come,
    "delete": lambda price: price.delete(),
    "update": lambda price: Price.objects.filter(pk=price.pk).update(input=99),
    "delete many": lambda price: Price.objects.all().delete(),
    "bulk update": lambda price: Price.objects.bulk_update([price], ["input"]),
    "upsert": lambda price: Price.objects.bulk_create(
        [price], update_conflicts=True, unique_fields=["id"], update_fields=["input"]
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("age", [dt.timedelta(), DAY])
def test_what_is_in_force_never_changes(change: str, age: dt.timedelta) -> None:
    price = PriceFactory(input=7, effective_from=timezone.now() - age)
    PriceFactory(effective_from=timezone.now() + DAY)
    before = list(Price.objects.order_by("pk").values())
    with pytest.raises(InForce), transaction.atomic():
        CHANGES[change](Price.objects.get(pk=price.pk))
    assert list(Price.objects.order_by("pk").values()) == before


@pytest.mark.parametrize("change", ["save", "delete", "update", "delete many", "bulk update"])
def test_what_is_to_come_may_change(change: str) -> None:
    price = PriceFactory(input=7, effective_from=timezone.now() + DAY)
    before = list(Price.objects.values())
    price.input = 99
    CHANGES[change](price)
    assert list(Price.objects.values()) != before


def test_a_provider_with_prices_stays() -> None:
    price = PriceFactory()
    with pytest.raises(ProtectedError):
        price.provider.delete()


def test_one_version_a_moment() -> None:
    price = PriceFactory()
    with pytest.raises(IntegrityError), transaction.atomic():
        PriceFactory(
            provider=price.provider,
            model_id=price.model_id,
            effective_from=price.effective_from,
        )


def test_every_new_version_is_published() -> None:
    before = Revision.numbers().get("routing", 0)
    PriceFactory()
    assert Revision.numbers()["routing"] > before


def test_prices_in_force_at_a_time() -> None:
    provider, now = ProviderFactory(), timezone.now()
    for days in (-2, 1, -1):
        add_price(
            provider=provider,
            model_id="m",
            operation="",
            prices=Prices(days + 10),
            effective_from=now + days * DAY,
        )
    found = [
        {of: row.input for of, row in prices_in_force(provider, at).items()}
        for at in (now - 3 * DAY, now - 2 * DAY, None, now + DAY)
    ]
    assert found == [{}, {("m", ""): 8}, {("m", ""): 9}, {("m", ""): 11}]


@pytest.mark.parametrize("prices", [Prices(-1), Prices(unit=1), Prices(2**63)])
def test_no_price_is_negative_or_too_fine_to_be_told(prices: Prices) -> None:
    with pytest.raises((ValidationError, OverflowError)):
        add_price(provider=ProviderFactory(), model_id="m", operation="", prices=prices)


def test_corrections_are_append_only() -> None:
    correction = CorrectionFactory()
    for change in (
        correction.save,
        correction.delete,
        Correction.objects.all().delete,
        lambda: Correction.objects.update(charge=0),
        lambda: Correction.objects.bulk_create([correction], update_conflicts=True),
    ):
        with pytest.raises(AppendOnly):
            change()
    with pytest.raises(IntegrityError), transaction.atomic():
        CorrectionFactory(request_id=correction.request_id)
