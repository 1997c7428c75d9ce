"""The gauge of drained credentials: as the last snapshot has it, and back to nothing."""

from __future__ import annotations

from prometheus_client import REGISTRY

from gateway.credential_metrics import DrainedMetrics
from providers.snapshot import CredentialSpec
from tests.gateway.unit.rig import provider


def told(slug: str) -> float | None:
    return REGISTRY.get_sample_value("patchbay_credentials_drained", {"provider": slug})


def test_it_follows_the_snapshots() -> None:
    metrics = DrainedMetrics()
    bad = [CredentialSpec(f"crd_{n}", "s", drained=True) for n in range(2)]
    metrics.publish({"gauged": provider("gauged", secrets={None: [*bad, "ok"], 1: bad[:1]})})
    assert told("gauged") == 3
    metrics.publish({"gauged": provider("gauged", secrets={None: ["ok"]})})
    assert told("gauged") == 0
    assert told("never-drained") is None
