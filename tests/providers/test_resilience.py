"""Layers of policies: the later word wins, number by number, and every fault says where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.environment import Environment
from providers.breaker_policy import Policies, Policy, Window, parse
from providers.presets import PRESETS
from providers.resilience import (
    Layer,
    Origin,
    Resilience,
    Whose,
    faults,
    merge,
    without_faults,
)
from providers.retry_policy import RetryPolicy

ORDER = [Whose.ENVIRONMENT, Whose.HOUSE, Whose.PROVIDER]


def merged(*said: Any) -> Resilience:
    return merge(map(Layer, ORDER, said))


def test_nothing_said_is_the_defaults() -> None:
    policy = merge([])
    assert (policy.retry, policy.breaker) == (RetryPolicy(), Policies())
    assert {number.origin for number in policy.numbers()} == {Origin(Whose.DEFAULT)}


def test_the_preset_simple_is_the_defaults() -> None:
    simple = merged({"breaker": {"preset": "simple"}})
    assert (simple.retry, simple.breaker) == (RetryPolicy(), Policies())


@pytest.mark.parametrize(
    ("preset", "numbers"),
    {"simple": (3, 5, 60), "development": (2, 3, 30), "production": (5, 10, 120)}.items(),
)
def test_a_preset_is_of_breaker_and_retry(preset: str, numbers: tuple[int, int, int]) -> None:
    policy = merged({"breaker": {"preset": preset}})
    for breaker in (policy.breaker.target, policy.breaker.provider):
        told = (policy.retry.max_attempts, breaker.consecutive_failures, breaker.open_seconds)
        assert told == numbers


def test_the_order() -> None:
    policy = merged(
        {"breaker": {"preset": "production"}},
        {"breaker": {"preset": "simple", "open_seconds": 7}, "retry": {"budget_percent": 5}},
        {"breaker": {"preset": "development", "minimum_calls": 9}, "retry": {"max_attempts": 1}},
    )
    assert policy.retry == RetryPolicy(max_attempts=1, budget_percent=5)
    assert policy.breaker.target == Policy(3, minimum_calls=9, open_seconds=30.0)
    assert policy.origins["breaker"]["open_seconds"] == Origin(Whose.PROVIDER, "development")
    assert policy.origins["breaker"]["minimum_calls"] == Origin(Whose.PROVIDER)
    assert policy.origins["retry"]["max_attempts"] == Origin(Whose.PROVIDER)
    assert policy.origins["retry"]["budget_percent"] == Origin(Whose.HOUSE)
    assert policy.origins["retry"]["base_seconds"] == Origin(Whose.DEFAULT)


def test_what_the_house_says_of_a_providers_breaker_ends_where_the_provider_says_more() -> None:
    house = {"breaker": {"provider": {"consecutive_failures": 50, "open_seconds": 9}}}
    breaker = merged({}, house, {"breaker": {"consecutive_failures": 7}}).breaker
    assert (breaker.target.consecutive_failures, breaker.provider.consecutive_failures) == (7, 7)
    assert (breaker.target.open_seconds, breaker.provider.open_seconds) == (60, 9)


def test_only_what_differs_is_told_of_the_providers_own_breaker() -> None:
    policy = merged({}, {}, {"breaker": {"provider": {"window": {"type": "time", "seconds": 9}}}})
    whole = [number for number in policy.numbers() if number.path.startswith("breaker/provider/")]
    assert whole == [
        ("breaker/provider/window", {"type": "time", "seconds": 9}, Origin(Whose.PROVIDER))
    ]
    assert policy.breaker.provider.window == Window("time", 9)
    assert len(policy.numbers()) == 4 + 8 + 1


WINDOWS = st.integers(1, 3600).flatmap(
    lambda size: st.sampled_from(
        [{"type": "count", "calls": size}, {"type": "time", "seconds": size}]
    )
)
RULES: dict[str, Any] = {
    "consecutive_failures": st.integers(1, 1000),
    "failure_rate_threshold": st.floats(0.5, 100),
    "slow_call_rate_threshold": st.integers(1, 100),
    "slow_call_seconds": st.floats(0.001, 100),
    "minimum_calls": st.integers(1, 1000),
    "window": WINDOWS,
    "open_seconds": st.integers(1, 1000),
    "permitted_probes": st.integers(1, 9),
}
RETRY: dict[str, Any] = {
    "max_attempts": st.integers(1, 10),
    "base_seconds": st.floats(0, 60),
    "max_seconds": st.floats(0, 60),
    "budget_percent": st.integers(0, 100),
}
SAID = st.fixed_dictionaries(
    {},
    optional={
        "breaker": st.fixed_dictionaries(
            {},
            optional=RULES
            | {
                "preset": st.sampled_from(sorted(PRESETS)),
                "provider": st.fixed_dictionaries({}, optional=RULES),
            },
        ),
        "retry": st.fixed_dictionaries({}, optional=RETRY),
    },
)


def last_word(said: Sequence[Any], part: str, name: str, whole: bool = False) -> Any:
    """The number that counts, found the long way: from the last layer back."""
    for layer in reversed(said):
        rules = layer.get(part, {})
        if whole and name in rules.get("provider", {}):
            return rules["provider"][name]
        if name in rules:
            return rules[name]
        preset = PRESETS.get(layer.get("breaker", {}).get("preset", ""), {})
        if name in preset.get(part, {}):
            return preset[part][name]
    return (Policy().as_json() | asdict(RetryPolicy()))[name]


@given(st.lists(SAID, min_size=3, max_size=3))
def test_later_layers_win_field_by_field(said: list[Any]) -> None:
    assert not any(map(faults, said))
    policy = merged(*said)
    target, whole = policy.breaker.target.as_json(), policy.breaker.provider.as_json()
    for name in RULES:
        assert target[name] == last_word(said, "breaker", name)
        assert whole[name] == last_word(said, "breaker", name, whole=True)
    for name in RETRY:
        assert getattr(policy.retry, name) == last_word(said, "retry", name)


@given(st.lists(SAID, min_size=3, max_size=3))
def test_what_is_in_force_reads_back_as_itself(said: list[Any]) -> None:
    policy = merged(*said)
    told = policy.as_json()
    assert faults(told) == []
    again = merge([Layer(Whose.PROVIDER, told)])
    assert (again.retry, again.breaker) == (policy.retry, policy.breaker)


@given(SAID)
def test_a_layer_alone_is_what_a_breakers_policy_always_was(said: Any) -> None:
    assert merged(said).breaker == parse(said.get("breaker", {}))


HOSTILE: list[tuple[Any, list[str]]] = [
    ([], ["the policy"]),
    (None, ["the policy"]),
    ("simple", ["the policy"]),
    ({"breaker": None}, ["breaker"]),
    ({"retry": []}, ["retry"]),
    ({"preset": "simple"}, ["preset"]),
    ({"breaker": {"preset": "none"}}, ["breaker/preset"]),
    ({"retry": {"preset": "simple"}}, ["retry/preset"]),
    ({"retry": {"max_attempts": 0}}, ["retry/max_attempts"]),
    ({"retry": {"max_attempts": 11}}, ["retry/max_attempts"]),
    ({"retry": {"max_attempts": 2.5}}, ["retry/max_attempts"]),
    ({"retry": {"max_attempts": True}}, ["retry/max_attempts"]),
    ({"retry": {"base_ms": 1000}}, ["retry/base_ms"]),
    ({"retry": {"base_seconds": -1, "max_seconds": "4"}}, ["retry/base_seconds", "retry/max_seconds"]),
    ({"retry": {"budget_percent": 101}}, ["retry/budget_percent"]),
    ({"retry": {"budget_percent": float("nan")}}, ["retry/budget_percent"]),
    ({"breaker": {"window": {"type": "time"}}}, ["breaker/window"]),
    ({"breaker": {"window": {"type": "count", "seconds": 1, "calls": 1}}}, ["breaker/window/seconds"]),
    ({"breaker": {"provider": {"window": {"type": "time", "calls": 5, "seconds": 5}}}}, ["breaker/provider/window/calls"]),
    ({"breaker": {"minimum_calls": 0}, "retry": {"max_attempts": 0}}, ["breaker/minimum_calls", "retry/max_attempts"]),
]  # fmt: skip


@pytest.mark.parametrize(("said", "places"), HOSTILE, ids=[repr(v)[:60] for v, _ in HOSTILE])
def test_every_fault_says_where(said: Any, places: list[str]) -> None:
    found = [str(fault).partition(": ") for fault in faults(said)]
    assert [place for place, _, _ in found] == places
    assert all(text for _, _, text in found)


def test_of_a_layer_with_faults_the_sound_part_is_kept() -> None:
    said = {"breaker": {"preset": "none"}, "retry": {"max_attempts": 1}}
    assert without_faults(said) == {"retry": {"max_attempts": 1}}
    assert without_faults({"breaker": {}, "retry": 5}) == {"breaker": {}}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["breaker", "retry", *RULES, *RETRY, "preset", "provider", "type", "calls"]), inner),
    max_leaves=8,
)  # fmt: skip


@given(JSON)
def test_anything_has_faults_or_can_be_merged(said: Any) -> None:
    if not faults(said):
        merged(said)


def test_the_setting_knows_every_preset_and_no_other() -> None:
    assert get_args(Environment.model_fields["RESILIENCE_PRESET"].annotation) == tuple(PRESETS)
