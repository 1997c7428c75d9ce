"""Writes to prices: the configuration file, the catalogue and the admin all come here."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict

from django.db import transaction
from django.utils import timezone

from billing.models import Price
from providers.models import Provider
from providers.prices import Prices

PriceOf = tuple[str, str]  # model id, operation


def prices_in_force(provider: Provider, at: dt.datetime | None = None) -> dict[PriceOf, Price]:
    """A provider's versions that are in force now, or were at `at`."""
    begun = Price.objects.begun(at or timezone.now()).filter(provider=provider)
    return {(row.model_id, row.operation): row for row in begun.order_by("effective_from")}


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
