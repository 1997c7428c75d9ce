"""Advice keeps away from what is usual, says why, and is silent where it knows too little."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.breaker import Breaker, Result, State
from providers.resilience import Layer, Whose, faults, merge
from tests.clocks import ManualClock
from tests.factories import AttemptFactory, UsageRecordFactory
from usage import rollups
from usage.advice import LEAST, Observed, advise, observe

DEFAULTS = merge([])


def advised(**seen: Any) -> dict[str, Any]:
    given = {"attempts": 10_000, "faults": 0, "per_minute": 60.0, "p95": 300, "p99": 800} | seen
    return {each.path: each.value for each in advise(Observed(**given), DEFAULTS)}


OBSERVED = st.builds(
    lambda attempts, share, pace, p99: Observed(
        attempts, int(attempts * share), pace, p99 if p99 is None else p99 // 2, p99
    ),
    st.integers(LEAST, 10**7),
    st.floats(0, 1),
    st.floats(1e-4, 1e5),
    st.none() | st.integers(0, 30_000),
)


@given(OBSERVED)
def test_advice_can_be_applied_and_has_nothing_to_add_afterwards(seen: Observed) -> None:
    said = {each.path.rpartition("/")[2]: each.value for each in advise(seen, DEFAULTS)}
    assert faults({"breaker": said}) == []
    assert advise(seen, merge([Layer(Whose.PROVIDER, {"breaker": said})])) == []


@given(OBSERVED)
def test_every_reason_holds_a_figure(seen: Observed) -> None:
    for each in advise(seen, DEFAULTS):
        assert each.reason == "half of the window" or any(map(str.isdigit, each.reason)) or (
            each.reason == "half of those expected"
        )  # fmt: skip


@given(st.integers(0, 9_000))
def test_a_threshold_is_above_what_is_usual(failed: int) -> None:
    percent = advised(faults=failed).get("breaker/failure_rate_threshold", 50.0)
    assert percent > failed / 100


def test_what_is_usual_opens_nothing() -> None:
    """Ten thousand calls of which three in ten fail, evenly: it stays closed as advised, and
    opens as it was."""
    said = {path.rpartition("/")[2]: value for path, value in advised(faults=3000).items()}
    advised_policy = merge([Layer(Whose.PROVIDER, {"breaker": said})]).breaker.target
    assert advised_policy.consecutive_failures == math.ceil(math.log(1e-6) / math.log(0.3))
    opened = {}
    for name, policy in (("was", DEFAULTS.breaker.target), ("is", advised_policy)):
        breaker = Breaker(ManualClock(), policy)
        for number in range(2000):
            permit = breaker.permit()
            if permit is None:
                break
            failed = number * 7919 % 100 < 30 or 50 <= number < 56  # six in a row, once
            breaker.end(permit, Result.FAILURE if failed else Result.SUCCESS)
        opened[name] = breaker.state is State.OPEN
    assert opened == {"was": True, "is": False}


def test_slow_is_twice_what_99_in_100_take() -> None:
    assert advised(p99=800)["breaker/slow_call_seconds"] == 2.0
    assert advised(p99=3)["breaker/slow_call_seconds"] == 1.0
    assert "breaker/slow_call_seconds" not in advised(p99=None)
    assert "breaker/slow_call_seconds" not in advised(p99=30_000)


@pytest.mark.parametrize(
    ("pace", "window", "minimum"),
    [
        (6000.0, {"type": "count", "calls": 1000}, 500),
        (60.0, None, 50),  # the last 100 calls, as ever
        (10.0, {"type": "time", "seconds": 120}, 10),
        (0.5, {"type": "time", "seconds": 2400}, 10),
        (0.1, {"type": "time", "seconds": 3600}, 5),
        (0.01, None, None),
    ],
)
def test_the_window_fits_the_pace(pace: float, window: Any, minimum: int | None) -> None:
    said = advised(per_minute=pace)
    assert (said.get("breaker/window"), said.get("breaker/minimum_calls")) == (window, minimum)


@pytest.mark.django_db
def test_what_is_observed_is_what_counts_against_the_breaker() -> None:
    for verdict in ("ok", "empty", "timeout", "upstream_unavailable", "rate_limited", "auth"):
        row = UsageRecordFactory(attempts=1, code="x", status=503)
        AttemptFactory(request_id=row.request_id, verdict=verdict, latency_ms=40)
    for mode in ("live", "test"):
        UsageRecordFactory(mode=mode, latency_ms=40)
    rollups.rebuild()
    seen = observe()["lab"]
    assert (seen.attempts, seen.faults, seen.per_minute) == (7, 2, 7 / 60)
    assert seen.p99 is not None and 25 < seen.p99 <= 50
    assert not seen.enough
