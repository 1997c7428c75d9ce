"""Mounted at /api/v1/dashboard, /api/dashboard and /internal/v1/dashboard."""

from __future__ import annotations

from django.urls import URLPattern, path
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.views import APIView

from api.dashboard.views import Alerts, CacheStats, DatabaseHealth, LlmPerformance, SystemHealth

PAGES: dict[str, type[APIView]] = {
    "system-health": SystemHealth,
    "llm-performance": LlmPerformance,
    "cache-stats": CacheStats,
    "database-health": DatabaseHealth,
    "alerts": Alerts,
}


def _internal(name: str, view: type[APIView]) -> type[APIView]:
    """The same under an id of its own, which each operation of the schema must have."""
    same = type(f"Internal{view.__name__}", (view,), {"__doc__": view.__doc__})
    operation_id = f"internal_dashboard_{name.replace('-', '_')}"
    return extend_schema_view(get=extend_schema(operation_id=operation_id))(same)


def _patterns(pages: dict[str, type[APIView]]) -> list[URLPattern]:
    return [path(name, page.as_view(), name=f"dashboard-{name}") for name, page in pages.items()]


urlpatterns = _patterns(PAGES)
internal_urlpatterns = _patterns({name: _internal(name, page) for name, page in PAGES.items()})
