"""Filling a counter from the ledger while calls run: each is counted once, at every moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenants.quotas import Metric
from tests.usage.counters.stage import OneClock, quota
from tests.usage.counters.trial import NewTrial, Trial
from usage.counters.claims import Amounts, Hold, Part, QuotaClaim

CLOCK = OneClock()
TOKENS = quota(100, CLOCK.now(), metric=Metric.TOKENS)
TEN = Amounts(requests=1, tokens=10)


def run(trial: Trial, asked: Any) -> Any:
    return trial._run(asked)


def begin_filling(trial: Trial, claim: QuotaClaim = TOKENS) -> tuple[int, Sequence[str]]:
    number, holders = run(trial, trial.counters.begin_filling(claim))
    return number, list(holders)


def fill(trial: Trial, number: int, used: int, final: Sequence[str]) -> bool:
    return bool(run(trial, trial.counters.fill(TOKENS, number, used, final)))


def drop(trial: Trial) -> None:
    run(trial, trial.counters.drop(TOKENS))


def test_what_the_ledger_has_already_is_not_reserved_any_more(new_trial: NewTrial) -> None:
    trial = new_trial()
    written, running = trial.begin(TOKENS, tokens=60), trial.begin(TOKENS, tokens=40)
    drop(trial)
    number, holders = begin_filling(trial)
    assert sorted(holders) == sorted([written.id, running.id])
    assert fill(trial, number, 10, [written.id])
    assert trial.read(TOKENS) == (10, 40)
    trial.end(written, TEN)
    assert trial.read(TOKENS) == (10, 40)
    trial.end(running, TEN)
    assert trial.read(TOKENS) == (20, 0)


def test_a_filling_that_begins_late_undoes_nothing(new_trial: NewTrial) -> None:
    trial = new_trial()
    written = trial.begin(TOKENS, tokens=60)
    drop(trial)
    number, _ = begin_filling(trial)
    assert fill(trial, number, 10, [written.id])
    late, _ = begin_filling(trial)
    assert late == -1
    assert not fill(trial, late, 10, [])
    trial.end(written, TEN)
    assert trial.read(TOKENS) == (10, 0)


def test_of_two_fillings_the_first_that_ends_counts(new_trial: NewTrial) -> None:
    trial = new_trial()
    drop(trial)
    (one, _), (other, _) = begin_filling(trial), begin_filling(trial)
    assert fill(trial, one, 10, [])
    assert not fill(trial, other, 7, [])
    assert trial.read(TOKENS) == (10, 0)


def test_nobody_is_let_in_while_a_counter_is_filled(new_trial: NewTrial) -> None:
    """His row might be in the ledger's sum, and the filling would not know that he is."""
    trial = new_trial()
    trial.admit(TOKENS, tokens=1, settled=Amounts(requests=1, tokens=1))
    drop(trial)
    number, _ = begin_filling(trial)
    assert trial.read(TOKENS) is None
    admission = run(trial, trial.counters.admit(*_call("late")))
    assert (admission.granted, admission.missing) == (False, (TOKENS,))
    assert fill(trial, number, 1, [])
    assert run(trial, trial.counters.admit(*_call("later"))).granted


def test_a_window_that_began_while_we_counted_is_dropped_too(new_trial: NewTrial) -> None:
    """It is not taken for one that nobody has used yet."""
    trial = new_trial()
    tomorrow = quota(100, trial.clock.now() + 3 * 86_400, metric=Metric.TOKENS)
    assert tomorrow.fresh
    assert trial.admit(tomorrow, tokens=1).granted
    assert trial.book.sums == 0
    run(trial, trial.counters.drop(tomorrow))
    assert trial.admit(tomorrow, tokens=1).granted
    assert trial.book.sums == 1


def _call(name: str) -> tuple[Hold, Part]:
    return Hold(name), Part([TOKENS], TEN)
