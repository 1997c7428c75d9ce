"""Policies of breakers and retries for those who run the service: presets, the house's, and
each provider's, with where every number comes from."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api import faults
from api.internal.breakers import who
from api.permissions import Operators
from api.serializers import Shown
from lib.problems import NotFound
from providers import effective, resilience
from providers.models import Provider
from providers.operations.checking import pointer
from providers.presets import PRESETS
from providers.resilience import Layer, Resilience, Whose
from providers.services import set_policy

WHOSE = [(whose.value, whose.value) for whose in Whose]
POLICY: Any = {"application/json": copy.deepcopy(resilience.SCHEMA)}
SLUG = OpenApiParameter("slug", str, OpenApiParameter.PATH, description="A provider's slug.")


class PresetShown(Shown):
    name = serializers.CharField()
    in_force = serializers.BooleanField(help_text="Whether the setting RESILIENCE_PRESET names it.")
    breaker = serializers.DictField()
    retry = serializers.DictField()


class PresetList(Shown):
    data = PresetShown(many=True)  # type: ignore[assignment]  # a field, not Serializer.data
    next_cursor = serializers.CharField(allow_null=True)
    has_more = serializers.BooleanField()


class NumberShown(Shown):
    path = serializers.CharField(help_text="Such as breaker/open_seconds.")
    value = serializers.JSONField()
    origin = serializers.ChoiceField(choices=WHOSE, help_text="Whose word counts.")
    preset = serializers.CharField(
        allow_null=True, help_text="Where its preset says it, and not it itself."
    )


class PolicyShown(Shown):
    breaker = serializers.DictField()
    retry = serializers.DictField()
    numbers = NumberShown(many=True, help_text="The same, with where each comes from.")


class ValidPolicyShown(PolicyShown):
    valid = serializers.BooleanField()


class OwnPolicyShown(Shown):
    breaker = serializers.DictField()
    retry = serializers.DictField()


class ProviderPolicyShown(PolicyShown):
    provider = serializers.CharField()
    own = OwnPolicyShown(help_text="What the provider says itself.")


class Presets(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_resilience_presets", tags=["resilience"], responses=PresetList
    )
    def get(self, request: Request) -> Response:
        """List the presets."""
        rows = [_preset(name) for name in PRESETS]
        return Response({"data": rows, "next_cursor": None, "has_more": False})


class Preset(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_resilience_preset",
        tags=["resilience"],
        parameters=[OpenApiParameter("name", str, OpenApiParameter.PATH, enum=list(PRESETS))],
        responses=PresetShown,
    )
    def get(self, request: Request, name: str) -> Response:
        """Show a preset."""
        if name not in PRESETS:
            raise NotFound(f"The presets are {', '.join(PRESETS)}.")
        return Response(_preset(name))


class HousePolicy(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_resilience_config", tags=["resilience"], responses=PolicyShown
    )
    def get(self, request: Request) -> Response:
        """Show what holds for a provider that says nothing itself."""
        return Response(_policy(effective.of_house()))


class Validation(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_resilience_validate",
        tags=["resilience"],
        request=POLICY,
        responses=ValidPolicyShown,
    )
    def post(self, request: Request) -> Response:
        """Check a provider's policy, and show what would then be in force. Nothing is changed."""
        said = _checked(request.data)
        merged = resilience.merge([*effective.house_layers(), Layer(Whose.PROVIDER, said)])
        return Response({"valid": True, **_policy(merged)})


class ProviderPolicy(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_resilience_provider",
        tags=["resilience"],
        parameters=[SLUG],
        responses=ProviderPolicyShown,
    )
    def get(self, request: Request, slug: str) -> Response:
        """Show a provider's policy in force."""
        return _shown(get_object_or_404(Provider, slug=slug))

    @extend_schema(
        operation_id="internal_resilience_provider_replace",
        tags=["resilience"],
        parameters=[SLUG],
        request=POLICY,
        responses=ProviderPolicyShown,
    )
    def put(self, request: Request, slug: str) -> Response:
        """Replace a provider's own policy; what is left out is the house's again."""
        said = _checked(request.data)
        return self._set(request, slug, {"breaker": {}, "retry": {}, **said})

    @extend_schema(
        operation_id="internal_resilience_provider_update",
        tags=["resilience"],
        parameters=[SLUG],
        request=POLICY,
        responses=ProviderPolicyShown,
    )
    def patch(self, request: Request, slug: str) -> Response:
        """Replace a provider's `breaker`, its `retry`, or both; what is left out stays."""
        return self._set(request, slug, _checked(request.data))

    def _set(self, request: Request, slug: str, said: Mapping[str, Any]) -> Response:
        provider = get_object_or_404(Provider, slug=slug)
        return _shown(set_policy(provider=provider, said=said, **who(request)))


def _checked(body: Any) -> dict[str, Any]:
    """Raises InvalidRequest (422) with every fault and its place."""
    found = resilience.faults(body)
    if found:
        raise faults.refusal(
            iter([{"detail": each.text, "pointer": pointer(each.path)} for each in found])
        )
    said: dict[str, Any] = body
    return said


def _preset(name: str) -> dict[str, Any]:
    return {"name": name, "in_force": name == settings.RESILIENCE_PRESET, **PRESETS[name]}


def _policy(policy: Resilience) -> dict[str, Any]:
    numbers = [
        {
            "path": number.path,
            "value": number.value,
            "origin": number.origin.whose.value,
            "preset": number.origin.preset,
        }
        for number in policy.numbers()
    ]
    return {**policy.as_json(), "numbers": numbers}


def _shown(provider: Provider) -> Response:
    policy = _policy(effective.of_provider(provider))
    return Response({"provider": provider.slug, "own": effective.said_by(provider), **policy})
