"""Breakers for those who run the service: what they see, and staff's word on them."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from api.permissions import Operators, identity_of
from api.serializers import Body, Shown
from api.v1.health import BREAKER_STATES
from api.vitals import WORKER
from lib.problems import NotFound
from providers.breaker_policy import MOST_SECONDS
from providers.models import BreakerOverride, Provider
from providers.services import override_breaker

To = BreakerOverride.To
ACTIONS = {
    "force-open": To.FORCED_OPEN,
    "disable": To.DISABLED,
    "close": To.CLOSED,
    "reset": To.CLOSED,  # resilience4j's word for the same: CLOSED, and nothing counted so far
}


class OverrideShown(Shown):
    name = serializers.CharField()
    state = serializers.ChoiceField(choices=To.choices)
    reason = serializers.CharField()
    by = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)


class BreakerFigures(Shown):
    name = serializers.CharField(help_text="A provider, or provider/model for a target.")
    state = serializers.ChoiceField(choices=BREAKER_STATES)
    seconds_left = serializers.FloatField(help_text="Until a call may try; 0 unless it rests.")
    failures_in_a_row = serializers.IntegerField()
    buffered_calls = serializers.IntegerField(help_text="Calls in the window.")
    failed_calls = serializers.IntegerField()
    slow_calls = serializers.IntegerField()
    failure_rate = serializers.FloatField(
        allow_null=True, help_text="Per cent; null while there are too few calls."
    )
    slow_call_rate = serializers.FloatField(allow_null=True)
    successful_total = serializers.IntegerField(help_text="Since this worker began, as below.")
    failed_total = serializers.IntegerField()
    ignored_total = serializers.IntegerField(help_text="Those that say nothing of the provider.")
    not_permitted_total = serializers.IntegerField()
    policy = serializers.DictField()
    override = OverrideShown(allow_null=True, help_text="Staff's word in force.")


class BreakerList(Shown):
    data = BreakerFigures(many=True, help_text="As this worker knows them.")  # type: ignore[assignment]


class OverrideAsked(Body):
    reason = serializers.CharField(max_length=500)
    seconds = serializers.IntegerField(
        min_value=1,
        max_value=31 * MOST_SECONDS,
        required=False,
        help_text="After which it ends by itself. Left out: until it is closed here.",
    )


class Breakers(APIView):
    permission_classes = [Operators]

    @extend_schema(operation_id="internal_breakers", tags=["breakers"], responses=BreakerList)
    def get(self, request: Request) -> Response:
        """Show all breakers: state, counts and rates on this worker, and their policies."""
        overrides = {row.name: row for row in BreakerOverride.latest(timezone.now())}
        rows = [
            asdict(figures) | {"override": overrides.get(figures.name)}
            for figures in sorted(WORKER.breaker_figures(), key=lambda each: each.name)
        ]
        return Response(BreakerList({"data": rows}).data)


class BreakerAction(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_breaker_override",
        tags=["breakers"],
        parameters=[
            OpenApiParameter(
                "name", str, OpenApiParameter.PATH, description="provider, or provider/model."
            ),
            OpenApiParameter("action", str, OpenApiParameter.PATH, enum=list(ACTIONS)),
        ],
        request=OverrideAsked,
        responses={201: OverrideShown},
    )
    def post(self, request: Request, name: str, action: str) -> Response:
        """Force a breaker open, disable it, or close it: on every worker within a second."""
        if action not in ACTIONS:
            raise NotFound(f"A breaker's actions are {', '.join(ACTIONS)}.")
        if not Provider.objects.filter(slug=name.partition("/")[0]).exists():
            raise NotFound("There is no such provider.")
        body = OverrideAsked(data=request.data)
        body.is_valid(raise_exception=True)
        row = override_breaker(
            name=name,
            state=ACTIONS[action],
            reason=body.validated_data["reason"],
            expires_at=_after(body.validated_data.get("seconds")),
            **who(request),
        )
        return Response(OverrideShown(row).data, status=201)


@extend_schema_view(get=extend_schema(operation_id="internal_resilience_breakers"))
class ResilienceBreakers(Breakers):
    """The same beside what else there is of resilience."""


@extend_schema_view(post=extend_schema(operation_id="internal_resilience_breaker_override"))
class ResilienceBreakerAction(BreakerAction):
    """The same beside what else there is of resilience."""


def _after(seconds: int | None) -> dt.datetime | None:
    return None if seconds is None else timezone.now() + dt.timedelta(seconds=seconds)


def who(request: Request) -> dict[str, Any]:
    """Who says so, as services are told it."""
    identity = identity_of(request)
    if identity.kind == "key":
        return {"by": f"key {identity.key_public_id}"}
    user = User.objects.get(public_id=identity.user_public_id)
    return {"by": user.email, "user": user}
