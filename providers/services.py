"""Writes to providers and credentials: DRF, the admin and commands all come here."""

from __future__ import annotations

from django.db import transaction

from providers.models import Model, Provider, Route


@transaction.atomic
def switch_provider(*, provider: Provider, enabled: bool) -> Provider:
    """On or off, in force on every worker within a second."""
    provider.enabled = enabled
    provider.save(update_fields=["enabled"])
    return provider


@transaction.atomic
def take_over(row: Provider | Model | Route) -> None:
    """Staff changed it, so that from now on it is theirs: load_catalogue passes it over."""
    if row.source != Provider.Source.OPERATOR:
        row.source = Provider.Source.OPERATOR
        row.save(update_fields=["source"])
