from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from tenants.quotas import (
    MAX_LIMIT,
    Metric,
    Quota,
    QuotaScope,
    compile_quotas,
    merge_quotas,
    validate_house_quotas,
    validate_key_quotas,
    validate_provider_quotas,
    validate_quotas,
)
from tenants.windows import Window

GOOD: dict[str, Any] = {"scope": "tenant", "metric": "requests", "window": "day", "limit": 100}
MONEY: dict[str, Any] = {"scope": "key", "metric": "cost", "window": "month", "limit_usd": "12.50"}
BARE: dict[str, Any] = {"metric": "requests", "window": "day", "limit": 100}
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=8,
)
nearly = st.builds(
    lambda base, changes, dropped: {k: v for k, v in (base | changes).items() if k not in dropped},
    st.sampled_from([GOOD, MONEY, BARE]),
    st.dictionaries(
        st.sampled_from(
            [*GOOD, "limit_usd", "hard", "thresholds", "weights", "operations", "burst"]
        ),
        junk
        | st.sampled_from(["1e3", "0.0000001", "99999999999", [50, 80], [80, 50], {"*": 2}, 60.0]),
        max_size=3,
    ),
    st.sets(st.sampled_from([*GOOD]), max_size=1),
)


@pytest.mark.parametrize(
    "value",
    [
        [],
        [GOOD],
        [GOOD] * 50,
        [MONEY],
        [GOOD | {"limit": 0}, GOOD | {"limit": MAX_LIMIT}],
        [MONEY | {"limit_usd": "0"}, MONEY | {"limit_usd": "9007199254.740991"}],
        [{**GOOD, "metric": "cost", "limit": 12_500_000}],
        [GOOD | {"hard": False, "thresholds": [1, 99, 100], "operations": ["!embeddings"]}],
        [GOOD | {"thresholds": []}],
        [GOOD | {"weights": {"finance.quote": 0, "*": 1_000_000}}],
        [GOOD | {"metric": "credits", "weights": {"finance.quote": 2}}],
        [GOOD | {"scope": scope} for scope in ("tenant", "project", "key", "user", "route")],
        [GOOD | {"window": window.value} for window in Window],
        [GOOD | {"metric": metric.value} for metric in Metric],
    ],
)
def test_what_is_right_passes(value: Any) -> None:
    validate_quotas(value)
    validate_house_quotas(value)
    compile_quotas(value)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ([GOOD | {"limit": -1}], "0/limit"),
        ([GOOD | {"limit": MAX_LIMIT + 1}], "0/limit"),
        ([GOOD | {"limit": True}], "0/limit"),
        ([GOOD | {"limit": "100"}], "0/limit"),
        ([GOOD | {"limit": 0.5}], "0/limit"),
        ([GOOD | {"limit": None}], "0/limit"),
        ([GOOD, GOOD | {"limit": 1e300}], "1/limit"),
        ([GOOD | {"limit_usd": "1"}], "0"),
        ([MONEY | {"limit": 1}], "0"),
        ([{"scope": "key", "metric": "cost", "window": "day"}], "0"),
        ([{"scope": "key", "metric": "tokens", "window": "day", "limit_usd": "1"}], "0/limit_usd"),
        ([MONEY | {"limit_usd": 12.5}], "0/limit_usd"),
        ([MONEY | {"limit_usd": "-1"}], "0/limit_usd"),
        ([MONEY | {"limit_usd": "1.0000001"}], "0/limit_usd"),
        ([MONEY | {"limit_usd": "1e3"}], "0/limit_usd"),
        ([MONEY | {"limit_usd": "1\n"}], "0/limit_usd"),
        ([MONEY | {"limit_usd": "١"}], "0/limit_usd"),
        ([MONEY | {"limit_usd": "NaN"}], "0/limit_usd"),
        ([MONEY | {"limit_usd": ""}], "0/limit_usd"),
        ([MONEY | {"limit_usd": "9007199254.740992"}], "0/limit_usd"),
        ([GOOD | {"scope": "global"}], "0/scope"),
        ([GOOD | {"scope": "provider"}], "0/scope"),
        ([BARE], "0"),
        ([GOOD | {"metric": "input_tokens"}], "0/metric"),
        ([GOOD | {"window": "week"}], "0/window"),
        ([GOOD | {"hard": "yes"}], "0/hard"),
        ([GOOD | {"thresholds": [50, 50]}], "0/thresholds"),
        ([GOOD | {"thresholds": [80, 50]}], "0/thresholds"),
        ([GOOD | {"thresholds": [0]}], "0/thresholds/0"),
        ([GOOD | {"thresholds": [50, 101]}], "0/thresholds/1"),
        ([GOOD | {"thresholds": list(range(1, 12))}], "0/thresholds"),
        ([GOOD | {"thresholds": 80}], "0/thresholds"),
        ([GOOD | {"weights": {"a": -1}}], "0/weights/a"),
        ([GOOD | {"weights": {"a": 1_000_001}}], "0/weights/a"),
        ([GOOD | {"weights": {"a": 1.5}}], "0/weights/a"),
        ([GOOD | {"weights": {"": 1}}], "0/weights"),
        ([GOOD | {"weights": [["a", 1]]}], "0/weights"),
        ([GOOD | {"metric": "tokens", "weights": {"a": 1}}], "0/weights"),
        ([GOOD | {"operations": [""]}], "0/operations/0"),
        ([GOOD | {"burst": 5}], "0"),
        ([GOOD] * 51, "quotas"),
        (GOOD, "quotas"),
        ({}, "quotas"),
        (None, "quotas"),
        ("", "quotas"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(value: Any, where: str) -> None:
    with pytest.raises(ValidationError) as told:
        validate_quotas(value)
    assert told.value.messages[0].startswith(f"{where}: ")


@pytest.mark.parametrize(
    ("validate", "scopes"),
    [
        (validate_house_quotas, set(QuotaScope)),
        (validate_quotas, set(QuotaScope) - {"global", "provider"}),
        (validate_key_quotas, {"key"}),
        (validate_provider_quotas, {"provider"}),
    ],
)
def test_each_list_has_its_scopes(validate: Any, scopes: set[str]) -> None:
    for scope in QuotaScope:
        if scope in scopes:
            validate([GOOD | {"scope": scope.value}])
        else:
            with pytest.raises(ValidationError, match="0/scope"):
                validate([GOOD | {"scope": scope.value}])


@pytest.mark.parametrize(
    ("validate", "scope"),
    [(validate_key_quotas, QuotaScope.KEY), (validate_provider_quotas, QuotaScope.PROVIDER)],
)
def test_one_scope_may_be_left_unsaid(validate: Any, scope: QuotaScope) -> None:
    value = [BARE, BARE | {"scope": scope.value}]
    validate(value)
    (quota,) = compile_quotas(value, scope)
    assert quota.scope is scope


@given(st.lists(nearly | junk, max_size=3), st.sampled_from([validate_house_quotas, validate_quotas, validate_key_quotas, validate_provider_quotas]))  # fmt: skip
def test_what_passes_compiles(value: list[Any], validate: Any) -> None:
    before = copy.deepcopy(value)
    try:
        validate(value)
    except ValidationError:
        return
    finally:
        assert repr(value) == repr(before)
    for quota in compile_quotas(value, QuotaScope.KEY):
        assert 0 <= quota.limit <= MAX_LIMIT and type(quota.limit) is int
        assert all(type(part) is int for part in quota.thresholds)
        assert all(type(weight) is int for _, weight in quota.weights)
        assert type(quota.weight("a")) is int and isinstance(quota.covers("a"), bool)
        assert quota.name.count("-") == 2 and quota.counter.startswith(quota.metric)


def test_usd_are_exact_millionths() -> None:
    exact = {"12.50": 12_500_000, "0.000001": 1, "0": 0, "9007199254.740991": MAX_LIMIT}
    for text, micro in exact.items():
        (quota,) = compile_quotas([MONEY | {"limit_usd": text}])
        assert quota.limit == micro


def test_defaults() -> None:
    (quota,) = compile_quotas([GOOD | {"limit": 100.0}])
    assert repr(quota.limit) == "100"
    assert quota.hard and quota.thresholds == (50, 80, 100)
    assert (quota.name, quota.counter) == ("tenant-requests-day", "requests")
    assert quota.weight("anything") == 1 and quota.covers("anything")
    assert compile_quotas([MONEY])[0].name == "key-cost-month"


def test_the_same_quota_twice_is_one() -> None:
    variant = GOOD | {"operations": ["a", "b"]}
    other_way = GOOD | {"operations": ["b", "a", "a"]}
    assert len(compile_quotas([GOOD, dict(GOOD), variant, other_way, GOOD | {"limit": 5}])) == 3


def test_weights() -> None:
    (quota,) = compile_quotas([GOOD | {"weights": {"a": 5, "b": 0, "*": 2}}])
    assert [quota.weight(name) for name in ("a", "b", "c", "*")] == [5, 0, 2, 2]
    (quota,) = compile_quotas([GOOD | {"weights": {"a": 5}}])
    assert [quota.weight(name) for name in ("a", "c")] == [5, 1]


def counter(**fields: Any) -> str:
    return compile_quotas([GOOD | fields])[0].counter


def test_quotas_that_count_alike_share_a_counter() -> None:
    plain = counter()
    for alike in (
        {"limit": 5},
        {"hard": False},
        {"thresholds": [10]},
        {"window": "month"},
        {"scope": "key"},
        {"weights": {}},
        {"weights": {"*": 1}},
        {"weights": {"a": 1}},
        {"operations": []},
    ):
        assert counter(**alike) == plain == "requests", alike
    ways = [
        counter(weights={"a": 5, "b": 2, "*": 2}),
        counter(weights={"*": 2, "a": 5}),
        counter(weights={"a": 5, "*": 2, "c": 2}, limit=1),
    ]
    assert len(set(ways)) == 1


def test_quotas_that_count_otherwise_do_not() -> None:
    counters = [
        counter(),
        counter(metric="credits"),
        counter(metric="tokens"),
        counter(weights={"a": 2}),
        counter(weights={"a": 3}),
        counter(weights={"b": 2}),
        counter(weights={"*": 2}),
        counter(weights={"a": 1, "*": 2}),
        counter(operations=["a"]),
        counter(operations=["!a"]),
        counter(operations=["a", "b"]),
        counter(operations=["a,b"]),
        counter(operations=["a"], weights={"a": 2}),
        counter(operations=["a"], metric="tokens"),
    ]
    assert len(set(counters)) == len(counters)


def test_a_counters_name_is_the_same_in_every_process() -> None:
    """Hashes of text differ from one Python process to the next; counters must not."""
    code = (
        "from tenants.quotas import compile_quotas;"
        "print(compile_quotas([{'scope': 'key', 'metric': 'credits', 'window': 'day', 'limit': 1,"
        "'operations': ['x', 'y', 'z'], 'weights': {'x': 2, 'y': 3, '*': 4}}])[0].counter)"
    )
    made = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ".:platform"},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(made) == 1


@pytest.mark.parametrize(
    ("operations", "covered"),
    [([], {"a", "b"}), (["a"], {"a"}), (["!a"], {"b"}), (["a", "!a"], set())],
)
def test_what_a_quota_covers(operations: list[str], covered: set[str]) -> None:
    (quota,) = compile_quotas([GOOD | {"operations": operations}])
    assert {name for name in "ab" if quota.covers(name)} == covered


def test_the_particular_replaces_the_general_about_the_same_thing() -> None:
    general = compile_quotas([GOOD, MONEY, GOOD | {"window": "month"}, GOOD | {"scope": "key"}])
    stricter = compile_quotas([GOOD | {"limit": 5, "hard": False}])
    merged = merge_quotas(general, stricter)
    assert merged == (*general[1:], *stricter)
    partial = compile_quotas([GOOD | {"limit": 5, "operations": ["embeddings"]}])
    assert merge_quotas(general, partial) == (*general, *partial), "others stay bounded"
    twice = compile_quotas([GOOD | {"limit": 5}, GOOD | {"limit": 9, "hard": False}])
    assert merge_quotas(general, twice) == (*general[1:], *twice)
    assert merge_quotas(general, ()) == general


def test_a_quota_is_what_it_says_and_not_how_it_is_named() -> None:
    one = Quota(QuotaScope.KEY, Metric.COST, Window.DAY, 5)
    assert one == Quota(QuotaScope.KEY, Metric.COST, Window.DAY, 5)
    assert one != Quota(QuotaScope.KEY, Metric.COST, Window.DAY, 5, time_zone="Asia/Tokyo")
    assert hash(one) == hash(Quota(QuotaScope.KEY, Metric.COST, Window.DAY, 5))
