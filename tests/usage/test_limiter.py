"""The limiter's promise is about *any* span, so it is checked on the moments of admission."""

from __future__ import annotations

import random
import sys
from collections import defaultdict
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenants.limits import RateLimit, Scope
from tests.clocks import ManualClock
from usage.limiter import SLICES, SWEEP_SECONDS, Decision, Limiter, Window

MINUTE = RateLimit(Scope.KEY, 60, 60)


class NanosecondClock(ManualClock):
    """Counts in whole nanoseconds, as the machine's does, so that sums stay exact."""

    def __init__(self, nanoseconds: int) -> None:
        self.nanoseconds = nanoseconds

    def monotonic(self) -> float:
        return self.nanoseconds / 1e9


limits = st.builds(
    RateLimit,
    scope=st.sampled_from([Scope.KEY, Scope.IP]),
    limit=st.integers(1, 6),
    per_seconds=st.sampled_from([1, 2, 3, 7, 60, 3600]),
)
# Small steps, whole spans and their neighbours, and a slice's width and its neighbours.
steps = st.one_of(
    st.integers(0, 10**7),
    st.integers(0, 4 * 10**9),
    st.builds(
        lambda span, part, off: max(0, span * 10**9 * part // SLICES + off),
        st.sampled_from([1, 2, 3, 7, 60, 3600]),
        st.sampled_from([1, 2, 63, 64, 65, 66]),
        st.integers(-2, 2),
    ),
)
calls = st.lists(st.tuples(steps, st.sampled_from("ab"), st.integers(1, 7)), max_size=80)
# Any moment, and those where slices of all the spans begin, with their neighbours.
starts = st.one_of(
    st.integers(0, 10**16),
    st.builds(
        lambda turn, off: turn * 25_200 * 10**9 + off, st.integers(1, 400), st.integers(-2, 2)
    ),
)


def most_in_any_span(moments: list[int], span: int) -> int:
    """The most of them in any half-open span of that length: two pointers."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] >= span:
            first += 1
        most = max(most, last - first + 1)
    return most


@given(st.lists(limits, min_size=1, max_size=3, unique=True), calls, starts)
@settings(max_examples=300, deadline=None)
def test_never_more_than_the_limit_in_any_span(
    all_limits: list[RateLimit], sequence: list[tuple[int, str, int]], start: int
) -> None:
    clock = NanosecondClock(start)
    limiter = Limiter(clock)
    admitted: dict[tuple[RateLimit, str], list[int]] = defaultdict(list)
    for step, subject, chosen in sequence:
        clock.nanoseconds += step
        asked = [(limit, subject) for place, limit in enumerate(all_limits) if chosen >> place & 1]
        if limiter.admit(asked).refused is None:
            for pair in asked:
                admitted[pair].append(clock.nanoseconds)
    for (limit, _), moments in admitted.items():
        assert most_in_any_span(moments, limit.per_seconds * 10**9) <= limit.limit


@given(limits, starts, st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_who_never_stops_asking_gets_no_more_either(
    limit: RateLimit, start: int, seed: int
) -> None:
    clock, pick = NanosecondClock(start), random.Random(seed)
    limiter, admitted = Limiter(clock), list[int]()
    for _ in range(600):
        clock.nanoseconds += pick.randrange(limit.per_seconds * 10**9 // 100)
        if limiter.admit([(limit, "a")]).refused is None:
            admitted.append(clock.nanoseconds)
    assert most_in_any_span(admitted, limit.per_seconds * 10**9) <= limit.limit


@given(st.lists(limits, min_size=1, max_size=3, unique=True), calls, starts)
@settings(max_examples=200, deadline=None)
def test_a_refused_call_counts_nowhere_and_is_admitted_after_its_reset(
    all_limits: list[RateLimit], sequence: list[tuple[int, str, int]], start: int
) -> None:
    """All or nothing: a limiter that was never asked the refused calls decides the same."""
    clock = NanosecondClock(start)
    limiter, spared = Limiter(clock), Limiter(clock)
    for step, subject, chosen in sequence:
        clock.nanoseconds += step
        asked = [(limit, subject) for place, limit in enumerate(all_limits) if chosen >> place & 1]
        decision = limiter.admit(asked)
        if decision.refused is None:
            assert spared.admit(asked) == decision
            continue
        refused = decision.refused
        assert refused.remaining == 0 and refused.reset >= 1
        clock.nanoseconds += refused.reset * 10**9
        assert limiter.admit(asked).refused is None
        assert spared.admit(asked).refused is None


@given(calls, starts)
@settings(max_examples=200, deadline=None)
def test_what_it_tells_is_true(sequence: list[tuple[int, str, int]], start: int) -> None:
    clock = NanosecondClock(start)
    limiter = Limiter(clock)
    limit = RateLimit(Scope.KEY, 4, 7)
    before: dict[str, int] = {}
    for step, subject, _ in sequence:
        clock.nanoseconds += step
        (state,) = (decision := limiter.admit([(limit, subject)])).states
        assert 0 <= state.remaining < limit.limit
        assert 1 <= state.reset <= limit.per_seconds * (SLICES + 1) / SLICES + 1
        if decision.refused is None and step == 0 and subject in before:
            assert state.remaining >= before[subject] - 1
        before[subject] = state.remaining


@given(st.integers(1, 200), st.sampled_from([1, 10, 60, 3600]), starts)
@settings(max_examples=30, deadline=None)
def test_under_saturation_98_of_100_places_are_used(limit: int, span: int, start: int) -> None:
    """Asked as soon as each refusal says (and in between), it gives nearly all there is."""
    clock = NanosecondClock(start)
    window = Window(limit, span)
    spans, admitted = 50, 0
    end = start + spans * span * 10**9
    while clock.nanoseconds < end:
        now = clock.monotonic()
        wait = window.wait(now)
        if wait > 0:
            clock.nanoseconds += max(1, round(wait * 1e9))
            continue
        window.add(now)
        admitted += 1
    assert Fraction(admitted, limit * spans) >= Fraction(98, 100)


@pytest.mark.parametrize("span", [1, 3, 60, 3600])
@pytest.mark.parametrize("offset", [0.0, 0.01, 0.5, 0.99, 0.999999])
def test_a_burst_anywhere_in_a_slice_blocks_the_whole_span(span: int, offset: float) -> None:
    """The bound is the span, wherever the slices' borders happen to lie."""
    slice_width = span * 10**9 // SLICES
    start = 25_200 * 10**9 + round(slice_width * offset)
    clock = NanosecondClock(start)
    limiter, limit = Limiter(clock), RateLimit(Scope.KEY, 3, span)
    for _ in range(3):
        assert limiter.admit([(limit, "a")]).refused is None
    for part in range(1, SLICES + 1):
        for step in (-1, 1, slice_width // 2):
            clock.nanoseconds = min(start + part * slice_width + step, start + span * 10**9 - 1)
            assert limiter.admit([(limit, "a")]).refused is not None
    clock.nanoseconds = start + (SLICES + 1) * span * 10**9 // SLICES + 1
    assert limiter.admit([(limit, "a")]).refused is None


def test_a_steady_caller_just_below_the_limit_is_never_refused() -> None:
    clock = NanosecondClock(123_456_789)
    limiter = Limiter(clock)
    pace = round(60e9 / (60 * 64 / 66))
    for _ in range(2000):
        assert limiter.admit([(MINUTE, "a")]).refused is None
        clock.nanoseconds += pace


@given(calls, starts, st.sets(st.integers(0, 80)))
@settings(max_examples=150, deadline=None)
def test_sweeping_changes_no_decision(
    sequence: list[tuple[int, str, int]], start: int, sweeps: set[int]
) -> None:
    clock = NanosecondClock(start)
    swept, unswept = Limiter(clock), Limiter(clock)
    stacked = [RateLimit(Scope.KEY, 2, 1), RateLimit(Scope.KEY, 3, 7)]
    for turn, (step, subject, _) in enumerate(sequence):
        clock.nanoseconds += step
        unswept._swept = clock.monotonic()
        if turn in sweeps:
            swept._sweep(clock.monotonic())
        asked = [(limit, subject) for limit in stacked]
        assert swept.admit(asked) == unswept.admit(asked)


def test_callers_who_left_are_forgotten() -> None:
    clock = ManualClock()
    limiter = Limiter(clock)
    for number in range(500):
        limiter.admit([(MINUTE, f"caller-{number}")])
    clock.advance(61)
    limiter.admit([(MINUTE, "one more")])
    assert len(limiter._windows) == 1
    assert SWEEP_SECONDS < 60


def test_who_is_only_refused_is_forgotten_too() -> None:
    clock = ManualClock()
    limiter = Limiter(clock)
    tight, wide = RateLimit(Scope.TENANT, 1, 3600), RateLimit(Scope.IP, 5, 60)
    limiter.admit([(tight, "t")])
    for number in range(500):
        assert limiter.admit([(tight, "t"), (wide, f"ip-{number}")]).refused
    clock.advance(61)
    limiter.admit([(tight, "t")])
    assert len(limiter._windows) == 1


def test_memory_does_not_grow_with_traffic() -> None:
    clock = ManualClock()
    window = Window(1_000_000, 60)
    sizes = []
    for _ in range(20):
        for _ in range(5000):
            window.add(clock.monotonic())
            clock.advance(0.003)
            window.remaining(clock.monotonic())
        sizes.append(len(window._counts))
    assert max(sizes) <= SLICES + 2
    assert sys.getsizeof(window._counts) < 10_000


def test_the_strictest_of_stacked_limits_decides_and_names_itself() -> None:
    clock = ManualClock()
    limiter = Limiter(clock)
    second, hour = RateLimit(Scope.KEY, 2, 1), RateLimit(Scope.KEY, 3, 3600)
    asked = [(second, "a"), (hour, "a")]
    decisions = [limiter.admit(asked) for _ in range(3)]
    assert [d.refused is None for d in decisions] == [True, True, False]
    assert decisions[2].refused and decisions[2].refused.limit is second
    clock.advance(decisions[2].refused.reset)
    assert limiter.admit(asked).refused is None
    both_full = limiter.admit(asked)
    clock.advance(0)
    assert both_full.refused and both_full.refused.limit is hour
    assert both_full.refused.reset > 3500


def test_no_limits_admit_everything() -> None:
    decision = Limiter(ManualClock()).admit([])
    assert decision == Decision((), None)


def test_subjects_and_limits_do_not_share_an_allowance() -> None:
    limiter = Limiter(ManualClock())
    one = RateLimit(Scope.KEY, 1, 60)
    chat = RateLimit(Scope.KEY, 1, 60, frozenset({"chat.completions"}))
    assert limiter.admit([(one, "a")]).refused is None
    assert limiter.admit([(one, "b")]).refused is None
    assert limiter.admit([(chat, "a")]).refused is None
    assert limiter.admit([(one, "a")]).refused is not None


@pytest.mark.parametrize("backward", [0.001, 1.0, 3600.0])
def test_a_clock_that_steps_back_admits_no_more(backward: float) -> None:
    clock = ManualClock(monotonic=10_000)
    limiter = Limiter(clock)
    limit = RateLimit(Scope.KEY, 3, 10)
    for _ in range(3):
        limiter.admit([(limit, "a")])
    clock.advance(-backward)
    assert limiter.admit([(limit, "a")]).refused is not None


def test_the_machines_clock_is_the_default() -> None:
    limiter = Limiter()
    one = RateLimit(Scope.KEY, 1, 3600)
    assert limiter.admit([(one, "a")]).refused is None
    refused = limiter.admit([(one, "a")]).refused
    assert refused is not None and 3600 <= refused.reset <= 3660
