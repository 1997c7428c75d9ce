"""The management API of staff and management keys, mounted at /internal/v1."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path
from rest_framework.routers import SimpleRouter

from api.dashboard import urls as dashboard
from api.internal.breakers import (
    BreakerAction,
    Breakers,
    ResilienceBreakerAction,
    ResilienceBreakers,
)
from api.internal.cache import CacheAnalytics, CacheInvalidation, CacheStatus
from api.internal.exports import UsageExport
from api.internal.providers import ProviderViewSet, RouteViewSet
from api.internal.quotas import Quotas
from api.internal.resilience import HousePolicy, Preset, Presets, ProviderPolicy, Validation
from api.internal.resilience_figures import Benchmark, Metrics, ResilienceHealth
from api.internal.scores import Scores
from api.internal.tenants import TenantViewSet
from api.internal.usage import Usage
from api.internal.warm import CacheWarming

router = SimpleRouter(trailing_slash=False)
router.register("providers", ProviderViewSet, basename="provider")
router.register("routes", RouteViewSet, basename="route")
router.register("tenants", TenantViewSet, basename="tenant")

resilience: list[URLPattern | URLResolver] = [
    path("presets", Presets.as_view(), name="presets"),
    path("presets/<slug:name>", Preset.as_view(), name="preset"),
    path("config", HousePolicy.as_view(), name="config"),
    path("config/validate", Validation.as_view(), name="validate"),
    path("providers/<slug:slug>", ProviderPolicy.as_view(), name="provider"),
    path("breakers", ResilienceBreakers.as_view(), name="breakers"),
    path("breakers/<path:name>/<slug:action>", ResilienceBreakerAction.as_view(), name="action"),
    path("metrics", Metrics.as_view(), name="metrics"),
    path("health", ResilienceHealth.as_view(), name="health"),
    path("benchmark", Benchmark.as_view(), name="benchmark"),
]
urlpatterns: list[URLPattern | URLResolver] = [
    path("breakers", Breakers.as_view(), name="breakers"),
    path("breakers/<path:name>/<slug:action>", BreakerAction.as_view(), name="breaker-action"),
    path("cache/status", CacheStatus.as_view(), name="cache-status"),
    path("cache/analytics", CacheAnalytics.as_view(), name="cache-analytics"),
    path("cache/invalidate", CacheInvalidation.as_view(), name="cache-invalidate"),
    path("cache/warm", CacheWarming.as_view(), name="cache-warm"),
    path("quotas", Quotas.as_view(), name="quotas"),
    path("scores", Scores.as_view(), name="scores"),
    path("resilience/", include((resilience, "resilience"))),
    path("usage", Usage.as_view(), name="usage"),
    path("usage/export", UsageExport.as_view(), name="usage-export"),
    path("dashboard/", include(dashboard.internal_urlpatterns)),
    path("", include(router.urls)),
]
