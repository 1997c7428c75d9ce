"""Drained credentials as Prometheus sees them: what somebody has to replace or put right."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Gauge

from providers.snapshot import ProviderSpec

DRAINED = Gauge(
    "patchbay_credentials_drained",
    "Credentials that their provider refused, and that are not used until staff say so.",
    ["provider"],
    multiprocess_mode="livemax",
)


class DrainedMetrics:
    """`publish` brings the metric up to what a new snapshot says."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def publish(self, providers: Mapping[str, ProviderSpec]) -> None:
        drained = {slug: count for slug, spec in providers.items() if (count := _drained(spec))}
        for slug in self._told | drained.keys():
            DRAINED.labels(slug).set(drained.get(slug, 0))
        self._told |= drained.keys()


def _drained(provider: ProviderSpec) -> int:
    return sum(each.drained for held in provider.secrets.values() for each in held)
