"""Quotas as they stand, and what limits and prices hold."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from accounts.records import of_tenant
from api.v1.quotas import of_tenants
from billing.models import EVERY_MODEL, KINDS, Price
from lib.money import marked_up
from portal.modes import mode_of
from portal.numbers import number
from portal.page import Visit, page
from tenants.keys import Mode

MOST_PRICES = 500


@page()
def quotas(visit: Visit) -> HttpResponse:
    """Bars of what is used and reserved, and when each begins anew."""
    mode = mode_of(visit)
    standing = [_with_shares(quota) for quota in of_tenants(visit.tenant, mode=mode)]
    return visit.render("portal/quotas.html", {"quotas": standing, "mode": mode.value})


def _with_shares(quota: dict[str, Any]) -> dict[str, Any]:
    """Per cent of the limit, for the bar. What is over is as much as fits."""
    limit = max(1, quota["limit"])
    used = min(100.0, 100 * quota["used"] / limit)
    reserved = min(100.0 - used, 100 * quota["reserved"] / limit)
    shares = {"used_share": round(used, 1), "reserved_share": round(reserved, 1)}
    resets, days = quota["resets_at"], quota["days_left"]
    moments = {
        "resets_at": parse_datetime(resets) if resets else None,
        "runs_out_at": timezone.now() + dt.timedelta(days=days) if days else None,
    }
    return quota | shares | moments


@dataclass(frozen=True, slots=True)
class Priced:
    """What the tenant pays for one thing, its plan's markup included."""

    what: str
    provider: str
    prices: dict[str, str]
    is_free: bool


@page()
def limits(visit: Visit) -> HttpResponse:
    identity = of_tenant(visit.tenant, Mode.LIVE)
    text = visit.request.GET.get("q", "")[:100]
    all_prices = _prices(visit, text)
    prices = [price for price in all_prices if not price.is_free]
    context = {
        "plan": visit.tenant.plan,
        "rate_limits": identity.rate_limits,
        "prices": prices[:MOST_PRICES],
        "free": [price for price in all_prices if price.is_free],
        "left_out": len(prices[MOST_PRICES:]),
        "kinds": KINDS,
        "q": text,
    }
    return visit.render("portal/limits.html", context)


def _prices(visit: Visit, text: str) -> list[Priced]:
    """Those in force, the newest version of each."""
    rows = Price.objects.begun(timezone.now()).filter(provider__enabled=True)
    if text:
        rows = rows.filter(model_id__icontains=text) | rows.filter(provider__slug__icontains=text)
    newest: dict[tuple[int, str, str], Price] = {}
    for row in rows.select_related("provider").order_by("effective_from"):
        newest[row.provider_id, row.model_id, row.operation] = row
    ordered = sorted(newest.values(), key=lambda row: (row.model_id, row.provider.slug))
    return [_priced(row, visit.tenant.plan.markup) for row in ordered]


def _priced(row: Price, markup: int) -> Priced:
    name = {EVERY_MODEL: "every other model", "": "data"}.get(row.model_id, row.model_id)
    what = f"{name} ({row.operation})" if row.operation else name
    told = {kind: getattr(row, kind) for kind in KINDS}
    prices = {
        kind: _usd(marked_up(amount, markup), kind)
        for kind, amount in told.items()
        if amount is not None
    }
    return Priced(what, row.provider.slug, prices, not any(told.values()))


def _usd(microusd: int, kind: str) -> str:
    """Per million tokens, thousand units, or call."""
    amount = Decimal(microusd) / (1000 if kind == "unit" else 1) / 1_000_000
    return f"${number(amount.normalize())}"
