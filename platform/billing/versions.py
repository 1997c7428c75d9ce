"""The versions of one price side by side, for people."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from billing.models import KINDS, PER_THOUSAND, Price
from lib.money import to_usd

MOST = 50
HEADINGS = {name: name.replace("_", " ") for name in KINDS} | {"unit": "thousand units"}


def all_of(price: Price) -> list[Price]:
    """Those of the same thing, the newest first."""
    same = {name: getattr(price, name) for name in ("provider_id", "model_id", "operation")}
    return list(Price.objects.filter(**same).order_by("-effective_from")[:MOST])


def side_by_side(versions: list[Price]) -> list[dict[str, Any]]:
    """Each with its figures in USD, and which of them the version before it did not have."""
    pairs = [*pairwise(versions), (versions[-1], None)] if versions else []
    return [{"price": price, "cells": difference(price, before)} for price, before in pairs]


def difference(price: Price, before: Price | None) -> list[dict[str, Any]]:
    """Of each kind what it costs, and what it did if that was something else."""
    return [
        {
            "name": HEADINGS[kind],
            "usd": usd(price, kind),
            "before": usd(before, kind) if before else "",
            "changed": before is not None and getattr(price, kind) != getattr(before, kind),
        }
        for kind in KINDS
    ]


def usd(price: Price, kind: str) -> str:
    amount = getattr(price, kind)
    if amount is None:
        return "–"
    return to_usd(amount // PER_THOUSAND if kind == "unit" else amount)
