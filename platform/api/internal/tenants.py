"""All tenants, for those who run the service."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.permissions import Operators
from api.v1 import tenants
from tenants import services
from tenants.models import Plan


class TenantChangeByStaff(tenants.TenantChange):
    plan = serializers.SlugRelatedField(
        slug_field="slug", queryset=Plan.objects.all(), required=False
    )


class TenantViewSet(tenants.TenantViewSet):
    def get_permissions(self) -> list[Any]:
        return [Operators()]

    def _visible(self) -> dict[str, Any]:
        return {}

    @extend_schema(summary="Change a tenant, its plan included", request=TenantChangeByStaff)
    def partial_update(self, request: Request, tenant_id: str) -> Response:
        changes = self.checked(TenantChangeByStaff)
        return self.shown(services.update_tenant(tenant=self.get_object(), **changes))
