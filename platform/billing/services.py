"""Writes to prices: the configuration file, the catalogue and the admin all come here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from django.db import transaction
from django.utils import timezone

from billing.models import Price
from providers.models import Provider
from providers.prices import Prices

PriceOf = tuple[str, str]  # model id, operation


def prices_in_force(provider: Provider, at: dt.datetime | None = None) -> dict[PriceOf, Price]:
    """A provider's versions that are in force now, or were at `at`."""
    return all_in_force([provider], at)[provider.pk]


def all_in_force(
    providers: Sequence[Provider], at: dt.datetime | None = None
) -> dict[int, dict[PriceOf, Price]]:
    """Those of each provider, by its primary key."""
    found: dict[int, dict[PriceOf, Price]] = {provider.pk: {} for provider in providers}
    begun = Price.objects.begun(at or timezone.now()).filter(provider__in=providers)
    for row in begun.order_by("effective_from"):
        found[row.provider_id][row.model_id, row.operation] = row
    return found


@transaction.atomic
def add_price(
    *,
    provider: Provider,
    model_id: str,
    operation: str,
    prices: Prices,
    source: str = Provider.Source.OPERATOR,
    effective_from: dt.datetime | None = None,
    note: str = "",
) -> Price:
    """A new version, in force from now on unless said otherwise. Raises ValidationError."""
    price = Price(
        provider=provider,
        model_id=model_id,
        operation=operation,
        effective_from=effective_from or timezone.now(),
        source=source,
        note=note,
        **asdict(prices),
    )
    price.full_clean()
    price.save()
    return price


@transaction.atomic
def add_prices(versions: Iterable[Price]) -> None:
    """Many at once. Raises ValidationError, as for one."""
    prices = list(versions)
    for price in prices:
        price.clean_fields(exclude={"provider"})  # which is a row: the database need not be asked
    if prices:
        Price.objects.bulk_create(prices)
