"""Everybody's quotas, the providers' and the global ones included."""

from __future__ import annotations

import time

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.records import of_house
from api.permissions import Operators
from api.v1 import quotas
from providers import snapshot
from tenants.models import Tenant
from usage.demand import quotas_of, quotas_of_provider


class Quotas(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_quotas",
        tags=["usage"],
        parameters=[
            *quotas.PARAMETERS,
            OpenApiParameter("tenant", str, description="A tenant's slug; without, the house's."),
        ],
        responses=quotas.QuotasStanding,
    )
    def get(self, request: Request) -> Response:
        """Show a tenant's quotas; without `tenant` those of providers and of all together."""
        mode = quotas.mode_of(request)
        slug = request.query_params.get("tenant")
        if slug is not None:
            tenant = get_object_or_404(Tenant.objects.select_related("plan"), slug=slug)
            key = request.query_params.get("key", "")
            route = request.query_params.get("route", "")
            told = quotas.of_tenants(tenant, mode=mode, key=key, route=route)
            return Response({"data": told})
        now = time.time()
        found = [("all", claim) for claim in quotas_of(of_house(mode), now)]
        for provider in snapshot.load().providers.values():
            found += [(provider.slug, claim) for claim in quotas_of_provider(provider, now)]
        return Response({"data": quotas.tell(found)})
