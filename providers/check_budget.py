"""How many calls of our own a provider may be sent: they are no caller's, and use it up."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final

from django.conf import settings
from django.utils import timezone

from lib.problems import RateLimited
from providers.definition_models import Check
from providers.models import Provider

KEPT: Final = 200  # results of a provider: never less than VERIFY_CALLS_PER_DAY
_SPANS: Final = {
    "hour": dt.timedelta(hours=1),
    "day": dt.timedelta(days=1),
    "month": dt.timedelta(days=31),
}


def require_budget(slug: str) -> None:
    """Raises RateLimited."""
    if not within_budget(slug):
        raise RateLimited(
            f"{slug} was verified and tried often enough lately. See VERIFY_CALLS_PER_HOUR and "
            "VERIFY_CALLS_PER_DAY, or wait an hour.",
            retry_after=3600,
        )


def within_budget(slug: str) -> bool:
    """Whether the settings let another call go to it, for whatever reason."""
    env = settings.ENV
    return (
        _sent(slug, "hour") < env.VERIFY_CALLS_PER_HOUR
        and _sent(slug, "day") < env.VERIFY_CALLS_PER_DAY
    )


def within_share(provider: Provider) -> bool:
    """Whether a call more stays within our share of all that it allows in an hour or longer. A
    limit of which the share is less than one call leaves none."""
    share: int = settings.ENV.VERIFY_SHARE_PERCENT
    for window, limit in _limits(provider):
        allowed = limit * share // 100
        if _sent(provider.slug, window) >= allowed:
            return False
        # A month may hold more results than are kept, so each of its days is bounded too.
        if window == "month" and _sent(provider.slug, "day") >= max(1, allowed // 31):
            return False
    return True


def _sent(slug: str, window: str) -> int:
    since = timezone.now() - _SPANS[window]
    return Check.objects.filter(slug=slug, created_at__gte=since).count()


def _limits(provider: Provider) -> list[tuple[str, int]]:
    """Window and limit of what it allows by its definition, and of what we allow ourselves."""
    told: Sequence[Any] = [*(provider.manifest or {}).get("limits", ()), *provider.quotas]
    return [
        (each["window"], each["limit"])
        for each in told
        if each.get("metric") in {"requests", "units", "credits"}
        and each.get("window") in _SPANS
        and isinstance(each.get("limit"), int)
    ]
