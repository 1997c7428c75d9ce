"""Writes to providers and credentials: DRF, the admin and commands all come here."""

from __future__ import annotations

from django.db import transaction

from providers.models import Provider


@transaction.atomic
def switch_provider(*, provider: Provider, enabled: bool) -> Provider:
    """On or off, in force on every worker within a second."""
    provider.enabled = enabled
    provider.save(update_fields=["enabled"])
    return provider
