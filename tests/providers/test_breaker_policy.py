"""Policies as staff write them: presets, numbers of their own, and faults that say where."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.breaker_policy import Policies, Policy, PolicyFault, Window, parse
from providers.presets import PRESETS


def test_what_is_not_said_is_resilience4js() -> None:
    policy = Policy()
    assert parse({}) == Policies(policy, policy)
    assert (policy.failure_rate_threshold, policy.slow_call_rate_threshold) == (50, 100)
    assert (policy.slow_call_seconds, policy.minimum_calls, policy.open_seconds) == (60, 100, 60)
    assert policy.window == Window("count", 100)
    assert (policy.consecutive_failures, policy.permitted_probes) == (5, 1)


@pytest.mark.parametrize(
    ("preset", "numbers"),
    {"simple": (3, 5, 60), "development": (2, 3, 30), "production": (5, 10, 120)}.items(),
)
def test_presets(preset: str, numbers: tuple[int, int, int]) -> None:
    policy = parse({"preset": preset}).target
    attempts = PRESETS[preset]["retry"]["max_attempts"]
    assert (attempts, policy.consecutive_failures, policy.open_seconds) == numbers


def test_what_is_said_goes_before_the_preset_and_the_providers_before_both() -> None:
    window = {"type": "time", "seconds": 30.0}
    policies = parse(
        {
            "preset": "production",
            "failure_rate_threshold": 25,
            "minimum_calls": 20.0,
            "window": window,
            "provider": {"consecutive_failures": 50, "window": {"type": "count", "calls": 7}},
        }
    )
    assert policies.target == Policy(10, 25.0, 100.0, 60.0, 20, Window("time", 30), 120.0, 1)
    assert policies.provider == Policy(50, 25.0, 100.0, 60.0, 20, Window("count", 7), 120.0, 1)
    assert isinstance(policies.target.minimum_calls, int)


HOSTILE: list[tuple[Any, str]] = [
    ([], "breaker"),
    (None, "breaker"),
    ("production", "breaker"),
    ({"preset": "none"}, "preset"),
    ({"retries": 3}, "retries"),
    ({"failure_rate_threshold": 0}, "failure_rate_threshold"),
    ({"failure_rate_threshold": 101}, "failure_rate_threshold"),
    ({"failure_rate_threshold": True}, "failure_rate_threshold"),
    ({"failure_rate_threshold": "50"}, "failure_rate_threshold"),
    ({"consecutive_failures": 0}, "consecutive_failures"),
    ({"consecutive_failures": 1.5}, "consecutive_failures"),
    ({"consecutive_failures": 10**400}, "consecutive_failures"),
    ({"open_seconds": 0}, "open_seconds"),
    ({"open_seconds": -1}, "open_seconds"),
    ({"open_seconds": 1e300}, "open_seconds"),
    ({"permitted_probes": 10**6}, "permitted_probes"),
    ({"window": []}, "window"),
    ({"window": {}}, "window/type"),
    ({"window": {"type": "time"}}, "window"),
    ({"window": {"type": "time", "calls": 5, "seconds": 5}}, "window/calls"),
    ({"window": {"type": "count", "seconds": 5}}, "window/seconds"),
    ({"window": {"type": "count", "calls": 10**9}}, "window/calls"),
    ({"window": {"type": "sliding", "calls": 5}}, "window/type"),
    ({"provider": {"preset": "simple"}}, "provider/preset"),
    ({"provider": {"window": {"type": "time"}}}, "provider/window"),
    ({"provider": {"provider": {}}}, "provider/provider"),
]


@pytest.mark.parametrize(("value", "place"), HOSTILE, ids=[repr(v)[:50] for v, _ in HOSTILE])
def test_a_fault_says_where(value: Any, place: str) -> None:
    with pytest.raises(PolicyFault) as fault:
        parse(value)
    assert str(fault.value).startswith(f"{place}: ")
    assert len(str(fault.value)) > len(place) + 2


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(number: float) -> None:
    with pytest.raises((PolicyFault, ValueError)):
        parse({"open_seconds": number})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*json.loads(json.dumps(Policy().as_json())), "preset", "provider", "type", "calls", "seconds"]), inner),
    max_leaves=8,
)  # fmt: skip


@given(JSON)
def test_anything_is_a_policy_or_a_policy_fault(value: Any) -> None:
    try:
        policies = parse(value)
    except PolicyFault:
        return
    assert parse(policies.target.as_json()).target == policies.target
