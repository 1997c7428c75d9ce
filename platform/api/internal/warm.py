"""Warming over HTTP, for staff."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api import warm
from api.internal.breakers import who
from api.permissions import Operators
from api.serializers import Body, Shown


class WarmRequestShown(Shown):
    name = serializers.CharField()
    manifest = serializers.CharField(
        allow_null=True, help_text="The provider whose manifest declares it; null: staff do."
    )
    tenant = serializers.CharField(allow_null=True, help_text="Who asks; null: the house.")
    operation = serializers.CharField()
    params = serializers.DictField()
    every = serializers.IntegerField(help_text="Seconds.")
    enabled = serializers.BooleanField()
    asked_at = serializers.DateTimeField(
        allow_null=True, help_text="When staff last wanted it at once."
    )
    ran_at = serializers.DateTimeField(allow_null=True, help_text="When a gateway last ran it.")
    outcome = serializers.CharField(
        allow_null=True,
        help_text="Of that: ok, fresh (no need to ask), under_way, not_kept, or an error's code.",
    )


class WarmingShown(Shown):
    calls_per_minute = serializers.IntegerField(
        help_text="What all gateways together may make to keep answers warm. 0: none."
    )
    percent_of_limits = serializers.IntegerField(
        help_text="What these may use of each provider's and tenant's limits and quotas."
    )
    requests = WarmRequestShown(many=True)


class WarmAsked(Body):
    name = serializers.CharField(max_length=160)


class CacheWarming(APIView):
    permission_classes = [Operators]

    @extend_schema(operation_id="internal_cache_warm", tags=["cache"], responses=WarmingShown)
    def get(self, request: Request) -> Response:
        """List what is declared to be kept warm, and what came of it last."""
        return Response(WarmingShown(warm.shown()).data)

    @extend_schema(
        operation_id="internal_cache_warm_now",
        tags=["cache"],
        request=WarmAsked,
        responses={202: WarmRequestShown},
    )
    def post(self, request: Request) -> Response:
        """Have one asked by a gateway within a second or two; `ran_at` and `outcome` tell of it."""
        body = WarmAsked(data=request.data)
        body.is_valid(raise_exception=True)
        told = warm.ask_now(body.validated_data["name"], **who(request))
        return Response(WarmRequestShown(told).data, status=202)
