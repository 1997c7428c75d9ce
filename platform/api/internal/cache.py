"""The cache for those who run the service: how full it is, what it saves, and forgetting."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api import caches, invalidation
from api.internal import cache_figures
from api.internal.breakers import who
from api.internal.usage import tenant_id_of
from api.permissions import Operators
from api.serializers import Body, Shown
from api.v1 import usage

_COUNTS = (
    ("hits", "From memory."),
    ("shared_hits", "From the second level."),
    ("waited", "Had the answer that an equal call was fetching."),
    ("stale", "Served stale while it was fetched again."),
    ("on_error", "Served stale because no provider could answer."),
    ("misses", "A provider was asked."),
    ("stored", "Answers kept."),
    ("revalidated", "A provider said that what is kept still holds."),
    ("not_kept", "Answers that may not be kept, or are too large."),
    ("stored_bytes", "Of bodies, as they are kept."),
    ("saved_bytes", "By how much compression made them smaller."),
    ("invalidations", "Tags that this gateway was told to forget."),
    ("torn", "Entries of the second level that could not be read."),
)


class LevelShown(Shown):
    bytes = serializers.IntegerField(allow_null=True)
    limit_bytes = serializers.IntegerField(allow_null=True)
    entries = serializers.IntegerField(allow_null=True)


class MemoryShown(LevelShown):
    evictions = serializers.IntegerField(help_text="Entries that left for others to come.")


class SharedShown(LevelShown):
    configured = serializers.BooleanField(help_text="Whether there is a store for all gateways.")
    usable = serializers.BooleanField(help_text="Whether this gateway can use it now.")


class FiguresShown(Shown):
    hit_ratio = serializers.FloatField(allow_null=True, help_text="0…1 of what was looked for.")

    def get_fields(self) -> Any:
        counts = {name: serializers.IntegerField(help_text=text) for name, text in _COUNTS}
        return {**super().get_fields(), **counts}


class CacheStatusShown(Shown):
    memory = MemoryShown(
        allow_null=True, help_text="The first level, this gateway's; null where none runs."
    )
    shared = SharedShown(
        help_text="The second level, of all gateways. What has expired is counted until its room "
        "is needed; null where the store does not answer."
    )
    figures = FiguresShown(allow_null=True, help_text="This gateway's, since it began.")
    since = serializers.DateTimeField(allow_null=True, help_text="When it began.")


class SavedShown(Shown):
    hits = serializers.IntegerField(help_text="Fresh answers; stale ones save nothing for sure.")
    cost_microusd = serializers.IntegerField(help_text="What providers took for them at first.")
    ms = serializers.IntegerField(help_text="How long providers took for them at first.")
    bytes = serializers.IntegerField(help_text="Of bodies.")


class RatioShown(Shown):
    calls = serializers.IntegerField()
    hits = serializers.IntegerField(help_text="Fresh or stale.")
    hit_ratio = serializers.FloatField(allow_null=True, help_text="0…1 of all calls.")
    saved_here = SavedShown(help_text="By this gateway, since it began: not of the span.")


class OperationRatioShown(RatioShown):
    operation = serializers.CharField()


class TenantRatioShown(RatioShown):
    tenant = serializers.CharField(
        allow_null=True,
        help_text="Its slug; null for the house, and tenants that are gone or too many.",
    )


class AskedShown(Shown):
    key = serializers.CharField(help_text="For `invalidate`. It tells nothing of the request.")
    operation = serializers.CharField()
    route = serializers.CharField()
    fields_asked = serializers.IntegerField(help_text="How many fields the request has.")
    hits = serializers.IntegerField(help_text="Fresh answers since this gateway began.")
    age_seconds = serializers.IntegerField(
        allow_null=True, help_text="Null where it is no longer in memory."
    )
    size_bytes = serializers.IntegerField(allow_null=True, help_text="What it takes of memory.")


class SemanticShown(Shown):
    """Questions that were compared with earlier ones, on a route that wants that."""

    route = serializers.CharField()
    hits = serializers.IntegerField(help_text="Answered with a nearly equal question's answer.")
    misses = serializers.IntegerField(help_text="No earlier one was near enough.")
    failed = serializers.IntegerField(help_text="No embedding could be had in time.")
    mean_similarity = serializers.FloatField(allow_null=True, help_text="Of the hits: the cosine.")
    checked = serializers.IntegerField(help_text="Hits that a provider was asked for as well.")
    agreed = serializers.IntegerField(help_text="Of which it said the same.")
    agreed_ratio = serializers.FloatField(
        allow_null=True, help_text="0…1. What is missing to 1 are false hits."
    )


class CacheAnalyticsShown(Shown):
    operations = OperationRatioShown(many=True)
    tenants = TenantRatioShown(many=True)
    totals = RatioShown()
    most_asked = AskedShown(many=True, help_text="Of this gateway; of all tenants.")
    semantic = SemanticShown(
        many=True, help_text="By route: of this gateway since it began; of all tenants."
    )
    since = serializers.DateTimeField(
        allow_null=True, help_text="When this gateway began; null where none runs."
    )

    def get_fields(self) -> Any:
        """`from` is a word of Python's."""
        moment = serializers.DateTimeField
        return {**super().get_fields(), "from": moment(), "to": moment()}


class InvalidationAsked(Body):
    tag = serializers.CharField(
        required=False,
        help_text="Such as symbol:AAPL. Tenants in `client:<tenant>:<name>` by slug or id.",
    )
    operation = serializers.CharField(required=False)
    tenant = serializers.CharField(required=False, help_text="A tenant's slug or id.")
    provider = serializers.CharField(required=False, help_text="A provider's slug.")
    model = serializers.CharField(required=False, help_text="provider/model.")
    route = serializers.CharField(required=False, help_text="A route's alias, or its operation.")
    key = serializers.CharField(required=False, help_text="Of one answer, as analytics has it.")
    all = serializers.BooleanField(required=False, help_text="true: everything.")
    reason = serializers.CharField(max_length=500, required=False, allow_blank=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        said = attrs.keys() - {"reason"}
        if len(said) != 1 or attrs.get("all") is False:
            names = ", ".join(invalidation.KINDS)
            raise serializers.ValidationError(f"Say exactly one of {names}, or `all: true`.")
        return attrs

    def named(self) -> invalidation.Named:
        """Raises InvalidRequest."""
        (what,) = self.validated_data.keys() - {"reason"}
        if what == invalidation.ALL:
            return invalidation.EVERYTHING
        return invalidation.named(what, self.validated_data[what])


class InvalidationShown(Shown):
    what = serializers.ChoiceField(choices=[*invalidation.KINDS, invalidation.ALL])
    which = serializers.CharField()
    everywhere = serializers.BooleanField(
        help_text="true: on every gateway within a second. false: the store is away, so it is in "
        "force on this gateway, and on others once the store is back."
    )


class CacheStatus(APIView):
    permission_classes = [Operators]

    @extend_schema(operation_id="internal_cache_status", tags=["cache"], responses=CacheStatusShown)
    def get(self, request: Request) -> Response:
        """Show how full both levels are, and what this gateway's cache did since it began."""
        return Response(caches.status())


class CacheAnalytics(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_cache_analytics",
        tags=["cache"],
        parameters=[
            OpenApiParameter("from", str, description="RFC 3339, or a date. A day before `to`."),
            OpenApiParameter("to", str, description="RFC 3339, or a date: its end. Now."),
            OpenApiParameter("mode", str, enum=["live", "test"], default="live"),
            OpenApiParameter("tenant", str, description="A tenant's slug. All tenants."),
        ],
        responses=CacheAnalyticsShown,
    )
    def get(self, request: Request) -> Response:
        """Show hits by operation and by tenant, of all gateways, and what this one saved."""
        query = request.query_params
        question = usage.understood(query, (), "UTC", also=("tenant",), days=1)
        tenant_id = tenant_id_of(query["tenant"]) if "tenant" in query else None
        return Response(cache_figures.analytics(question, tenant_id))


class CacheInvalidation(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_cache_invalidate",
        tags=["cache"],
        request=InvalidationAsked,
        responses=InvalidationShown,
    )
    def post(self, request: Request) -> Response:
        """Forget answers: exactly one of what may be named, on every gateway within a second."""
        body = InvalidationAsked(data=request.data)
        body.is_valid(raise_exception=True)
        named = body.named()
        reason = body.validated_data.get("reason", "")
        everywhere = invalidation.invalidate(named, reason=reason, **who(request))
        return Response({"what": named.what, "which": named.which, "everywhere": everywhere})
