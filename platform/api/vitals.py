"""What `GET /api/v1/health` and `/health/detailed` measure, here and now.

The data path lies beside this layer, not below it, so what only it knows of this worker is
registered here by config/asgi.py, which starts it.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.db.models import Count, Q

from accounts.identity import Identity
from cache.cache import Cache
from lib.ids import first_uuid7
from lib.problems import Unavailable
from providers.breaker import State
from providers.breakers import OF_A_TENANT, Figures
from providers.left_out import Row
from providers.models import Credential, Provider
from tenants.keys import Mode
from usage.counters.claims import QuotaClaim, Used
from usage.models import OpenCall, UsageRecord

STARTED = time.monotonic()
MOST_NAMED = 100  # breakers told by name; the others are counted
_RESTING = {State.OPEN, State.FORCED_OPEN}
_FINE = {State.CLOSED, State.DISABLED}


def _nobody(*_: Any) -> Any:
    raise Unavailable(
        "No gateway runs in this process, so nobody here can say. Open this page at a gateway.",
        code="store_unavailable",
    )


@dataclass(slots=True)
class Worker:
    """This process's data path; of nothing where it serves none."""

    breakers: Callable[[], Mapping[str, State]] = dict
    breaker_figures: Callable[[], Sequence[Figures]] = list
    in_flight: Callable[[], int] = int
    left_out: Callable[[], Sequence[Row]] = list
    scores: Callable[[], Mapping[str, Mapping[str, Any]]] = dict
    counters_ready: Callable[[], bool] = lambda: True
    counters: Callable[[Sequence[QuotaClaim]], list[Used | None]] = lambda claims: (
        [None] * len(claims)
    )
    provider_quotas: Callable[[float], Sequence[tuple[str, QuotaClaim]]] = lambda _: ()
    explain: Callable[[Identity, str, Mapping[str, Any]], dict[str, Any]] = _nobody
    ask: Callable[[str, Mapping[str, Any], Mode], dict[str, Any]] = _nobody
    cache: Callable[[], Cache | None] = lambda: None
    on_loop: Callable[[Coroutine[Any, Any, Any]], Any] = asyncio.run  # where the cache lives


WORKER = Worker()


def database_part() -> dict[str, Any]:
    """Whether the database answers, and how fast. Without it nothing can be served."""
    return _part(connection.vendor, "down", _ask_database)


def store_part() -> dict[str, Any]:
    """Whether the counters' store answers; without Redis it is this process itself."""
    if not settings.ENV.REDIS_URL:
        return {"status": "ok", "kind": "in-process", "latency_ms": None}
    part = _part("redis", "degraded", lambda: cache.get("health"))  # the cache hides its loss
    return part if WORKER.counters_ready() else part | {"status": "degraded"}


def overall(*parts: Mapping[str, Any]) -> str:
    """The worst of the parts' states."""
    told = {part["status"] for part in parts}
    return next((state for state in ("down", "degraded") if state in told), "ok")


def process_part() -> dict[str, Any]:
    """This process and its machine."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "uptime_seconds": int(time.monotonic() - STARTED),
        "memory_bytes": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 3),
        "cpu_load": round(os.getloadavg()[0], 2),
        "cpus": os.cpu_count(),
        "disk_free_bytes": shutil.disk_usage(settings.BASE_DIR).free,
    }


def breakers_part() -> dict[str, Any]:
    """This worker's breakers, and which of them do not let all calls through.

    Test-mode ones are left out: each rests one tenant's scripted failures, and nobody else's.
    """
    live = _live_breakers()
    count = Counter(live.values())
    resting = sorted(name for name, state in live.items() if state is not State.CLOSED)
    return {state.lower(): count[state] for state in State} | {
        "resting": [{"name": name, "state": live[name]} for name in resting[:MOST_NAMED]]
    }


def calls_part() -> dict[str, Any]:
    """The last minute of the whole service by its ledger, and what is being answered now."""
    since = first_uuid7(time.time() - 60)
    told = UsageRecord.objects.filter(request_id__gte=since).aggregate(
        calls=Count("pk"), failed=Count("pk", filter=Q(status__gte=500))
    )
    return {
        "last_minute": told["calls"],
        "failed_last_minute": told["failed"],
        "per_second": round(told["calls"] / 60, 2),
        "error_rate": round(told["failed"] / told["calls"], 4) if told["calls"] else 0.0,
        "open": OpenCall.objects.count(),
        "in_flight": WORKER.in_flight(),
    }


def providers_part() -> dict[str, Any]:
    each = provider_states()
    return {
        "total": Provider.objects.count(),
        "enabled": len(each),
        "each": sorted(each.values(), key=lambda provider: provider["slug"]),
    }


def provider_states() -> dict[int, dict[str, str]]:
    """Enabled providers by row: slug, name, and whether they can take live calls."""
    with_secret = set(
        Credential.objects.filter(enabled=True, tenant=None).values_list("provider_id", flat=True)
    )
    return {
        provider.pk: {
            "slug": provider.slug,
            "name": provider.name,
            "status": (
                "ready"
                if not provider.needs_credential or provider.pk in with_secret
                else "needs_credential"
            ),
        }
        for provider in Provider.objects.filter(enabled=True)
    }


def providers_status() -> str:
    """down where every provider that could be called rests or refuses our credentials, degraded
    where any breaker is not as it should be or any credential is refused."""
    breakers = _live_breakers()
    house = Q(credentials__enabled=True, credentials__tenant=None)
    rows = Provider.objects.filter(enabled=True).annotate(
        held=Count("credentials", filter=house),
        good=Count("credentials", filter=house & Q(credentials__drained_at=None)),
    )
    out = [
        breakers.get(row.slug) in _RESTING or (row.needs_credential and not row.good)
        for row in rows
        if row.held or not row.needs_credential
    ]
    if out and all(out):
        return "down"
    fine = all(state in _FINE for state in breakers.values())
    drained = Credential.objects.filter(drained_at__isnull=False, enabled=True).exists()
    return "ok" if fine and not drained else "degraded"


def _live_breakers() -> dict[str, State]:
    return {
        name: state for name, state in WORKER.breakers().items() if not name.startswith(OF_A_TENANT)
    }


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _part(kind: str, when_broken: str, ask: Callable[[], Any]) -> dict[str, Any]:
    from api.faults import STORE_ERRORS  # they come with clients that a start does not need

    begun = time.perf_counter()
    try:
        ask()
    except STORE_ERRORS:
        return {"status": when_broken, "kind": kind, "latency_ms": None}
    latency = round((time.perf_counter() - begun) * 1000, 2)
    return {"status": "ok", "kind": kind, "latency_ms": latency}
