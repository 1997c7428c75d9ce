"""How the service is: one word for everyone, the details for those who run it."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api import vitals
from api.permissions import HealthReaders
from api.serializers import Shown
from api.v1.catalogue import ServingShown
from providers.breaker import State

STATES = [("ok", "ok"), ("degraded", "degraded"), ("down", "down")]
BREAKER_STATES = [(state.value, state.value) for state in State]


class HealthShown(Shown):
    status = serializers.ChoiceField(choices=STATES)


class PartShown(Shown):
    status = serializers.ChoiceField(choices=STATES)
    kind = serializers.CharField()
    latency_ms = serializers.FloatField(allow_null=True)


class ProvidersShown(Shown):
    total = serializers.IntegerField()
    enabled = serializers.IntegerField()
    each = ServingShown(many=True, help_text="The enabled ones.")


class BreakerShown(Shown):
    name = serializers.CharField(help_text="A provider, or provider/model for a target.")
    state = serializers.ChoiceField(choices=BREAKER_STATES)


class BreakersShown(Shown):
    closed = serializers.IntegerField()
    open = serializers.IntegerField()
    half_open = serializers.IntegerField()
    forced_open = serializers.IntegerField(help_text="By staff.")
    disabled = serializers.IntegerField(help_text="By staff.")
    resting = BreakerShown(many=True, help_text="Those not closed, 100 at most.")


class CallsShown(Shown):
    last_minute = serializers.IntegerField(help_text="Calls by the ledger, of all workers.")
    failed_last_minute = serializers.IntegerField(help_text="Those that ended with a 5xx.")
    per_second = serializers.FloatField()
    error_rate = serializers.FloatField(help_text="Failed calls as a share of all, 0 to 1.")
    open = serializers.IntegerField(help_text="Streams under way, of all workers.")
    in_flight = serializers.IntegerField(help_text="Calls this worker is answering.")


class DetailedHealthShown(HealthShown):
    database = PartShown()
    store = PartShown()
    providers = ProvidersShown(allow_null=True, help_text="Null while the database is down.")
    calls = CallsShown(allow_null=True, help_text="Null while the database is down.")
    breakers = BreakersShown(help_text="As this worker knows them.")
    uptime_seconds = serializers.IntegerField()
    memory_bytes = serializers.IntegerField(help_text="Most this process held so far.")
    cpu_seconds = serializers.FloatField(help_text="What this process used so far.")
    cpu_load = serializers.FloatField(help_text="The machine's load average of one minute.")
    cpus = serializers.IntegerField(allow_null=True)
    disk_free_bytes = serializers.IntegerField()


class Health(APIView):
    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]

    @extend_schema(
        operation_id="health", tags=["health"], responses={200: HealthShown, 503: HealthShown}
    )
    def get(self, request: Request) -> Response:
        """ok, degraded or down."""
        parts = vitals.database_part(), vitals.store_part()
        return _answer({"status": vitals.overall(*parts)})


class DetailedHealth(APIView):
    permission_classes = [HealthReaders]

    @extend_schema(
        operation_id="health_detailed",
        tags=["health"],
        responses={200: DetailedHealthShown, 503: DetailedHealthShown},
    )
    def get(self, request: Request) -> Response:
        """Each part, for staff and keys with `health:read`."""
        database, store = vitals.database_part(), vitals.store_part()
        has_database = database["status"] == "ok"
        report = {
            "status": vitals.overall(database, store),
            "database": database,
            "store": store,
            "providers": vitals.providers_part() if has_database else None,
            "calls": vitals.calls_part() if has_database else None,
            "breakers": vitals.breakers_part(),
            **vitals.process_part(),
        }
        return _answer(report)


def _answer(report: dict[str, Any]) -> Response:
    return Response(report, status=503 if report["status"] == "down" else 200)
