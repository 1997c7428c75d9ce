"""Targets' scores for those who run the service: over the API, and as a page of the admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.template.response import TemplateResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api.permissions import Operators
from api.serializers import Shown
from api.vitals import WORKER
from providers.breakers import OF_A_TENANT

MOST_SHOWN = 1000  # of them on the admin's page


class Score(Shown):
    name = serializers.CharField(help_text="provider/model, or the provider of data.")
    calls = serializers.FloatField(help_text="How many recent calls the figures stand for.")
    success_rate = serializers.FloatField(
        allow_null=True, help_text="0…1; null where nothing is known, as below."
    )
    first_byte_seconds = serializers.FloatField(
        allow_null=True, help_text="To a stream's first event."
    )
    seconds = serializers.FloatField(
        allow_null=True, help_text="To the end of an answer that is no stream."
    )
    cost_microusd = serializers.FloatField(allow_null=True, help_text="A call, in µUSD.")
    quality = serializers.FloatField(
        allow_null=True, help_text="How good its answers are, 0…1; feedback included."
    )


class ScoreList(Shown):
    data = Score(many=True, help_text="As this worker knows them.")  # type: ignore[assignment]


class Scores(APIView):
    permission_classes = [Operators]

    @extend_schema(operation_id="internal_scores", tags=["routes"], responses=ScoreList)
    def get(self, request: Request) -> Response:
        """Show what each target's recent calls were like, as this worker learnt it."""
        return Response(ScoreList({"data": scores()}).data)


def scores() -> list[dict[str, Any]]:
    """By name. Test mode's are left out: its failures are scripted."""
    return [
        {"name": name, **figures}
        for name, figures in sorted(WORKER.scores().items())
        if not name.startswith(OF_A_TENANT)
    ]


def page(request: HttpRequest) -> TemplateResponse:
    """The admin's page. Raises PermissionDenied for staff who may not see targets."""
    if not request.user.has_perm("providers.view_target"):
        raise PermissionDenied
    known = scores()
    context = {
        **admin.site.each_context(request),
        "title": "Targets' scores",
        "scores": known[:MOST_SHOWN],
        "left_out": len(known[MOST_SHOWN:]),
    }
    return TemplateResponse(request, "api/scores.html", context)
