"""Version 1, mounted at /api/v1 and, for front ends written before versions, at /api."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path
from rest_framework.routers import SimpleRouter

from api.dashboard import urls as dashboard
from api.metrics import metrics
from api.v1.auth import Login, Logout, Refresh, Status
from api.v1.cache import CacheInvalidation
from api.v1.catalogue import Catalogue
from api.v1.exports import UsageExport
from api.v1.feedback import RequestFeedback
from api.v1.health import DetailedHealth, Health
from api.v1.keys import KeyViewSet
from api.v1.members import MemberViewSet
from api.v1.projects import ProjectViewSet
from api.v1.quotas import Quotas
from api.v1.requests import RequestDetail
from api.v1.tenants import TenantViewSet
from api.v1.usage import Usage

router = SimpleRouter(trailing_slash=False)
router.register("tenants", TenantViewSet, basename="tenant")
router.register("projects", ProjectViewSet, basename="project")
router.register("members", MemberViewSet, basename="member")
router.register("keys", KeyViewSet, basename="key")

urlpatterns: list[URLPattern | URLResolver] = [
    path("auth/login", Login.as_view(), name="login"),
    path("auth/refresh", Refresh.as_view(), name="refresh"),
    path("auth/logout", Logout.as_view(), name="logout"),
    path("auth/status", Status.as_view(), name="status"),
    path("health", Health.as_view(), name="health"),
    path("health/detailed", DetailedHealth.as_view(), name="health-detailed"),
    path("catalogue", Catalogue.as_view(), name="catalogue"),
    path("cache/invalidate", CacheInvalidation.as_view(), name="cache-invalidate"),
    path("requests/<uuid:request_id>", RequestDetail.as_view(), name="request"),
    path("requests/<uuid:request_id>/feedback", RequestFeedback.as_view(), name="request-feedback"),
    path("quotas", Quotas.as_view(), name="quotas"),
    path("usage", Usage.as_view(), name="usage"),
    path("usage/export", UsageExport.as_view(), name="usage-export"),
    path("metrics", metrics, name="metrics"),
    path("dashboard/", include(dashboard.urlpatterns)),
    path("", include(router.urls)),
]
