"""What all tenants used, and what the providers took for it."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api.permissions import Operators
from api.v1 import usage
from lib.money import to_usd
from tenants.models import Tenant, validate_time_zone

GROUPS = ("tenant", *usage.Usage.groups)


class CostShown(usage.SumsShown):
    cost_microusd = serializers.IntegerField(help_text="What the providers take.")
    cost_usd = serializers.CharField()


class CostGroupShown(CostShown, usage.GroupShown):
    tenant = serializers.CharField(required=False, allow_null=True)


class SummaryOfAllShown(usage.SummaryShown):
    data = CostGroupShown(many=True)
    totals = CostShown()


class Usage(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_usage",
        tags=["usage"],
        parameters=[
            *usage.parameters(GROUPS),
            OpenApiParameter("tenant", str, description="A tenant's slug. All tenants."),
            OpenApiParameter("time_zone", str, description="Such as Europe/Stockholm. UTC."),
        ],
        responses=SummaryOfAllShown,
    )
    def get(self, request: Request) -> Response:
        """Sum up what all tenants used."""
        query = request.query_params
        zone = _time_zone(query.get("time_zone", "UTC"))
        tenant_id = tenant_id_of(query["tenant"]) if "tenant" in query else None
        question = usage.understood(query, GROUPS, zone, also=("tenant", "time_zone"))
        return Response(usage.answer(question, tenant_id, _shown))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    cost = row["cost"]
    return {**usage.shown(row), "cost_microusd": cost, "cost_usd": to_usd(cost)}


def _time_zone(name: str) -> str:
    try:
        validate_time_zone(name)
    except ValidationError:
        raise usage.refusal("time_zone", "Must be an IANA name such as Europe/Stockholm.") from None
    return name


def tenant_id_of(slug: str) -> int:
    found = Tenant.objects.filter(slug=slug).first()
    if found is None:
        raise usage.refusal("tenant", "No tenant has this slug.")
    tenant_id: int = found.pk
    return tenant_id
