"""What a caller thinks of an answer."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.identity import Identity
from api.permissions import BUILDERS, identity_of
from api.serializers import Body, Shown
from lib.problems import Forbidden, InvalidRequest
from usage import feedback
from usage.models import UsageRecord

THUMBS = {"up": 1.0, "down": 0.0}


class FeedbackBody(Body):
    score = serializers.FloatField(
        min_value=0, max_value=1, required=False, help_text="0 is useless, 1 is perfect."
    )
    thumbs = serializers.ChoiceField(
        choices=list(THUMBS), required=False, help_text="Instead of a score."
    )
    comment = serializers.CharField(max_length=500, required=False, allow_blank=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("score" in attrs) == ("thumbs" in attrs):
            raise serializers.ValidationError({"score": ["Say either `score` or `thumbs`."]})
        if attrs.get("score") != attrs.get("score"):
            raise serializers.ValidationError({"score": ["Must be a number from 0 to 1."]})
        return attrs


class FeedbackShown(Shown):
    request_id = serializers.CharField()
    score = serializers.FloatField()
    comment = serializers.CharField()
    created_at = serializers.DateTimeField()
    changed_at = serializers.DateTimeField()


class RequestFeedback(APIView):
    @extend_schema(
        operation_id="requests_feedback",
        tags=["requests"],
        request=FeedbackBody,
        responses={200: FeedbackShown, 201: FeedbackShown},
    )
    def post(self, request: Request, request_id: UUID) -> Response:
        """Say how good the answer to a call of yours was; again, to change what you said."""
        record = _own(identity_of(request), str(request_id))
        body = FeedbackBody(data=request.data)
        body.is_valid(raise_exception=True)
        said = body.validated_data
        score = THUMBS[said["thumbs"]] if "thumbs" in said else said["score"]
        row, first = feedback.give(record=record, score=score, comment=said.get("comment", ""))
        return Response(FeedbackShown(row).data, status=201 if first else 200)


def _own(identity: Identity, request_id: str) -> UsageRecord:
    """The caller's tenant's call. Raises Forbidden, Http404, InvalidRequest."""
    if identity.tenant_id is None:
        raise Forbidden("You act for no tenant. Whoever made the call says how it was.")
    rows = UsageRecord.objects.of_tenant(identity.tenant_id)
    record: UsageRecord | None = rows.filter(request_id=request_id).first()
    if record is None:
        raise Http404
    if not _may(identity, record):
        raise Forbidden(
            "Feedback takes a key that may make such calls, or the role developer or higher."
        )
    if not record.provider:
        raise InvalidRequest("No provider answered this call, so there is nothing to judge.")
    return record


def _may(identity: Identity, record: UsageRecord) -> bool:
    if identity.kind == "key":
        return identity.may(record.operation) or identity.may("manage:tenant")
    return identity.role in BUILDERS
