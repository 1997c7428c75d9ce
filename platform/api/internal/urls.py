"""The management API of staff and management keys, mounted at /internal/v1."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path
from rest_framework.routers import SimpleRouter

from api.internal.breakers import BreakerAction, Breakers
from api.internal.exports import UsageExport
from api.internal.providers import ProviderViewSet, RouteViewSet
from api.internal.quotas import Quotas
from api.internal.scores import Scores
from api.internal.tenants import TenantViewSet
from api.internal.usage import Usage

router = SimpleRouter(trailing_slash=False)
router.register("providers", ProviderViewSet, basename="provider")
router.register("routes", RouteViewSet, basename="route")
router.register("tenants", TenantViewSet, basename="tenant")

urlpatterns: list[URLPattern | URLResolver] = [
    path("breakers", Breakers.as_view(), name="breakers"),
    path("breakers/<path:name>/<slug:action>", BreakerAction.as_view(), name="breaker-action"),
    path("quotas", Quotas.as_view(), name="quotas"),
    path("scores", Scores.as_view(), name="scores"),
    path("usage", Usage.as_view(), name="usage"),
    path("usage/export", UsageExport.as_view(), name="usage-export"),
    path("", include(router.urls)),
]
