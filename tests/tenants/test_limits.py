from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from tenants.limits import (
    DEFAULT_RATE_LIMITS,
    LimitMetric,
    RateLimit,
    Scope,
    compile_rate_limits,
    validate_house_rate_limits,
    validate_provider_rate_limits,
    validate_rate_limits,
)

GOOD: dict[str, Any] = {"scope": "key", "limit": 60, "per_seconds": 60}
SLOTS: dict[str, Any] = {"scope": "key", "limit": 4, "metric": "concurrency"}
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "value",
    [None, [], [GOOD], DEFAULT_RATE_LIMITS, [GOOD] * 50, [GOOD | {"metric": "tokens"}, SLOTS]],
)
def test_what_is_right_passes(value: Any) -> None:
    validate_rate_limits(value)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ([GOOD | {"limit": 0}], "0/limit"),
        ([GOOD | {"limit": -1}], "0/limit"),
        ([GOOD | {"limit": True}], "0/limit"),
        ([GOOD | {"limit": "60"}], "0/limit"),
        ([GOOD | {"limit": 1.5}], "0/limit"),
        ([GOOD | {"limit": 10**9 + 1}], "0/limit"),
        ([GOOD, GOOD | {"per_seconds": 0}], "1/per_seconds"),
        ([GOOD | {"per_seconds": 31_622_401}], "0/per_seconds"),
        ([GOOD | {"scope": "planet"}], "0/scope"),
        ([GOOD | {"operations": "chat"}], "0/operations"),
        ([GOOD | {"operations": [""]}], "0/operations/0"),
        ([GOOD | {"burst": 5}], "0"),
        ([GOOD | {"metric": "cost"}], "0/metric"),
        ([GOOD | {"scope": "provider"}], "0/scope"),
        ([GOOD, SLOTS | {"per_seconds": 60}], "1"),
        ([{"scope": "key", "limit": 1, "metric": "tokens"}], "0"),
        ([{"scope": "key", "limit": 1}], "0"),
        ([GOOD] * 51, "rate_limits"),
        (GOOD, "rate_limits"),
        ("none", "rate_limits"),
        (0, "rate_limits"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(value: Any, where: str) -> None:
    with pytest.raises(ValidationError) as told:
        validate_rate_limits(value)
    assert told.value.messages[0].startswith(f"{where}: ")


@given(st.lists(junk | st.builds(lambda extra: GOOD | extra, st.dictionaries(st.sampled_from([*GOOD, "operations", "metric"]), junk)), max_size=3))  # fmt: skip
def test_what_passes_compiles(value: list[Any]) -> None:
    try:
        validate_rate_limits(value)
    except ValidationError:
        return
    for limit in compile_rate_limits(value):
        assert limit.limit >= 1
        assert (limit.per_seconds >= 1) is (limit.metric is not LimitMetric.CONCURRENCY)
        assert isinstance(limit.limit, int) and isinstance(limit.per_seconds, int)


def test_the_same_limit_twice_counts_a_call_once() -> None:
    assert len(compile_rate_limits([GOOD, dict(GOOD), GOOD | {"limit": 5}])) == 2


def test_a_whole_number_written_with_a_point_is_a_whole_number() -> None:
    value = [GOOD | {"limit": 60.0, "per_seconds": 10.0}]
    validate_rate_limits(value)
    (limit,) = compile_rate_limits(value)
    assert (repr(limit.limit), limit.name) == ("60", "key-10s")


def test_the_order_is_kept() -> None:
    limits = compile_rate_limits(DEFAULT_RATE_LIMITS)
    assert [(limit.scope, limit.limit) for limit in limits] == [
        ("ip", 60),
        ("ip", 30),
        ("ip", 100),
        ("key", 60),
        ("key", 1000),
    ]


@pytest.mark.parametrize(
    ("operation", "allowed"),
    [("chat.completions", [60]), ("embeddings", [30]), ("finance.quote", [100]), ("", [100])],
)
def test_the_defaults_give_each_operation_one_limit_per_address(
    operation: str, allowed: list[int]
) -> None:
    limits = compile_rate_limits(DEFAULT_RATE_LIMITS)
    per_address = [limit for limit in limits if limit.scope is Scope.IP]
    assert [limit.limit for limit in per_address if limit.covers(operation)] == allowed


@pytest.mark.parametrize(
    ("operations", "covered"),
    [
        ([], {"a", "b", "c"}),
        (["a"], {"a"}),
        (["a", "b"], {"a", "b"}),
        (["!a"], {"b", "c"}),
        (["!a", "!b"], {"c"}),
        (["a", "!b"], {"a"}),
        (["a", "!a"], set()),
    ],
)
def test_what_a_limit_covers(operations: list[str], covered: set[str]) -> None:
    limit = RateLimit(Scope.KEY, 1, 1, frozenset(operations))
    assert {name for name in "abc" if limit.covers(name)} == covered


@pytest.mark.parametrize(
    ("scope", "seconds", "name"),
    [
        (Scope.KEY, 60, "key-minute"),
        (Scope.IP, 1, "ip-second"),
        (Scope.TENANT, 86400, "tenant-day"),
        (Scope.USER, 3600, "user-hour"),
        (Scope.IP, 10, "ip-10s"),
    ],
)
def test_names(scope: Scope, seconds: int, name: str) -> None:
    assert RateLimit(scope, 5, seconds).name == name


@pytest.mark.parametrize(
    ("item", "name"),
    [
        (GOOD, "key-minute"),
        (GOOD | {"metric": "requests"}, "key-minute"),
        (GOOD | {"metric": "tokens"}, "key-minute-tokens"),
        (GOOD | {"metric": "tokens", "scope": "model", "per_seconds": 10}, "model-10s-tokens"),
        (GOOD | {"scope": "endpoint"}, "endpoint-minute"),
        (SLOTS, "key-concurrency"),
    ],
)
def test_names_say_what_is_counted(item: dict[str, Any], name: str) -> None:
    assert compile_rate_limits([item])[0].name == name


def test_keys_tell_limits_apart() -> None:
    limits = compile_rate_limits(
        [
            GOOD,
            GOOD | {"metric": "tokens"},
            GOOD | {"limit": 61},
            GOOD | {"per_seconds": 61},
            GOOD | {"operations": ["tokens"]},
            SLOTS,
            *(GOOD | {"scope": scope.value} for scope in Scope if scope is not Scope.KEY),
        ]
    )
    assert len({limit.key for limit in limits}) == len(limits) == 6 + len(Scope) - 1


@pytest.mark.parametrize(
    ("validate", "scopes"),
    [
        (validate_house_rate_limits, set(Scope)),
        (validate_rate_limits, set(Scope) - {"provider"}),
        (validate_provider_rate_limits, {"provider", "model"}),
    ],
)
def test_each_list_has_its_scopes(validate: Any, scopes: set[str]) -> None:
    for scope in Scope:
        if scope in scopes:
            validate([GOOD | {"scope": scope.value}])
        else:
            with pytest.raises(ValidationError, match="0/scope"):
                validate([GOOD | {"scope": scope.value}])


def test_a_providers_list_need_not_say_provider() -> None:
    value = [{"limit": 5, "per_seconds": 1}, {"limit": 5, "per_seconds": 1, "scope": "model"}]
    validate_provider_rate_limits(value)
    scopes = [limit.scope for limit in compile_rate_limits(value, Scope.PROVIDER)]
    assert scopes == [Scope.PROVIDER, Scope.MODEL]
    with pytest.raises(ValidationError, match="0: "):
        validate_rate_limits(value)
