"""Tenants: members see and rename their own; staff see, make, suspend and resume all."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Membership
from api.permissions import MANAGERS, Operators, require_scope
from api.resources import Resource
from api.serializers import Body, Shown
from lib.problems import Forbidden
from tenants import services
from tenants.models import Plan, Tenant


class TenantShown(Shown):
    id = serializers.CharField(source="public_id")
    slug = serializers.CharField()
    name = serializers.CharField()
    plan = serializers.CharField(source="plan.slug")
    status = serializers.ChoiceField(choices=Tenant.Status.choices)
    time_zone = serializers.CharField()
    locale = serializers.CharField()
    allow_house_fallback = serializers.BooleanField()
    keep_warm = serializers.BooleanField()
    created_at = serializers.DateTimeField()


class TenantChange(Body):
    name = serializers.CharField(max_length=120, required=False)
    time_zone = serializers.CharField(max_length=64, required=False)
    locale = serializers.CharField(
        max_length=16,
        required=False,
        help_text="How figures are written on your pages, such as en, de or pt-br.",
    )
    allow_house_fallback = serializers.BooleanField(
        required=False,
        help_text="Let a call that failed with your own credential go on with ours, at our price.",
    )
    keep_warm = serializers.BooleanField(
        required=False,
        help_text="Learn what your data calls ask for often, and fetch it again before it gets "
        "stale: by calls of yours, within your limits, on your bill.",
    )


class TenantBody(TenantChange):
    slug = serializers.SlugField(max_length=63)
    name = serializers.CharField(max_length=120)
    plan = serializers.SlugRelatedField(slug_field="slug", queryset=Plan.objects.all())


@extend_schema(tags=["tenants"])
@extend_schema_view(
    list=extend_schema(summary="List the tenants you see"),
    retrieve=extend_schema(summary="Show a tenant"),
)
class TenantViewSet(Resource):
    queryset = Tenant.objects.select_related("plan")
    serializer_class = TenantShown
    lookup_url_kwarg = "tenant_id"
    lookup_value_regex = "ten_[0-9a-z]{26}"

    def get_permissions(self) -> list[Any]:
        operators_only = self.action in {"create", "suspend", "resume"}
        return [Operators() if operators_only else IsAuthenticated()]

    def get_queryset(self) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset()
        if getattr(self, "swagger_fake_view", False):
            return rows.none()
        return rows.filter(**self._visible())

    def _visible(self) -> dict[str, Any]:
        identity = self.identity
        if identity.is_staff or identity.may("internal:read"):
            return {}
        if identity.kind == "key":
            require_scope(identity, "manage:tenant")
            return {"pk": identity.tenant_id}
        return {"memberships__user_id": identity.user_id}

    @extend_schema(
        summary="Make a tenant (staff)", request=TenantBody, responses={201: TenantShown}
    )
    def create(self, request: Request) -> Response:
        with transaction.atomic():
            tenant = services.create_tenant(**self.checked(TenantBody))
            services.create_project(tenant=tenant, slug="default")
        return self.shown(tenant, 201)

    @extend_schema(summary="Change a tenant's name or time zone", request=TenantChange)
    def partial_update(self, request: Request, tenant_id: str) -> Response:
        tenant = self.get_object()
        self._check_may_change(tenant)
        return self.shown(services.update_tenant(tenant=tenant, **self.checked(TenantChange)))

    @extend_schema(summary="Suspend a tenant (staff)", request=None, responses={200: TenantShown})
    @action(detail=True, methods=["post"])
    def suspend(self, request: Request, tenant_id: str) -> Response:
        return self.shown(services.suspend_tenant(tenant=self.get_object()))

    @extend_schema(summary="Resume a tenant (staff)", request=None, responses={200: TenantShown})
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, tenant_id: str) -> Response:
        return self.shown(services.resume_tenant(tenant=self.get_object()))

    def _check_may_change(self, tenant: Tenant) -> None:
        identity = self.identity
        own = Membership.objects.filter(tenant=tenant, user_id=identity.user_id or 0)
        if identity.kind == "key":
            is_own = tenant.pk == identity.tenant_id
            require_scope(identity, "manage:tenant" if is_own else "internal:write")
        elif not identity.is_staff and not own.filter(role__in=MANAGERS).exists():
            raise Forbidden("Your role does not allow this. Ask an owner of the tenant.")
