"""The metric by which an alert is raised: 1 for as long as a provider drifts, and then 0."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from prometheus_client import REGISTRY

from gateway.drift_metrics import DriftMetrics


def drift(slug: str) -> float | None:
    return REGISTRY.get_sample_value("patchbay_provider_drift", {"provider": slug})


def test_it_follows_the_snapshot() -> None:
    metrics = DriftMetrics()

    def publish(**drifting: bool) -> None:
        providers: Any = {slug: SimpleNamespace(drifting=it) for slug, it in drifting.items()}
        metrics.publish(providers)

    publish(a_drifter=False)
    assert drift("a_drifter") is None
    publish(a_drifter=True, another=True)
    assert (drift("a_drifter"), drift("another")) == (1, 1)
    publish(a_drifter=False)
    assert (drift("a_drifter"), drift("another")) == (0, 0), "one that is gone does not drift"
