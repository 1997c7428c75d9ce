"""Which policy is in force: the house's, from the settings, and each provider's over it."""

from __future__ import annotations

from typing import Any

import structlog
from django.conf import settings

from providers.models import Provider
from providers.resilience import Layer, Resilience, Whose, faults, merge, without_faults

log = structlog.get_logger("patchbay.resilience")


def house_layers() -> list[Layer]:
    """What holds for every provider unless it says otherwise. Settings have no faults: they are
    checked at start."""
    preset = {"breaker": {"preset": settings.RESILIENCE_PRESET}}
    return [Layer(Whose.ENVIRONMENT, preset), Layer(Whose.HOUSE, settings.RESILIENCE)]


def of_house() -> Resilience:
    return merge(house_layers())


def said_by(row: Provider) -> dict[str, Any]:
    """A provider's own layer, as it is in the database."""
    return {"breaker": row.breaker, "retry": row.retry}


def of_provider(row: Provider) -> Resilience:
    """A provider works without its own policy too: what cannot be read is logged, and the
    house's holds."""
    said = said_by(row)
    for fault in faults(said):
        log.error(f"{fault.path[0]}_policy_unusable", provider=row.slug, reason=str(fault))
    return merge([*house_layers(), Layer(Whose.PROVIDER, without_faults(said))])
