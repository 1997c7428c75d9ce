"""A slow first target is helped out by the next: seldom, exactly, and with nothing left behind."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.hedging import ANSWERS, LEAST, SAVED, Budget, Hedging, Latencies, Race
from tests.gateway.unit.rig import nothing_runs
from tests.loops import on_loop

# The percentile


def test_of_few_answers_nothing_is_known() -> None:
    latencies = Latencies()
    for number in range(LEAST):
        assert latencies.percentile() is None
        latencies.add(number)
    assert latencies.percentile() == LEAST - 2


@given(st.lists(st.floats(0, 60) | st.sampled_from([0.5, 1.0]), min_size=LEAST, max_size=600))
def test_it_is_the_smallest_that_at_most_one_in_twenty_of_the_latest_exceed(
    seconds: list[float],
) -> None:
    latencies = Latencies()
    for each in seconds:
        latencies.add(each)
    latest = seconds[-ANSWERS:]
    percentile = latencies.percentile()
    assert percentile in latest
    assert sum(each > percentile for each in latest) <= len(latest) / 20
    lower = [each for each in latest if each < percentile]
    if lower:
        assert sum(each > max(lower) for each in latest) > len(latest) / 20


# The budget


@given(st.lists(st.booleans(), max_size=3000))
def test_of_a_hundred_calls_at_most_five_are_hedged_counted_from_the_first(
    wishes: list[bool],
) -> None:
    budget, hedges = Budget(), 0
    for calls, wish in enumerate(wishes, 1):
        budget.earn()
        hedges += wish and budget.take()
        assert hedges <= calls * 5 // 100


def test_what_is_saved_up_is_bounded() -> None:
    budget = Budget()
    for _ in range(100_000):
        budget.earn()
    assert sum(budget.take() for _ in range(1000)) == SAVED
    budget.give_back()
    assert [budget.take(), budget.take()] == [True, False]


def test_targets_not_heard_of_for_longest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.hedging.MAX_TARGETS", 3)
    hedging = Hedging()
    one = hedging.of("1")
    for name in ("2", "3", "1", "4"):
        hedging.of(name)
    assert hedging.of("1") is one
    assert len(hedging._watched) == 3


# The race


class Attempt:
    """Answers, or fails, after so many turns of the loop."""

    def __init__(self, name: str, turns: float, error: Exception | None = None) -> None:
        self.name = name
        self.log: list[str] = []
        self._turns = turns
        self._error = error

    async def begin(self) -> str:
        self.log.append("begun")
        try:
            while self._turns > 0:
                self._turns -= 1
                await asyncio.sleep(0)
            if self._error is not None:
                raise self._error
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # letting go may take a moment
            self.log.append("cancelled")
            raise
        return self.name

    def lose(self) -> None:
        self.log.append("lost")

    def close(self) -> None:
        self.log.append("closed")


def giving(second: Attempt | None) -> Callable[[], Coroutine[Any, Any, Attempt | None]]:
    async def another() -> Attempt | None:
        await asyncio.sleep(0)
        return second

    return another


async def race(first: Attempt, second: Attempt | None, delay: float = 0.0) -> str:
    runner, answer = await Race[Attempt, str]().run(first, giving(second), delay)
    assert runner.name == answer
    return answer


@on_loop
async def test_who_answers_in_time_is_not_hedged() -> None:
    first, second = Attempt("first", 2), Attempt("second", 0)
    assert await race(first, second, delay=10) == "first"
    assert (first.log, second.log) == (["begun"], [])


@pytest.mark.parametrize(("turns", "winner"), [((50, 3), "second"), ((9, 300), "first")])
@on_loop
async def test_the_first_to_answer_wins_and_the_other_is_cancelled_at_once(
    turns: tuple[int, int], winner: str
) -> None:
    both = Attempt("first", turns[0]), Attempt("second", turns[1])
    assert await race(*both) == winner
    for each in both:
        loses = ["begun", "lost", "cancelled", "closed"]
        assert each.log == (["begun"] if each.name == winner else loses)
    assert await nothing_runs()


@on_loop
async def test_of_two_that_answer_together_the_first_is_heard_and_the_other_let_go_of() -> None:
    for gap in range(12):
        both = Attempt("first", 20), Attempt("second", 10 + gap)
        winner = await race(*both)
        (loser,) = [each for each in both if each.name != winner]
        assert loser.log[-1] == "closed" and loser.log.count("closed") == 1
        assert "lost" in loser.log


@pytest.mark.parametrize("failing", ["first", "second"])
@on_loop
async def test_a_failure_does_not_end_the_race(failing: str) -> None:
    fault = ValueError("no")
    both = [Attempt("first", 9), Attempt("second", 9)]
    both[failing == "second"] = Attempt(failing, 3, fault)
    assert await race(*both) != failing


@on_loop
async def test_when_nobody_answers_it_is_told_how_the_first_failed() -> None:
    for turns in ((30, 3), (9, 40)):
        with pytest.raises(ValueError, match="one"):
            both = (
                Attempt("first", turns[0], ValueError("one")),
                Attempt("second", turns[1], KeyError()),
            )
            await race(*both)
    with pytest.raises(ValueError, match="one"):
        await race(Attempt("first", 9, ValueError("one")), None)


@on_loop
async def test_whoever_leaves_at_whatever_moment_leaves_nothing_running() -> None:
    """Also in the moment in which the second is there, but has not run yet."""
    for turns in range(40):
        both = Attempt("first", math.inf), Attempt("second", 20)
        task = asyncio.create_task(race(*both))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not task.cancel():
            assert task.result() == "second"
            continue
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await nothing_runs()
        for each in both:
            assert each.log == [] or each.log[-1] == "closed"
