"""The management API of staff and management keys, mounted at /internal/v1."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path
from rest_framework.routers import SimpleRouter

from api.internal.providers import ProviderViewSet, RouteViewSet
from api.internal.quotas import Quotas
from api.internal.tenants import TenantViewSet
from api.internal.usage import Usage

router = SimpleRouter(trailing_slash=False)
router.register("providers", ProviderViewSet, basename="provider")
router.register("routes", RouteViewSet, basename="route")
router.register("tenants", TenantViewSet, basename="tenant")

urlpatterns: list[URLPattern | URLResolver] = [
    path("quotas", Quotas.as_view(), name="quotas"),
    path("usage", Usage.as_view(), name="usage"),
    path("", include(router.urls)),
]
