"""How breakers and retries fare, for those who run the service: what was tried again, who
rests, and what the machinery costs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api import vitals
from api.permissions import Operators
from api.serializers import Shown
from api.v1.health import STATES, BreakersShown
from api.v1.usage import LatencyShown, refusal
from lib.clock import rfc3339, utc
from providers import effective, timing
from providers.models import Credential
from usage.attempt_sums import Again, again_since, attempts_since
from usage.summaries import latencies

MOST_MINUTES = 1440


class TriedShown(Shown):
    attempts = serializers.IntegerField(help_text="Tries, each call's first included.")
    failures = serializers.IntegerField(help_text="Those that gave no answer, whoever's fault.")
    retries = serializers.IntegerField(help_text="Tries at a target that had failed the call.")
    fallbacks = serializers.IntegerField(help_text="Tries at a next target.")
    failure_rate = serializers.FloatField(allow_null=True, help_text="Per cent.")


class ProviderTriedShown(TriedShown):
    provider = serializers.CharField()
    latency_ms = LatencyShown()


class MetricsShown(Shown):
    data = ProviderTriedShown(many=True)  # type: ignore[assignment]  # not Serializer.data
    totals = TriedShown()
    breakers = BreakersShown(help_text="As this worker knows them.")
    minutes = serializers.IntegerField()
    since = serializers.DateTimeField()


class DrainedShown(Shown):
    provider = serializers.CharField(source="provider.slug")
    name = serializers.CharField()
    tenant = serializers.CharField(source="tenant.slug", allow_null=True, default=None)
    drained_at = serializers.DateTimeField()
    reason = serializers.CharField(source="drained_reason")


class ResilienceHealthShown(Shown):
    status = serializers.ChoiceField(
        choices=STATES,
        help_text="degraded: a breaker rests or probes, or a credential is drained. down: so it "
        "is with every provider that could be called.",
    )
    breakers = BreakersShown(help_text="As this worker knows them.")
    drained = DrainedShown(many=True, help_text="Credentials that providers refused.")


class TimingShown(Shown):
    microseconds = serializers.FloatField(help_text="Of CPU, for one.")
    iterations = serializers.IntegerField()


class BenchmarkShown(Shown):
    breaker_decision = TimingShown(
        help_text="Leave for a call and its good end at one breaker; a call has two."
    )
    policy_merge = TimingShown(help_text="One provider's, when a snapshot is loaded.")
    took_ms = serializers.FloatField()


class Metrics(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_resilience_metrics",
        tags=["resilience"],
        parameters=[
            OpenApiParameter(
                "minutes",
                {"type": "integer", "minimum": 1, "maximum": MOST_MINUTES, "default": 60},
                description="How far back.",
            )
        ],
        responses=MetricsShown,
    )
    def get(self, request: Request) -> Response:
        """Show what live calls tried, failed and tried again, by provider."""
        minutes = _minutes(request.query_params)
        since = (time.time() // 60 - minutes) * 60
        again = again_since(since)
        rows = [
            {"provider": row["provider"], **_tried(row, again.get(row["provider"], Again()))}
            | {"latency_ms": latencies(row | {"calls": row["attempts"]})}
            for row in attempts_since(since)
        ]
        return Response(
            {
                "data": rows,
                "totals": _total(rows),
                "breakers": vitals.breakers_part(),
                "minutes": minutes,
                "since": rfc3339(utc(since)),
            }
        )


class ResilienceHealth(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_resilience_health",
        tags=["resilience"],
        responses={200: ResilienceHealthShown, 503: ResilienceHealthShown},
    )
    def get(self, request: Request) -> Response:
        """Say whether all that could be called can be."""
        drained = list(
            Credential.objects.filter(drained_at__isnull=False)
            .select_related("provider", "tenant")
            .order_by("pk")
        )
        status = vitals.providers_status()
        report = {"status": status, "breakers": vitals.breakers_part(), "drained": drained}
        shown = ResilienceHealthShown(report).data
        return Response(shown, status=503 if status == "down" else 200)


class Benchmark(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_resilience_benchmark", tags=["resilience"], responses=BenchmarkShown
    )
    def get(self, request: Request) -> Response:
        """Measure what a breaker's decision costs here and now; it takes less than 0.1 s."""
        begun = time.perf_counter()
        decision = timing.breaker_decision()
        merge = timing.policy_merge(effective.house_layers())
        took = round((time.perf_counter() - begun) * 1000, 2)
        told = {"breaker_decision": decision._asdict(), "policy_merge": merge._asdict()}
        return Response({**told, "took_ms": took})


def _minutes(query: Mapping[str, str]) -> int:
    for name in query.keys() - {"minutes"}:
        raise refusal(name[:80], "Unknown. Leave it out.")
    text = query.get("minutes", "60")
    if text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MOST_MINUTES:
        return int(text)
    raise refusal("minutes", f"Must be a whole number from 1 to {MOST_MINUTES}.")


def _tried(row: Mapping[str, int], again: Again) -> dict[str, Any]:
    attempts, failures = row["attempts"], row["failures"]
    rate = round(100 * failures / attempts, 3) if attempts else None
    return {"attempts": attempts, "failures": failures, **again._asdict(), "failure_rate": rate}


def _total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    attempts, failures, retries, fallbacks = (
        sum(row[name] for row in rows) for name in ("attempts", "failures", "retries", "fallbacks")
    )
    return _tried({"attempts": attempts, "failures": failures}, Again(retries, fallbacks))
