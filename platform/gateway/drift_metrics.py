"""Providers that answer in another shape than their definitions tell, as Prometheus sees them."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Gauge

from providers.snapshot import ProviderSpec

DRIFTING = Gauge(
    "patchbay_provider_drift",
    "1 while the last verification of a provider found answers that do not map any more.",
    ["provider"],
    multiprocess_mode="livemax",
)


class DriftMetrics:
    """`publish` brings the metric up to what a new snapshot says."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def publish(self, providers: Mapping[str, ProviderSpec]) -> None:
        drifting = {slug for slug, spec in providers.items() if spec.drifting}
        for slug in self._told | drifting:
            DRIFTING.labels(slug).set(slug in drifting)
        self._told |= drifting
