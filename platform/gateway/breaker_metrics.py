"""Breakers as Prometheus sees them, under resilience4j's names.

Gathered now and then, so that a call pays nothing for it. Labels are bounded: a tenant's own
breakers are left out, and of the others those first met are told, MOST_TOLD at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from prometheus_client import Counter, Gauge

from providers.breaker import State
from providers.breakers import Breakers, Figures

TELL_SECONDS = 0.5
MOST_TOLD = 200

_PREFIX = "resilience4j_circuitbreaker"
STATE = Gauge(
    f"{_PREFIX}_state",
    "How many workers know the breaker in this state.",
    ["name", "state"],
    multiprocess_mode="livesum",
)
BUFFERED = Gauge(
    f"{_PREFIX}_buffered_calls",
    "Calls in the window.",
    ["name", "kind"],
    multiprocess_mode="livesum",
)
SLOW = Gauge(
    f"{_PREFIX}_slow_calls", "Slow calls in the window.", ["name"], multiprocess_mode="livesum"
)
FAILURE_RATE = Gauge(
    f"{_PREFIX}_failure_rate",
    "Per cent, of the worst worker; -1 while there are too few calls.",
    ["name"],
    multiprocess_mode="livemax",
)
SLOW_CALL_RATE = Gauge(
    f"{_PREFIX}_slow_call_rate",
    "Per cent, of the worst worker; -1 while there are too few calls.",
    ["name"],
    multiprocess_mode="livemax",
)
CALLS = Counter(f"{_PREFIX}_calls", "Calls that have ended.", ["name", "kind"])
NOT_PERMITTED = Counter(f"{_PREFIX}_not_permitted_calls", "Calls refused.", ["name"])


class BreakerMetrics:
    """`publish` brings the metrics up to what the breakers say."""

    def __init__(self) -> None:
        self._known: dict[str, Figures] = {}

    def publish(self, all_figures: Iterable[Figures]) -> None:
        for figures in all_figures:
            known = self._known.get(figures.name)
            if known is None and len(self._known) >= MOST_TOLD:
                continue
            if figures != known:
                self._known[figures.name] = figures
                _set(figures)
                _add(figures, known)


async def keep_publishing(breakers: Breakers) -> None:
    """Until it is cancelled."""
    metrics = BreakerMetrics()
    while True:
        metrics.publish(breakers.figures())
        await asyncio.sleep(TELL_SECONDS)


def _set(figures: Figures) -> None:
    name = figures.name
    for state in State:
        STATE.labels(name, state.lower()).set(figures.state is state)
    BUFFERED.labels(name, "failed").set(figures.failed_calls)
    BUFFERED.labels(name, "successful").set(figures.buffered_calls - figures.failed_calls)
    SLOW.labels(name).set(figures.slow_calls)
    FAILURE_RATE.labels(name).set(-1 if figures.failure_rate is None else figures.failure_rate)
    slow = figures.slow_call_rate
    SLOW_CALL_RATE.labels(name).set(-1 if slow is None else slow)


def _add(figures: Figures, known: Figures | None) -> None:
    """What came to the totals since."""
    name = figures.name
    kinds = ("successful", "failed", "ignored")
    for kind in kinds:
        before = getattr(known, f"{kind}_total") if known else 0
        CALLS.labels(name, kind).inc(getattr(figures, f"{kind}_total") - before)
    refused = known.not_permitted_total if known else 0
    NOT_PERMITTED.labels(name).inc(figures.not_permitted_total - refused)
