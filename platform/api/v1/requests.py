"""One call, as the ledger and the attempt log know it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import Http404
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.identity import Identity
from api.permissions import identity_of
from api.serializers import MoneyField, Shown
from usage.models import UsageRecord


class AttemptShown(Shown):
    number = serializers.IntegerField()
    provider = serializers.CharField()
    model = serializers.CharField()
    verdict = serializers.CharField()
    status = serializers.IntegerField()
    latency_ms = serializers.IntegerField()
    created_at = serializers.DateTimeField()


class UsageShown(Shown):
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()
    reasoning_tokens = serializers.IntegerField()
    units = serializers.IntegerField()


class CallShown(Shown):
    request_id = serializers.CharField()
    created_at = serializers.DateTimeField()
    mode = serializers.CharField()
    operation = serializers.CharField()
    route = serializers.CharField()
    provider = serializers.CharField()
    model = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField(
        help_text="ok, a problem's code, stream_cut or hung_up; empty when we crashed meanwhile."
    )
    streamed = serializers.BooleanField()
    estimate = serializers.CharField(help_text="Why the usage is estimated; empty: it is not.")
    usage = UsageShown(source="*")
    cost = MoneyField(source="charge", help_text="What the tenant pays.")
    latency_ms = serializers.IntegerField()
    headers = serializers.CharField(
        allow_null=True,
        help_text="Of the request, a line each: which client it was and what it wanted. Keys, "
        "cookies and all others are not kept.",
    )
    attempts = serializers.SerializerMethodField()

    @extend_schema_field(AttemptShown(many=True))
    def get_attempts(self, record: UsageRecord) -> list[dict[str, Any]]:
        return [dict(AttemptShown(attempt).data) for attempt in record.tries()]


class RequestDetail(APIView):
    @extend_schema(operation_id="requests_retrieve", tags=["requests"], responses=CallShown)
    def get(self, request: Request, request_id: UUID) -> Response:
        """Show a call of your tenant: attempts, providers, latency, cost."""
        record = _visible(identity_of(request)).filter(request_id=str(request_id)).first()
        if record is None:
            raise Http404
        return Response(CallShown(record).data)


def _visible(identity: Identity) -> Any:
    """Staff without a tenant see every call; all others their tenant's."""
    if identity.tenant_id is None:
        return UsageRecord.objects.all() if identity.is_staff else UsageRecord.objects.none()
    return UsageRecord.objects.of_tenant(identity.tenant_id)
