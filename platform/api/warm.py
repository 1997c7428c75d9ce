"""What is kept warm, for those who run the service: what is declared, and having it asked now."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError

from accounts.models import User
from api.faults import refusal
from lib.problems import InvalidRequest
from providers import services
from providers.warm_models import WarmRequest


def shown() -> dict[str, Any]:
    """What is declared and what came of it last, and what all warm calls may use."""
    rows = WarmRequest.objects.select_related("tenant", "provider")
    return {
        "calls_per_minute": settings.ENV.CACHE_WARM_PER_MINUTE,
        "percent_of_limits": settings.ENV.CACHE_WARM_PERCENT,
        "requests": [_told(row) for row in rows],
    }


def ask_now(name: str, *, by: str, user: User | None = None) -> dict[str, Any]:
    """Have one asked by a gateway within a second or two. Raises InvalidRequest (422)."""
    rows = WarmRequest.objects.select_related("tenant", "provider")
    row = rows.filter(name=name).first()
    if row is None:
        raise _wrong("No warm request has this name.")
    if not settings.ENV.CACHE_WARM_PER_MINUTE:
        raise _wrong("All warming is switched off: CACHE_WARM_PER_MINUTE is 0.")
    try:
        return _told(services.warm_now(request=row, by=by, user=user))
    except ValidationError as error:
        raise _wrong(error.messages[0]) from None


def _told(row: WarmRequest) -> dict[str, Any]:
    """For staff alone: it tells what is asked for."""
    return {
        "name": row.name,
        "manifest": row.provider.slug if row.provider else None,
        "tenant": row.tenant.slug if row.tenant else None,
        "operation": row.operation,
        "params": row.params,
        "every": row.every,
        "enabled": row.enabled,
        "asked_at": row.asked_at,
        "ran_at": row.ran_at,
        "outcome": row.outcome or None,
    }


def _wrong(detail: str) -> InvalidRequest:
    return refusal(iter([{"detail": detail, "pointer": "/name"}]))
