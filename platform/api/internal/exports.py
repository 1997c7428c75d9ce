"""The whole ledger as a file, with what the providers took."""

from __future__ import annotations

from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from api.internal.usage import tenant_id_of
from api.permissions import Operators
from api.v1 import exports
from usage.export import FOR_STAFF


class UsageExport(APIView):
    permission_classes = [Operators]
    content_negotiation_class = exports.AnyFormat

    @extend_schema(
        operation_id="internal_usage_export",
        tags=["usage"],
        parameters=[
            *exports.PARAMETERS,
            OpenApiParameter("tenant", str, description="A tenant's slug. All tenants."),
        ],
        responses=exports.RESPONSES,
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """Export all tenants' calls as CSV or JSON lines. Dates are UTC's."""
        slug = request.query_params.get("tenant")
        tenant_id = None if slug is None else tenant_id_of(slug)
        return exports.answer(request.query_params, FOR_STAFF, tenant_id, "UTC", also=("tenant",))
