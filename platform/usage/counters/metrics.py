"""What Prometheus is told of counters that cannot be asked."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

DEGRADED = Gauge(
    "patchbay_counters_degraded",
    "Gateways whose counters' store is away, late or being filled again.",
    multiprocess_mode="livesum",
)
UNASKED = Counter(
    "patchbay_calls_without_counters_total",
    "Calls that were decided without the counters' store: admitted or refused by the gateway "
    "alone, or store_unavailable because of a hard quota.",
    ["outcome"],
)
