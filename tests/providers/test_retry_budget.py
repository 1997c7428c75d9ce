"""The retry budget: a share of the calls, at every moment, and nothing saved up for a storm."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.retry_budget import CARRIED, LENT, RetryBudget, RetryBudgets
from providers.retry_policy import RetryPolicy

POLICY = RetryPolicy()


def after(firsts: int, policy: RetryPolicy = POLICY) -> RetryBudget:
    budget = RetryBudget()
    for _ in range(firsts):
        budget.first(policy)
    return budget


def test_a_fifth_of_the_calls_may_be_tried_again() -> None:
    budget = RetryBudget()
    retried = []
    for _ in range(1000):
        budget.first(POLICY)
        retried.append(budget.take())
    assert sum(retried) == 200
    assert retried[:5] == [False, False, False, False, True]


def test_nothing_is_there_before_the_first_call() -> None:
    assert not RetryBudget().take()


def test_a_quiet_hour_saves_up_no_storm() -> None:
    budget = after(100_000)
    assert sum(budget.take() for _ in range(1000)) == CARRIED


@pytest.mark.parametrize(("per_cent", "retries"), [(0, 0), (1, 10), (50, 500), (100, 1000)])
def test_the_share_is_the_policys(per_cent: int, retries: int) -> None:
    policy, budget = RetryPolicy(budget_percent=per_cent), RetryBudget()
    for _ in range(1000):
        budget.first(policy)
        budget.take()
    assert budget.further == retries


def test_another_credential_may_be_tried_on_loan_and_is_paid_for_later() -> None:
    budget = RetryBudget()
    budget.first(POLICY)
    assert [budget.take(lend=True) for _ in range(4)] == [True] * LENT + [False] * 2
    for _ in range(5 * (LENT + 1) - 2):
        budget.first(POLICY)
        assert not budget.take()
    budget.first(POLICY)
    assert budget.take(lend=True)


STEPS = st.lists(st.sampled_from(["first", "take", "lend"]), max_size=300)


@given(STEPS, st.integers(0, 100))
def test_the_share_holds_at_every_moment(steps: Sequence[str], per_cent: int) -> None:
    budget, policy = RetryBudget(), RetryPolicy(budget_percent=per_cent)
    firsts = further = lent = 0
    for step in steps:
        if step == "first":
            budget.first(policy)
            firsts += 1
        elif budget.take(lend=step == "lend"):
            further += 1
            lent = LENT if step == "lend" else lent
        assert further * 100 <= max(lent * 100, firsts * per_cent)
        assert further == budget.further


@given(STEPS, st.floats(0, 100))
def test_no_fraction_buys_more(steps: Sequence[str], per_cent: float) -> None:
    budget, policy = RetryBudget(), RetryPolicy(budget_percent=per_cent)
    firsts = 0
    for step in steps:
        if step == "first":
            budget.first(policy)
            firsts += 1
        else:
            budget.take()
        assert budget.further * 100 <= firsts * per_cent + 1e-6


def test_each_name_has_its_own_and_they_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryBudgets, "MOST", 3)
    budgets = RetryBudgets()
    one = budgets.of("one")
    assert budgets.of("one") is one is not budgets.of("two")
    for name in ("three", "four", "five"):
        budgets.of(name)
    assert budgets.of("one") is not one
    assert not budgets.of("one").take()
