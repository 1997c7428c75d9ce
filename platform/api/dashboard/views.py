"""The dashboards as JSON: staff see the service, members of a tenant and its keys their part."""

from __future__ import annotations

import os
import shutil
from typing import Any

from django.conf import settings
from django.db import connection
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api import caches, vitals
from api.dashboard import alerts, figures, shapes
from api.permissions import Operators, identity_of
from api.v1.usage import refusal
from lib.audit import AuditHead
from lib.problems import Problem
from providers.operations import Kind, registry
from tenants.models import Tenant
from usage import processes, sizes
from usage.attempt_sums import again_since, attempts_since
from usage.models import OpenCall
from usage.rollup_models import UsageDelta
from usage.summaries import latencies, summarize, total

MOST_HOURS = 168
MOST_GROUPS = 1000


class StaffOrTheirOwn(BasePermission):
    """Staff and their keys, for all; whoever acts for a tenant, for it."""

    def has_permission(self, request: Request, view: Any) -> bool:
        identity = identity_of(request)
        if identity.tenant_id is None or identity.may("internal:read"):
            return Operators().has_permission(request, view)
        return True


def tenant_of(request: Request) -> int | None:
    """Whose figures: None for staff, who see all."""
    identity = identity_of(request)
    return None if identity.may("internal:read") else identity.tenant_id


HOURS = OpenApiParameter(
    "hours", {"type": "integer", "minimum": 1, "maximum": MOST_HOURS, "default": 24}
)


def hours_of(request: Request) -> int:
    """How far back. Raises InvalidRequest."""
    for name in request.query_params.keys() - {"hours"}:
        raise refusal(name[:80], "Unknown. Leave it out.")
    text = request.query_params.get("hours", "24")
    if text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MOST_HOURS:
        return int(text)
    raise refusal("hours", f"Must be a whole number from 1 to {MOST_HOURS}.")


class SystemHealth(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="dashboard_system_health",
        tags=["dashboard"],
        responses=shapes.SystemHealthShown,
    )
    def get(self, request: Request) -> Response:
        """Show how this machine, the stores, the breakers and the calls are."""
        database, store = vitals.database_part(), vitals.store_part()
        has_database = database["status"] == "ok"
        machine = vitals.process_part()
        growth = sizes.growth(machine["disk_free_bytes"]) if has_database else None
        return Response(
            {
                "status": vitals.overall(database, store),
                "database": database,
                "store": store,
                "pool": _pool(),
                "machine": machine
                | _machine()
                | {"disk_days_left": growth and growth.disk_days_left},
                "calls": vitals.calls_part() if has_database else None,
                "breakers": vitals.breakers_part(),
                "gateways": processes.known() if has_database else [],
                "trend": figures.trend() if has_database else [],
            }
        )


def _machine() -> dict[str, int]:
    return {
        "memory_total_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "disk_total_bytes": shutil.disk_usage(settings.BASE_DIR).total,
    }


class LlmPerformance(APIView):
    permission_classes = [StaffOrTheirOwn]

    @extend_schema(
        operation_id="dashboard_llm_performance",
        tags=["dashboard"],
        parameters=[HOURS],
        responses=shapes.LlmPerformanceShown,
    )
    def get(self, request: Request) -> Response:
        """Show latency, failures, tokens and cost by model, and what fell over."""
        hours, tenant_id = hours_of(request), tenant_of(request)
        since = figures.this_minute() - hours * figures.HOUR
        told: dict[str, Any] = {"hours": hours, "models": _models(since, tenant_id)}
        if tenant_id is None:
            again = again_since(since)
            told["targets"] = _targets(since)
            told["fallbacks"] = [
                {"provider": provider, **again[provider]._asdict()} for provider in sorted(again)
            ]
        return Response(told)


def _of_ai(name: str) -> bool:
    operation = registry().get(name)
    return operation is None or operation.kind is not Kind.DATA


def _models(since: float, tenant_id: int | None) -> list[dict[str, Any]]:
    edges = [since, figures.this_minute()]
    by = ["operation", "model"]
    rows = summarize(edges, by, mode="live", tenant_id=tenant_id, most=MOST_GROUPS)
    shown = (lambda told: told) if tenant_id is None else figures.without_cost
    return [
        {"operation": row["operation"], "model": row["model"], **shown(figures.figures(row))}
        for row in rows
        if _of_ai(row["operation"])
    ]


def _targets(since: float) -> list[dict[str, Any]]:
    scores = vitals.WORKER.scores()
    return [
        {
            "provider": row["provider"],
            "model": row["model"],
            "operation": row["operation"],
            "attempts": row["attempts"],
            "failures": row["failures"],
            "failure_rate": caches.ratio(row["failures"], row["attempts"]),
            "tokens": row["tokens"],
            "cost_microusd": row["cost"],
            "latency_ms": latencies(row | {"calls": row["attempts"]}),
            "quality": scores.get(f"{row['provider']}/{row['model']}", {}).get("quality"),
        }
        for row in attempts_since(since, ("provider", "model", "operation"))
        if _of_ai(row["operation"])
    ]


class CacheStats(APIView):
    permission_classes = [StaffOrTheirOwn]

    @extend_schema(
        operation_id="dashboard_cache_stats",
        tags=["dashboard"],
        parameters=[HOURS],
        responses=shapes.CacheStatsShown,
    )
    def get(self, request: Request) -> Response:
        """Show how many calls the cache answered, by operation, and over seven days."""
        hours, tenant_id = hours_of(request), tenant_of(request)
        now = figures.this_minute()
        rows = summarize(
            [now - hours * figures.HOUR, now],
            ["operation"],
            mode="live",
            tenant_id=tenant_id,
            most=MOST_GROUPS,
        )
        told = {
            **_hits(total(rows)),
            "operations": [{"operation": row["operation"], **_hits(row)} for row in rows],
            "trend": [day["cache_hit_ratio"] for day in figures.trend(tenant_id=tenant_id)],
        }
        if tenant_id is None:
            told["levels"] = _levels()
        return Response(told)


def _hits(row: dict[str, Any]) -> dict[str, Any]:
    calls, hits = row["calls"], row["hits"]
    return {"calls": calls, "hits": hits, "hit_ratio": caches.ratio(hits, calls)}


def _levels() -> dict[str, Any]:
    try:
        status = caches.status()
    except Problem as problem:
        return {"fault": problem.detail}
    return {"memory": status["memory"], "shared": status["shared"]}


class DatabaseHealth(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="dashboard_database_health",
        tags=["dashboard"],
        responses=shapes.DatabaseHealthShown,
    )
    def get(self, request: Request) -> Response:
        """Show how large the database is, how it grows, and what waits in it."""
        part = vitals.database_part()
        free = shutil.disk_usage(settings.BASE_DIR).free
        told = {**part, "disk_free_bytes": free, "pool": _pool()}
        return Response(told | (_contents(free) if part["status"] == "ok" else _UNKNOWN))


_UNKNOWN = dict.fromkeys(
    (
        *("database_bytes", "bytes_per_day", "disk_days_left"),
        *("waiting_rollups", "open_calls", "audit_entries"),
    )
)


def _contents(free: int) -> dict[str, Any]:
    growth = sizes.growth(free)
    head = AuditHead.objects.first()
    return {
        "database_bytes": sizes.size(),
        "bytes_per_day": growth.bytes_per_day,
        "disk_days_left": growth.disk_days_left,
        "waiting_rollups": UsageDelta.objects.count(),
        "open_calls": OpenCall.objects.count(),
        "audit_entries": head.number if head else 0,
    }


def _pool() -> dict[str, int]:
    """psycopg's own figures; of SQLite there are none."""
    pool = getattr(connection, "pool", None)
    return {name: int(value) for name, value in pool.get_stats().items()} if pool else {}


class Alerts(APIView):
    permission_classes = [StaffOrTheirOwn]

    @extend_schema(
        operation_id="dashboard_alerts", tags=["dashboard"], responses=shapes.AlertsShown
    )
    def get(self, request: Request) -> Response:
        """Show what is wrong now, the worst first, and what to do."""
        tenant_id = tenant_of(request)
        if tenant_id is None:
            found = alerts.of_service()
        else:
            found = alerts.of_tenant(Tenant.objects.get(pk=tenant_id))
        return Response({"data": [alert.told() for alert in found]})
