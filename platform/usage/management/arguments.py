"""What commands about the ledger are told: moments and tenants."""

from __future__ import annotations

import argparse
import datetime as dt

from django.core.management.base import CommandError

from tenants.models import Tenant


def moment(text: str) -> dt.datetime:
    """RFC 3339, or a day; UTC unless it says otherwise."""
    try:
        told = dt.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no moment such as 2027-01-31 or 2027-01-31T12:00:00Z"
        ) from None
    return told if told.tzinfo else told.replace(tzinfo=dt.UTC)


def tenant_id(slug: str | None) -> int | None:
    """None for all tenants. Raises CommandError."""
    if slug is None:
        return None
    pk: int | None = Tenant.objects.filter(slug=slug).values_list("pk", flat=True).first()
    if pk is None:
        raise CommandError(f"There is no tenant {slug}.")
    return pk
