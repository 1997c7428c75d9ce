"""Providers and routes for those who run the service: read all, switch providers."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.permissions import Operators
from api.resources import Resource
from api.serializers import Body, Shown
from providers.models import Provider, Route
from providers.services import switch_provider


class CredentialShown(Shown):
    id = serializers.CharField(source="public_id")
    name = serializers.CharField()
    last_four = serializers.CharField()
    enabled = serializers.BooleanField()


class ProviderShown(Shown):
    id = serializers.CharField(source="public_id")
    slug = serializers.CharField()
    name = serializers.CharField()
    category = serializers.CharField()
    adapter = serializers.CharField()
    base_url = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]  # a field of that name
    enabled = serializers.BooleanField()
    needs_credential = serializers.BooleanField()
    allow_private_network = serializers.BooleanField()
    credentials = CredentialShown(many=True)
    created_at = serializers.DateTimeField()


class ProviderChange(Body):
    enabled = serializers.BooleanField()


class TargetShown(Shown):
    provider = serializers.CharField(source="provider.slug")
    model = serializers.CharField(source="model.model_id", allow_null=True, default=None)
    position = serializers.IntegerField()
    weight = serializers.IntegerField()
    enabled = serializers.BooleanField()


class RouteShown(Shown):
    id = serializers.IntegerField(source="pk")
    operation = serializers.CharField()
    alias = serializers.CharField()
    strategy = serializers.CharField()
    enabled = serializers.BooleanField()
    targets = TargetShown(many=True)


@extend_schema(tags=["providers"])
@extend_schema_view(
    list=extend_schema(summary="List all providers"),
    retrieve=extend_schema(summary="Show a provider"),
)
class ProviderViewSet(Resource):
    queryset = Provider.objects.prefetch_related("credentials")
    serializer_class = ProviderShown
    permission_classes = [Operators]
    lookup_field = "slug"
    lookup_value_regex = "[-a-zA-Z0-9_]{1,63}"

    @extend_schema(summary="Switch a provider on or off", request=ProviderChange)
    def partial_update(self, request: Request, slug: str) -> Response:
        provider = self.get_object()
        return self.shown(switch_provider(provider=provider, **self.checked(ProviderChange)))


@extend_schema(tags=["routes"])
@extend_schema_view(
    list=extend_schema(summary="List all routes"), retrieve=extend_schema(summary="Show a route")
)
class RouteViewSet(Resource):
    queryset: Any = Route.objects.prefetch_related("targets__provider", "targets__model")
    serializer_class = RouteShown
    permission_classes = [Operators]
    lookup_field = "pk"
    lookup_value_regex = "[0-9]{1,18}"
