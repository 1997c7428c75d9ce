"""What is known of a target: it follows what happens, fades with time, and never grows."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import scores as scores_module
from gateway.scores import MEMORY, RECENT, Mean, Scores
from tests.clocks import ManualClock


def test_a_mean_follows_a_change_within_its_memory() -> None:
    mean = Mean(RECENT)
    for _ in range(1000):
        mean.add(1.0, now=5.0)
    for _ in range(round(3 * MEMORY)):
        mean.add(9.0, now=5.0)
    assert mean.value > 8.5


def test_a_mean_fades_with_time() -> None:
    mean = Mean(half_life=60.0)
    mean.add(8.0, now=100.0)
    assert mean.weight(100.0) == 1.0
    assert mean.weight(160.0) == 0.5
    assert mean.towards(0.0, 100.0) == 4.0
    assert mean.towards(0.0, 100_000.0) < 0.001
    mean.add(2.0, now=100_000.0)
    assert mean.value < 2.01, "what was long ago hardly counts beside what is new"


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e4), st.floats(0.1, 10)), max_size=60))
def test_a_mean_lies_within_what_it_was_told(told: list[tuple[float, float, float]]) -> None:
    mean, now = Mean(RECENT), 0.0
    for value, later, weight in told:
        now += later
        mean.add(value, now, weight)
        assert 0 <= mean.weight(now) <= MEMORY + weight
    values = [value for value, *_ in told] or [0.0]
    assert min(values) - 1e-6 <= mean.value <= max(values) + 1e-6


def test_a_target_nobody_knows_is_due_to_be_tried() -> None:
    scores = Scores(ManualClock())
    unknown, now = scores.of("nobody"), scores.now()
    assert unknown.seconds(now, stream=True) == 0.0
    assert unknown.reliability(now) == 1.0
    assert len(scores) == 0, "to ask makes none"


def test_failing_fast_makes_no_target_fast() -> None:
    scores = Scores(ManualClock())
    for _ in range(20):
        scores.answered("lab", whole=0.2)
        scores.answered("broken", whole=0.2)
    for _ in range(20):
        scores.failed("broken", seconds=0.001)
    now = scores.now()
    lab, broken = scores.of("lab"), scores.of("broken")
    assert broken.seconds(now, stream=False) > 2 * lab.seconds(now, stream=False)
    assert broken.goodness(now) < lab.goodness(now)


def test_a_time_out_is_slow_too() -> None:
    scores = Scores(ManualClock())
    for _ in range(10):
        scores.failed("hangs", seconds=10.0)
    assert scores.of("hangs").latency(scores.now(), stream=True) > 5.0


def test_a_persons_word_counts_for_several_and_fades() -> None:
    clock = ManualClock()
    scores = Scores(clock)
    for _ in range(10):
        scores.answered("lab", whole=0.1, quality=1.0)
    before = scores.of("lab").goodness(scores.now())
    scores.rated("lab", 0.0)
    after = scores.of("lab").goodness(scores.now())
    assert after < 0.75 * before
    for _ in range(60):
        scores.answered("lab", whole=0.1, quality=1.0)
    assert scores.of("lab").goodness(scores.now()) > 0.95 * before


def test_people_are_told_what_is_known_and_nothing_else() -> None:
    scores = Scores(ManualClock())
    scores.answered("lab", first=0.25, cost=12, quality=0.7)
    assert scores.as_documents() == {
        "lab": {
            "success_rate": 1.0,
            "first_byte_seconds": 0.25,
            "seconds": None,
            "cost_microusd": 12.0,
            "quality": 0.7,
            "calls": 1.0,
        }
    }


@pytest.mark.unmeasured
def test_a_hundred_thousand_targets_take_no_more_than_the_most() -> None:
    scores = Scores(ManualClock())
    for number in range(100_000):
        scores.answered(f"target-{number}", whole=0.1)
        scores.answered("steady", whole=0.1)
    assert len(scores) == scores_module.MAX_TARGETS
    assert "steady" in scores.as_documents(), "who is heard of is not forgotten"
    assert "target-0" not in scores.as_documents()
    each = sys.getsizeof(scores.of("steady")) + 5 * sys.getsizeof(Mean(1.0))
    assert each * len(scores) < 20_000_000
