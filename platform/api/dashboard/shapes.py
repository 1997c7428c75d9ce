"""The dashboards' answers, for the schema."""

from __future__ import annotations

from rest_framework import serializers

from api.dashboard.alerts import SEVERITIES
from api.serializers import Shown
from api.v1.health import BreakersShown, CallsShown, HealthShown, PartShown
from api.v1.usage import LatencyShown


class FiguresShown(Shown):
    calls = serializers.IntegerField()
    errors = serializers.IntegerField()  # type: ignore[assignment]  # a field of that name
    error_rate = serializers.FloatField(allow_null=True, help_text="0…1.")
    cache_hits = serializers.IntegerField()
    cache_hit_ratio = serializers.FloatField(allow_null=True, help_text="0…1.")
    tokens = serializers.IntegerField()
    cost_microusd = serializers.IntegerField(required=False, help_text="For staff only.")
    cost_usd = serializers.CharField(required=False)
    revenue_microusd = serializers.IntegerField(help_text="What tenants are charged.")
    revenue_usd = serializers.CharField()
    latency_ms = LatencyShown()


class DayShown(FiguresShown):
    until = serializers.DateTimeField(help_text="The end of the 24 hours.")


class MachineShown(Shown):
    cpu_load = serializers.FloatField(help_text="The machine's load average of one minute.")
    cpus = serializers.IntegerField(allow_null=True)
    cpu_seconds = serializers.FloatField(help_text="What this process used so far.")
    memory_bytes = serializers.IntegerField(help_text="Most this process held so far.")
    memory_total_bytes = serializers.IntegerField(help_text="What the machine has.")
    disk_free_bytes = serializers.IntegerField()
    disk_total_bytes = serializers.IntegerField()
    disk_days_left = serializers.FloatField(
        allow_null=True, help_text="At last week's rate; null where none is known."
    )
    uptime_seconds = serializers.IntegerField()


class SystemHealthShown(HealthShown):
    database = PartShown()
    store = PartShown()
    pool = serializers.DictField(
        child=serializers.IntegerField(),
        help_text="This process's connections to the database; empty for SQLite.",
    )
    machine = MachineShown()
    calls = CallsShown(allow_null=True)
    breakers = BreakersShown(help_text="As this worker knows them.")
    gateways = serializers.ListField(
        child=serializers.CharField(),
        help_text="Those that share counters, as they name themselves.",
    )
    trend = DayShown(many=True, help_text="Seven days, the oldest first.")


class TargetFiguresShown(Shown):
    provider = serializers.CharField()
    model = serializers.CharField()
    operation = serializers.CharField()
    attempts = serializers.IntegerField()
    failures = serializers.IntegerField()
    failure_rate = serializers.FloatField(allow_null=True, help_text="0…1.")
    tokens = serializers.IntegerField()
    cost_microusd = serializers.IntegerField()
    latency_ms = LatencyShown()
    quality = serializers.FloatField(
        allow_null=True, help_text="How good its answers are, 0…1, as this worker learnt it."
    )


class AgainShown(Shown):
    provider = serializers.CharField()
    retries = serializers.IntegerField(help_text="Tries at a target that had failed the call.")
    fallbacks = serializers.IntegerField(help_text="Tries at a next target.")


class ModelFiguresShown(FiguresShown):
    operation = serializers.CharField()
    model = serializers.CharField(allow_blank=True)


class LlmPerformanceShown(Shown):
    targets = TargetFiguresShown(many=True, required=False, help_text="For staff only.")
    fallbacks = AgainShown(many=True, required=False, help_text="For staff only.")
    models = ModelFiguresShown(many=True, help_text="Calls by operation and model.")
    hours = serializers.IntegerField()


class HitsShown(Shown):
    calls = serializers.IntegerField()
    hits = serializers.IntegerField()
    hit_ratio = serializers.FloatField(allow_null=True, help_text="0…1; null without calls.")


class OperationHitsShown(HitsShown):
    operation = serializers.CharField()


class CacheStatsShown(HitsShown):
    operations = OperationHitsShown(many=True)
    levels = serializers.DictField(required=False, help_text="How full they are. For staff only.")
    trend = serializers.ListField(
        child=serializers.FloatField(allow_null=True),
        help_text="The hit ratio of each of seven days of 24 hours, the oldest first.",
    )


class DatabaseHealthShown(PartShown):
    database_bytes = serializers.IntegerField(allow_null=True)
    bytes_per_day = serializers.IntegerField(allow_null=True, help_text="Over the last week.")
    disk_free_bytes = serializers.IntegerField()
    disk_days_left = serializers.FloatField(allow_null=True)
    pool = serializers.DictField(
        child=serializers.IntegerField(), help_text="This process's connections."
    )
    waiting_rollups = serializers.IntegerField(
        allow_null=True, help_text="Sums of commits that are not folded into the roll-ups yet."
    )
    open_calls = serializers.IntegerField(allow_null=True)
    audit_entries = serializers.IntegerField(allow_null=True)


class AlertShown(Shown):
    severity = serializers.ChoiceField(choices=[(s, s) for s in SEVERITIES])
    code = serializers.CharField()
    subject = serializers.CharField()
    text = serializers.CharField(help_text="What it means, and what to do.")
    since = serializers.DateTimeField(allow_null=True)


class AlertsShown(Shown):
    data = AlertShown(many=True)  # type: ignore[assignment]  # a field, not Serializer.data
