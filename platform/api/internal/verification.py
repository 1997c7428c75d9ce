"""Verification of providers for those who run the service: now, and lately."""

from __future__ import annotations

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api.internal.breakers import who
from api.internal.definitions import SLUG, require
from api.permissions import Operators
from api.serializers import Shown
from providers.definition_models import Check
from providers.models import Provider
from providers.verification import verify

VERIFY = "providers.add_check"


class CheckShown(Shown):
    kind = serializers.ChoiceField(choices=Check.Kind.choices)
    operation = serializers.CharField()
    verdict = serializers.CharField(help_text="How it ended, such as ok or bad_payload.")
    status = serializers.IntegerField(help_text="Of HTTP; 0 for no answer.")
    latency_ms = serializers.IntegerField()
    drift = serializers.BooleanField(help_text="Its answer does not map as its definition tells.")
    message = serializers.CharField()
    by = serializers.CharField()
    created_at = serializers.DateTimeField()


class CheckList(Shown):
    data = CheckShown(many=True, help_text="The last first.")  # type: ignore[assignment]


class Verification(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_provider_verify",
        tags=["providers"],
        parameters=[SLUG],
        request=None,
        responses=CheckShown,
    )
    def post(self, request: Request, slug: str) -> Response:
        """Verify a provider now, with one real call."""
        require(request, VERIFY)
        provider = get_object_or_404(Provider, slug=slug)
        return Response(CheckShown(verify(provider=provider, by=who(request)["by"])).data)


class Checks(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_provider_checks",
        tags=["providers"],
        parameters=[SLUG],
        responses=CheckList,
    )
    def get(self, request: Request, slug: str) -> Response:
        """Show the last verifications and trials of a provider, 200 at most."""
        provider = get_object_or_404(Provider, slug=slug)
        return Response(CheckList({"data": Check.objects.filter(slug=provider.slug)}).data)
