"""The breakers' metrics: resilience4j's names, true numbers, and labels that do not grow."""

from __future__ import annotations

from prometheus_client import REGISTRY

from gateway.breaker_metrics import MOST_TOLD, BreakerMetrics
from providers.breaker import Override, Result, State
from providers.breakers import Breakers
from tests.clocks import ManualClock

PREFIX = "resilience4j_circuitbreaker"


def told(metric: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"{PREFIX}_{metric}", labels)


def test_what_is_told() -> None:
    breakers, metrics = Breakers(ManualClock()), BreakerMetrics()
    breaker = breakers.of("metered")
    for result in (Result.SUCCESS, Result.FAILURE, Result.IGNORED, Result.FAILURE):
        permit = breaker.permit()
        assert permit is not None
        breaker.end(permit, result, 61)
    for _ in range(2):
        metrics.publish(breakers.figures())
    assert told("state", name="metered", state="closed") == 1
    assert told("calls_total", name="metered", kind="successful") == 1
    assert told("calls_total", name="metered", kind="failed") == 2
    assert told("calls_total", name="metered", kind="ignored") == 1
    assert told("buffered_calls", name="metered", kind="failed") == 2
    assert told("slow_calls", name="metered") == 3
    assert told("failure_rate", name="metered") == -1
    breakers.apply({"metered": Override(State.FORCED_OPEN)})
    assert breaker.permit() is None
    metrics.publish(breakers.figures())
    assert told("state", name="metered", state="closed") == 0
    assert told("state", name="metered", state="forced_open") == 1
    assert told("not_permitted_calls_total", name="metered") == 1


def test_labels_are_bounded() -> None:
    breakers, metrics = Breakers(ManualClock()), BreakerMetrics()
    for number in range(MOST_TOLD + 20):
        breakers.of(f"bounded/{number}")
    breakers.of("test:1:bounded/x")
    metrics.publish(breakers.figures())
    names = {
        sample.labels["name"]
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == f"{PREFIX}_state" and "bounded" in sample.labels["name"]
    }
    assert len(names) == MOST_TOLD and "test:1:bounded/x" not in names
