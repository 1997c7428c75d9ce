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
from api.internal.definitions import (
    DefinitionActivation,
    DefinitionDifference,
    DefinitionProof,
    Definitions,
    DefinitionTrial,
    DefinitionValidation,
    DefinitionVersion,
    RollBack,
)
from api.internal.exports import UsageExport
from api.internal.providers import ProviderViewSet, RouteViewSet
from api.internal.quotas import Quotas
from api.internal.resilience import HousePolicy, Preset, Presets, ProviderPolicy, Validation
from api.internal.resilience_figures import Benchmark, Metrics, ResilienceHealth
from api.internal.scores import Scores
from api.internal.tenants import TenantViewSet
from api.internal.usage import Usage
from api.internal.verification import Checks, Verification
from api.internal.warm import CacheWarming

OF_PROVIDER = "providers/<slug:slug>/definitions"
VERSION = f"{OF_PROVIDER}/<int:version>"

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
    path(OF_PROVIDER, Definitions.as_view(), name="definitions"),
    path(f"{OF_PROVIDER}/validate", DefinitionValidation.as_view(), name="definitions-validate"),
    path(f"{OF_PROVIDER}/roll-back", RollBack.as_view(), name="definitions-roll-back"),
    path(VERSION, DefinitionVersion.as_view(), name="definition"),
    path(f"{VERSION}/validate", DefinitionProof.as_view(), name="definition-validate"),
    path(f"{VERSION}/try", DefinitionTrial.as_view(), name="definition-try"),
    path(f"{VERSION}/activate", DefinitionActivation.as_view(), name="definition-activate"),
    path(f"{VERSION}/diff", DefinitionDifference.as_view(), name="definition-diff"),
    path("providers/<slug:slug>/verify", Verification.as_view(), name="provider-verify"),
    path("providers/<slug:slug>/checks", Checks.as_view(), name="provider-checks"),
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
