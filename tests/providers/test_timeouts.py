from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.timeouts import MAX_MS, Timeouts

NAMES = ("connect", "first_byte", "idle", "total")


@given(st.dictionaries(st.sampled_from(NAMES), st.integers(1, MAX_MS)))
def test_what_is_given_counts_and_the_rest_stays(given_ms: dict[str, int]) -> None:
    base = Timeouts(1.5, 2.5, 3.5, 4.5)
    over = base.over({f"{name}_ms": value for name, value in given_ms.items()})
    for name in NAMES:
        expected = given_ms[name] / 1000 if name in given_ms else getattr(base, name)
        assert getattr(over, name) == expected


def test_nothing_given_changes_nothing() -> None:
    base = Timeouts()
    assert base.over({}) is base and base.over({"unknown_ms": 5}) is base


def test_the_later_word_counts() -> None:
    assert Timeouts().over({"idle_ms": 10}).over({"idle_ms": 20}).idle == 0.02


@pytest.mark.parametrize(
    "value", [0, -1, True, "100", None, [], {}, float("nan"), float("inf"), MAX_MS + 1, 10**30]
)
def test_what_is_no_time_is_refused(value: Any) -> None:
    for name in NAMES:
        with pytest.raises(ValueError, match="time-out"):
            Timeouts().over({f"{name}_ms": value})


@pytest.mark.parametrize("value", [None, 5, "connect_ms", ["connect_ms"], True])
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="time-outs"):
        Timeouts().over(value)
