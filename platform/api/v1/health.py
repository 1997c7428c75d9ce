"""How the service is: one word for everyone, the details for those who run it."""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import connection
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api.faults import STORE_ERRORS
from api.permissions import HealthReaders
from api.serializers import Shown

STARTED = time.monotonic()
STATES = [("ok", "ok"), ("degraded", "degraded"), ("down", "down")]


class HealthShown(Shown):
    status = serializers.ChoiceField(choices=STATES)


class PartShown(Shown):
    status = serializers.ChoiceField(choices=STATES)
    kind = serializers.CharField()
    latency_ms = serializers.FloatField(allow_null=True)


class ProvidersShown(Shown):
    total = serializers.IntegerField()
    enabled = serializers.IntegerField()


class DetailedHealthShown(HealthShown):
    database = PartShown()
    store = PartShown()
    providers = ProvidersShown(allow_null=True)
    uptime_seconds = serializers.IntegerField()
    memory_bytes = serializers.IntegerField(help_text="Most this process held so far.")
    cpu_seconds = serializers.FloatField(help_text="What this process used so far.")
    disk_free_bytes = serializers.IntegerField()


class Health(APIView):
    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]

    @extend_schema(
        operation_id="health", tags=["health"], responses={200: HealthShown, 503: HealthShown}
    )
    def get(self, request: Request) -> Response:
        """ok, degraded or down."""
        return _answer({"status": _overall(database_part(), store_part())})


class DetailedHealth(APIView):
    permission_classes = [HealthReaders]

    @extend_schema(
        operation_id="health_detailed",
        tags=["health"],
        responses={200: DetailedHealthShown, 503: DetailedHealthShown},
    )
    def get(self, request: Request) -> Response:
        """Each part, for staff and keys with `health:read`."""
        database, store = database_part(), store_part()
        used = resource.getrusage(resource.RUSAGE_SELF)
        report = {
            "status": _overall(database, store),
            "database": database,
            "store": store,
            "providers": _providers() if database["status"] == "ok" else None,
            "uptime_seconds": int(time.monotonic() - STARTED),
            "memory_bytes": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 3),
            "disk_free_bytes": shutil.disk_usage(settings.BASE_DIR).free,
        }
        return _answer(report)


def database_part() -> dict[str, Any]:
    """Whether the database answers, and how fast. Without it nothing can be served."""
    return _part(connection.vendor, "down", _ask_database)


def store_part() -> dict[str, Any]:
    """Whether the counters' store answers; without Redis it is this process itself."""
    if not settings.ENV.REDIS_URL:
        return {"status": "ok", "kind": "in-process", "latency_ms": None}
    return _part("redis", "degraded", lambda: cache.get("health"))


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _part(kind: str, when_broken: str, ask: Callable[[], Any]) -> dict[str, Any]:
    begun = time.perf_counter()
    try:
        ask()
    except STORE_ERRORS:
        return {"status": when_broken, "kind": kind, "latency_ms": None}
    latency = round((time.perf_counter() - begun) * 1000, 2)
    return {"status": "ok", "kind": kind, "latency_ms": latency}


def _overall(*parts: dict[str, Any]) -> str:
    told = {part["status"] for part in parts}
    return next((state for state in ("down", "degraded") if state in told), "ok")


def _providers() -> dict[str, int]:
    from providers.models import Provider

    switches = list(Provider.objects.values_list("enabled", flat=True))
    return {"total": len(switches), "enabled": sum(switches)}


def _answer(report: dict[str, Any]) -> Response:
    return Response(report, status=503 if report["status"] == "down" else 200)
