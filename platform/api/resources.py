"""The ground under every resource of a tenant: its querysets hold the caller's own rows only."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts.identity import Identity
from api.permissions import ByRule, Rule, identity_of
from tenants.models import Tenant


class Resource(GenericViewSet[Any]):
    """List and retrieve over `queryset`; writes are the subclass's, through services."""

    lookup_field = "public_id"

    @property
    def identity(self) -> Identity:
        return identity_of(self.request)

    def list(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        return self.shown(self.get_object())

    def shown(self, row: Any, status: int = 200) -> Response:
        return Response(self.get_serializer(row).data, status=status)

    def checked(self, serializer_class: Any) -> dict[str, Any]:
        """The request's body, validated. Raises DRF's ValidationError."""
        body = serializer_class(data=self.request.data)
        body.is_valid(raise_exception=True)
        data: dict[str, Any] = body.validated_data
        return data


class TenantResource(Resource):
    """Rows of the caller's tenant. Those of another are not refused: they are not there."""

    permission_classes = [ByRule]
    rule: Rule
    tenant_field = "tenant_id"

    def get_queryset(self) -> QuerySet[Any]:
        rows = super().get_queryset()
        if getattr(self, "swagger_fake_view", False):
            return rows.none()
        return rows.filter(**{self.tenant_field: self.identity.tenant_id})

    @property
    def tenant(self) -> Tenant:
        return get_object_or_404(Tenant, pk=self.identity.tenant_id)
