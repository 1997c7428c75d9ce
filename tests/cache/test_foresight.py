"""What is expected to be asked for: learned over simulated days, within bounds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.foresight import DAY, HOUR, Foresight

BEGIN = 1_800_000_000.0 // DAY * DAY  # midnight UTC
KEY = b"k" * 32


def live_through(
    foresight: Foresight, days: int, *, from_hour: int, to_hour: int, every: float
) -> float:
    """Somebody asks `every` so many seconds between these hours; the midnight after."""
    for day in range(days):
        at, end = (BEGIN + day * DAY + hour * HOUR for hour in (from_hour, to_hour))
        while at < end:
            foresight.note(KEY, "q", at)
            at += every
    return BEGIN + days * DAY


def test_the_hours_in_which_it_is_asked_are_told_from_the_others() -> None:
    foresight = Foresight()
    today = live_through(foresight, 5, from_hour=8, to_hour=18, every=60)
    morning = today + 8 * HOUR
    assert foresight.expected(KEY, morning, morning + 300) == pytest.approx(5, rel=0.1)
    night = today + 3 * HOUR
    assert foresight.expected(KEY, night, night + 300) < 0.01
    assert foresight.expected(KEY, night, night + DAY) == pytest.approx(600, rel=0.1)


def test_the_hour_that_comes_counts_as_itself() -> None:
    foresight = Foresight()
    today = live_through(foresight, 5, from_hour=8, to_hour=18, every=60)
    before = today + 8 * HOUR - 150
    assert foresight.expected(KEY, before, before + 300) == pytest.approx(2.5, rel=0.1)


def test_on_the_first_day_it_goes_by_the_hour_so_far() -> None:
    foresight = Foresight()
    for second in range(0, 1800, 10):
        foresight.note(KEY, "q", BEGIN + second)
    now = BEGIN + 1800
    assert 1 < foresight.expected(KEY, now, now + 30) <= 3
    assert foresight.expected(KEY, now, now + 5) < 1


def test_who_asked_once_is_not_expected_again() -> None:
    foresight = Foresight()
    foresight.note(KEY, "q", BEGIN + 9 * HOUR)
    for span in (30, 300, 3600):
        assert foresight.expected(KEY, BEGIN + 9 * HOUR + span, BEGIN + 9 * HOUR + 2 * span) < 1
    tomorrow = BEGIN + DAY + 9 * HOUR
    assert foresight.expected(KEY, tomorrow, tomorrow + DAY) < 1


def test_what_nobody_asks_for_any_more_fades_within_days() -> None:
    foresight = Foresight()
    today = live_through(foresight, 5, from_hour=0, to_hour=24, every=100)
    assert foresight.expected(KEY, today, today + 300) > 2
    for days, most in ((2, 1.0), (4, 0.2), (30, 0.0)):
        at = today + days * DAY
        assert foresight.expected(KEY, at, at + 300) <= most


def test_a_new_habit_counts_within_the_hour() -> None:
    foresight = Foresight()
    today = live_through(foresight, 3, from_hour=8, to_hour=9, every=600)
    for second in range(0, 1800, 10):
        foresight.note(KEY, "q", today + 20 * HOUR + second)
    now = today + 20.5 * HOUR
    assert foresight.expected(KEY, now, now + 60) > 2


@settings(max_examples=30)
@given(
    asked=st.lists(st.floats(0, 30 * DAY), max_size=40),
    since=st.floats(0, 30 * DAY),
    span=st.floats(0, 40 * DAY),
)
def test_expectations_are_never_below_zero_and_grow_with_the_span(
    asked: list[float], since: float, span: float
) -> None:
    """Also with moments out of order: clocks are set back."""
    foresight = Foresight()
    for at in asked:
        foresight.note(KEY, "q", BEGIN + at)
    since += BEGIN
    half = foresight.expected(KEY, since, since + span / 2)
    assert 0 <= half <= foresight.expected(KEY, since, since + span) + 1e-6


def test_memory_is_bounded_and_keeps_what_is_asked_for_most() -> None:
    foresight, chance = Foresight(100), random.Random(5)
    hot = [b"hot%d" % number for number in range(20)]
    for number in range(8000):
        at = BEGIN + number
        foresight.note(b"rare%d" % number, "q", at)
        foresight.note(chance.choice(hot), "q", at)
        for key in foresight.due(at):
            foresight.plan(key, at + DAY)
        assert len(foresight) <= 200 and len(foresight._queue) <= 400
    assert all(foresight.question(key) == "q" for key in hot)
    assert foresight.question(b"rare0") is None
    assert foresight.expected(b"rare0", BEGIN, BEGIN + DAY) == 0


def test_what_is_planned_is_due_once_at_its_time() -> None:
    foresight = Foresight()
    foresight.note(KEY, "q", BEGIN)
    assert foresight.due(BEGIN) == []  # once is not a habit
    foresight.note(KEY, "q", BEGIN)
    assert foresight.due(BEGIN) == [KEY]
    assert foresight.due(BEGIN + DAY) == []
    foresight.plan(KEY, BEGIN + 100)
    foresight.note(KEY, "q", BEGIN + 50)
    foresight.plan(KEY, BEGIN + 200)
    assert foresight.due(BEGIN + 199) == []
    assert foresight.due(BEGIN + 200) == [KEY]
    foresight.plan(b"unknown", BEGIN)
    assert foresight.due(BEGIN + DAY) == []


def test_the_gain_is_what_would_have_been_stale() -> None:
    foresight = Foresight()
    foresight.note(KEY, "q", BEGIN)
    foresight.warmed(KEY, BEGIN + 60, BEGIN + 120)
    for at in (30, 59, 60, 100, 119, 120, 121):
        foresight.note(KEY, "q", BEGIN + at)
    assert (foresight.gain.hits, foresight.gain.useful) == (3, 1)
    foresight.warmed(KEY, BEGIN + 120, BEGIN + 180)
    assert (foresight.gain.hits, foresight.gain.useful) == (3, 1)
