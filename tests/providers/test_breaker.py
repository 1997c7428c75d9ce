"""One breaker by itself: resilience4j's rules, each permission's turn, and staff's word."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from providers.breaker import FORCED, Breaker, Override, Permit, Result, State
from providers.breaker_policy import Policy, Window
from providers.call import Outcome, Verdict
from tests.clocks import ManualClock

OK, FAULT, IGNORED = Result.SUCCESS, Result.FAILURE, Result.IGNORED
NEITHER = [
    Verdict.AUTH,
    Verdict.RATE_LIMITED,
    Verdict.QUOTA_EXHAUSTED,
    Verdict.INVALID_REQUEST,
    Verdict.BLOCKED,
    Verdict.SATURATED,
]
FAULTS = [
    Verdict.UNAVAILABLE,
    Verdict.BAD_PAYLOAD,
    Verdict.INVALID_ANSWER,
    Verdict.TIMEOUT,
    Verdict.UNREACHABLE,
]
ANSWERS = [Verdict.OK, Verdict.EMPTY, Verdict.NOT_FOUND]
PLAIN = Policy(consecutive_failures=3, open_seconds=10)
BY_RATE = Policy(consecutive_failures=1000, minimum_calls=4, window=Window("count", 10))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def given(breaker: Breaker) -> Permit:
    permit = breaker.permit()
    assert permit is not None
    return permit


def calls(breaker: Breaker, *results: Result, seconds: float = 0.0) -> None:
    for result in results:
        breaker.end(given(breaker), result, seconds)


def opened(clock: ManualClock, policy: Policy = PLAIN) -> Breaker:
    breaker = Breaker(clock, policy)
    calls(breaker, *[FAULT] * policy.consecutive_failures)
    assert breaker.state is State.OPEN
    return breaker


def half_opened(clock: ManualClock, policy: Policy = PLAIN) -> tuple[Breaker, Permit]:
    breaker = opened(clock, policy)
    clock.advance(policy.open_seconds)
    probe = given(breaker)
    assert breaker.state is State.HALF_OPEN
    return breaker, probe


def test_every_verdict_is_on_one_side() -> None:
    assert {Result.of(Outcome(verdict)) for verdict in FAULTS} == {FAULT}
    assert {Result.of(Outcome(verdict)) for verdict in ANSWERS} == {OK}
    assert {Result.of(Outcome(verdict)) for verdict in NEITHER} == {IGNORED}
    assert {*ANSWERS, *FAULTS, *NEITHER} == set(Verdict)


def test_five_failures_in_a_row_open_it_unless_said(clock: ManualClock) -> None:
    breaker = Breaker(clock)
    calls(breaker, *[FAULT] * 4)
    assert breaker.state is State.CLOSED
    calls(breaker, FAULT)
    assert breaker.state is State.OPEN and breaker.permit() is None
    assert breaker.seconds_left() == 60


def test_any_answer_breaks_the_row_and_what_is_ignored_does_not(clock: ManualClock) -> None:
    breaker = Breaker(clock, PLAIN)
    for _ in range(20):
        calls(breaker, FAULT, FAULT, OK)
    assert breaker.state is State.CLOSED
    calls(breaker, FAULT, FAULT, IGNORED, FAULT)
    assert breaker.state is State.OPEN


def test_the_failure_rate_counts_from_the_minimum_on(clock: ManualClock) -> None:
    breaker = Breaker(clock, BY_RATE)
    calls(breaker, FAULT, OK, FAULT)
    assert breaker.state is State.CLOSED and breaker.rates() == (-1, -1)
    calls(breaker, IGNORED)
    assert breaker.state is State.CLOSED
    calls(breaker, OK)  # 2 of 4: at the threshold, not above it; evaluated after a success too
    assert breaker.state is State.OPEN


def test_the_window_forgets_its_oldest_call(clock: ManualClock) -> None:
    breaker = Breaker(clock, BY_RATE)
    calls(breaker, OK, OK, OK, OK, OK, OK, FAULT, FAULT, FAULT, FAULT)
    assert breaker.rates() == (40, 0)
    calls(breaker, OK)
    assert breaker.rates() == (40, 0)
    calls(breaker, FAULT)
    assert breaker.state is State.OPEN


def test_a_minimum_beyond_the_windows_size_is_its_size(clock: ManualClock) -> None:
    policy = Policy(consecutive_failures=1000, minimum_calls=500, window=Window("count", 4))
    breaker = Breaker(clock, policy)
    calls(breaker, OK, FAULT, OK)
    assert breaker.state is State.CLOSED
    calls(breaker, FAULT)
    assert breaker.state is State.OPEN


def test_a_window_of_time_forgets_by_the_second(clock: ManualClock) -> None:
    policy = Policy(consecutive_failures=1000, minimum_calls=4, window=Window("time", 3))
    breaker = Breaker(clock, policy)
    calls(breaker, FAULT, FAULT, FAULT)
    clock.advance(2.9)
    assert breaker.buffered.calls == 3
    clock.advance(0.1)
    assert breaker.buffered.calls == 0
    calls(breaker, OK, FAULT, OK)
    clock.advance(1)
    calls(breaker, OK)
    assert breaker.state is State.CLOSED and breaker.rates() == (25, 0)
    clock.advance(100_000)
    assert breaker.rates() == (-1, -1)


def test_slow_calls_open_it_whether_they_succeed_or_not(clock: ManualClock) -> None:
    policy = Policy(
        consecutive_failures=1000,
        slow_call_seconds=2,
        slow_call_rate_threshold=75,
        failure_rate_threshold=100,
        minimum_calls=4,
    )
    breaker = Breaker(clock, policy)
    calls(breaker, OK, OK, FAULT, seconds=2.001)
    calls(breaker, OK, seconds=2.0)  # not above it
    assert breaker.state is State.OPEN
    swift = Breaker(clock, policy)
    calls(swift, OK, OK, OK, OK, seconds=2.0)
    assert swift.state is State.CLOSED


def test_it_rests_as_long_as_said_and_not_a_moment_less(clock: ManualClock) -> None:
    breaker = opened(clock)
    assert breaker.seconds_left() == 10 and breaker.rests
    clock.advance(9.999)
    assert breaker.permit() is None and 0 < breaker.seconds_left() < 0.01
    clock.advance(0.001)
    assert breaker.seconds_left() == 0 and breaker.wants_probe
    assert given(breaker).probe and breaker.state is State.HALF_OPEN
    assert breaker.totals.not_permitted == 1


def test_only_one_probe_goes_until_it_has_a_result(clock: ManualClock) -> None:
    breaker, probe = half_opened(clock)
    assert [breaker.permit() for _ in range(5)] == [None] * 5
    clock.advance(1000)
    assert breaker.permit() is None
    breaker.end(probe, OK)
    assert breaker.state is State.CLOSED
    assert None not in [breaker.permit() for _ in range(5)]


def test_a_failed_or_slow_probe_sends_it_back_to_rest(clock: ManualClock) -> None:
    for result, seconds in ((FAULT, 0.0), (OK, 60.1)):
        breaker, probe = half_opened(clock)
        breaker.end(probe, result, seconds)
        assert breaker.state is State.OPEN and breaker.seconds_left() == 10


@pytest.mark.parametrize(
    ("results", "state"),
    [
        ([FAULT, OK, OK, OK], State.CLOSED),
        ([OK, FAULT, FAULT, OK], State.OPEN),
        ([FAULT, FAULT, FAULT, OK], State.OPEN),
    ],
)
def test_several_probes_decide_together(
    clock: ManualClock, results: list[Result], state: State
) -> None:
    policy = Policy(consecutive_failures=3, open_seconds=10, permitted_probes=4)
    breaker, first = half_opened(clock, policy)
    probes = [first, *(given(breaker) for _ in range(3))]
    assert breaker.permit() is None
    for number, (probe, result) in enumerate(zip(probes, results, strict=True), 1):
        assert breaker.state is State.HALF_OPEN, number
        breaker.end(probe, result)
        assert number == 4 or breaker.permit() is None  # each place is given once
    assert breaker.state is state


def test_a_probe_without_a_result_leaves_its_place_to_the_next(clock: ManualClock) -> None:
    breaker, probe = half_opened(clock)
    breaker.end(probe, IGNORED)
    assert breaker.state is State.HALF_OPEN
    second = given(breaker)
    assert breaker.permit() is None
    breaker.end(probe, IGNORED)  # a second end of the first frees no place
    assert breaker.permit() is None
    breaker.end(second, OK)
    assert breaker.state is State.CLOSED


def test_it_starts_anew_after_a_good_probe(clock: ManualClock) -> None:
    breaker, probe = half_opened(clock)
    breaker.end(probe, OK)
    assert breaker.buffered.calls == 0
    calls(breaker, FAULT, FAULT)
    assert breaker.state is State.CLOSED


def test_late_results_from_another_state_are_dropped(clock: ManualClock) -> None:
    """Long calls that began well end well while the provider refuses all new ones; and what
    began before a rest says nothing after it."""
    breaker = Breaker(clock, PLAIN)
    early = [given(breaker) for _ in range(6)]
    calls(breaker, FAULT, FAULT, FAULT)
    breaker.end(early[0], OK)
    assert breaker.state is State.OPEN
    clock.advance(9)
    breaker.end(early[1], FAULT)
    assert breaker.seconds_left() == 1
    clock.advance(1)
    probe = given(breaker)
    breaker.end(early[2], OK)
    breaker.end(early[3], IGNORED)
    assert breaker.state is State.HALF_OPEN and breaker.permit() is None
    breaker.end(probe, OK)
    breaker.end(early[4], FAULT)
    assert breaker.buffered.calls == 0 and breaker.failures_in_a_row == 0


def test_a_stream_that_was_a_probe_counts_on_in_the_state_that_follows(clock: ManualClock) -> None:
    breaker, probe = half_opened(clock)
    breaker.end(probe, OK)
    probe.go_on()
    breaker.end(probe, FAULT)
    assert breaker.failures_in_a_row == 1
    breaker.end(probe, FAULT)
    assert breaker.failures_in_a_row == 1


def test_forced_open_lets_nobody_through_until_its_moment(clock: ManualClock) -> None:
    breaker = Breaker(clock, PLAIN)
    before = given(breaker)
    breaker.force(Override(State.FORCED_OPEN, clock.now() + 30))
    assert breaker.permit() is None and breaker.rests and breaker.seconds_left() == 30
    breaker.end(before, FAULT)
    clock.advance(29.9)
    assert breaker.state is State.FORCED_OPEN and breaker.permit() is None
    clock.advance(0.1)
    assert breaker.state is State.CLOSED and not breaker.rests
    assert not given(breaker).probe and breaker.failures_in_a_row == 0


def test_disabled_lets_all_through_and_counts_nothing(clock: ManualClock) -> None:
    breaker = opened(clock)
    breaker.force(Override(State.DISABLED, clock.now() + 30))
    late = given(breaker)
    calls(breaker, *[FAULT] * 50)
    assert breaker.state is State.DISABLED
    clock.advance(30)
    assert breaker.state is State.CLOSED
    calls(breaker, FAULT, FAULT)
    breaker.end(late, FAULT)
    assert breaker.state is State.CLOSED


def test_staff_close_it_and_nothing_is_left_of_the_past(clock: ManualClock) -> None:
    breaker = opened(clock)
    breaker.force(Override(State.CLOSED))
    assert breaker.state is State.CLOSED
    calls(breaker, FAULT, FAULT)
    assert breaker.state is State.CLOSED


def test_an_override_that_has_ended_is_none(clock: ManualClock) -> None:
    breaker = opened(clock)
    breaker.force(Override(State.FORCED_OPEN, clock.now()))
    assert breaker.state is State.OPEN


def test_other_workers_do_not_outvote_staff(clock: ManualClock) -> None:
    breaker = Breaker(clock, PLAIN)
    breaker.force(Override(State.DISABLED))
    breaker.follow(State.OPEN, 50)
    assert breaker.state is State.DISABLED


def test_it_follows_what_other_workers_came_to(clock: ManualClock) -> None:
    breaker = Breaker(clock, PLAIN)
    before = given(breaker)
    breaker.follow(State.OPEN, 4)
    assert breaker.permit() is None and breaker.seconds_left() == 4
    breaker.follow(State.HALF_OPEN)
    assert breaker.wants_probe
    breaker.follow(State.CLOSED)
    breaker.end(before, FAULT)
    assert breaker.failures_in_a_row == 0


def test_a_new_policy_is_gone_by_at_once(clock: ManualClock) -> None:
    breaker = Breaker(clock, PLAIN)
    calls(breaker, FAULT, FAULT)
    breaker.configure(Policy(consecutive_failures=3, open_seconds=10))  # the same
    assert breaker.failures_in_a_row == 2
    breaker.configure(Policy(consecutive_failures=1))
    calls(breaker, FAULT)
    assert breaker.state is State.OPEN
    fewer = Policy(consecutive_failures=3, open_seconds=10, permitted_probes=1)
    breaker, first = half_opened(
        clock, Policy(consecutive_failures=3, open_seconds=10, permitted_probes=3)
    )
    breaker.end(first, OK)
    breaker.configure(fewer)
    breaker.end(given(breaker), OK)
    assert breaker.state is State.CLOSED


class Model:
    """resilience4j's rules, written down once more and without a thought for speed: it keeps
    all results there ever were and counts them anew each time."""

    def __init__(self, policy: Policy, clock: ManualClock) -> None:
        self.policy, self.clock = policy, clock
        self.state, self.turn = State.CLOSED, 0
        self.results: deque[tuple[float, bool, bool]] = deque()
        self.out = 0
        self.since = 0.0
        self.expires: float | None = None

    def go(self, state: State) -> None:
        self.state, self.turn, self.since = state, self.turn + 1, self.clock.monotonic()
        self.results.clear()
        self.out, self.expires = 0, None

    def pass_time(self) -> None:
        if self.state in FORCED and self.expires is not None and self.clock.now() >= self.expires:
            self.go(State.CLOSED)

    def permits(self) -> bool:
        if (
            self.state is State.OPEN
            and self.clock.monotonic() >= self.since + self.policy.open_seconds
        ):
            self.go(State.HALF_OPEN)
        if self.state is State.HALF_OPEN:
            return self.out + len(self.results) < self.policy.permitted_probes
        return self.state in (State.CLOSED, State.DISABLED)

    def end(self, result: Result, seconds: float) -> None:
        """Of a call that began in this very state."""
        policy = self.policy
        if self.state is State.HALF_OPEN:
            self.out -= 1
        if result is IGNORED or self.state not in (State.CLOSED, State.HALF_OPEN):
            return
        self.results.append(
            (self.clock.monotonic(), result is FAULT, seconds > policy.slow_call_seconds)
        )
        if self.state is State.HALF_OPEN:
            if len(self.results) == policy.permitted_probes:
                self.go(State.OPEN if self.exceeds(list(self.results)) else State.CLOSED)
            return
        row = list(self.results)[-policy.consecutive_failures :]
        in_a_row = len(row) == policy.consecutive_failures and all(failed for _, failed, _ in row)
        kept, minimum = self.kept(), policy.minimum_calls
        if policy.window.type == "count":
            minimum = min(minimum, policy.window.size)
        if in_a_row or (len(kept) >= minimum and self.exceeds(kept)):
            self.go(State.OPEN)

    def kept(self) -> list[tuple[float, bool, bool]]:
        window, results = self.policy.window, list(self.results)
        if window.type == "count":
            return results[-window.size :]
        return [r for r in results if int(r[0]) > int(self.clock.monotonic()) - window.size]

    def exceeds(self, results: list[tuple[float, bool, bool]]) -> bool:
        failed = 100 * sum(failed for _, failed, _ in results) / len(results)
        slow = 100 * sum(slow for _, _, slow in results) / len(results)
        return (
            failed >= self.policy.failure_rate_threshold
            or slow >= self.policy.slow_call_rate_threshold
        )


POLICIES = st.builds(
    Policy,
    consecutive_failures=st.sampled_from([1, 2, 3, 1000]),
    failure_rate_threshold=st.sampled_from([25.0, 50.0, 100.0]),
    slow_call_rate_threshold=st.sampled_from([50.0, 100.0]),
    slow_call_seconds=st.just(2.0),
    minimum_calls=st.sampled_from([1, 3, 5, 50]),
    window=st.builds(Window, st.sampled_from(["count", "time"]), st.sampled_from([1, 3, 8])),
    open_seconds=st.sampled_from([2.0, 10.0]),
    permitted_probes=st.sampled_from([1, 2, 3]),
)


class BreakerMachine(RuleBasedStateMachine):
    """The breaker against the model, with any number of calls under way at the same time."""

    @initialize(policy=POLICIES)
    def begin(self, policy: Policy) -> None:
        self.clock = ManualClock()
        self.breaker = Breaker(self.clock, policy)
        self.model = Model(policy, self.clock)
        self.under_way: list[tuple[Permit, int]] = []

    @rule(seconds=st.sampled_from([0.25, 1.0, 2.0, 9.75, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.model.pass_time()

    @rule()
    def a_call_begins(self) -> None:
        permits = self.model.permits()
        permit = self.breaker.permit()
        assert (permit is not None) == permits
        if permit is not None:
            if self.model.state is State.HALF_OPEN:
                self.model.out += 1
            self.under_way.append((permit, self.model.turn))

    @precondition(lambda self: getattr(self, "under_way", None))
    @rule(
        place=st.integers(0, 30),
        result=st.sampled_from(Result),
        seconds=st.sampled_from([0.0, 2.0, 2.5]),
    )
    def a_call_ends(self, place: int, result: Result, seconds: float) -> None:
        permit, turn = self.under_way.pop(place % len(self.under_way))
        self.breaker.end(permit, result, seconds)
        if turn == self.model.turn:
            self.model.end(result, seconds)

    @rule(
        result=st.sampled_from([OK, FAULT, FAULT]),
        seconds=st.sampled_from([0.0, 2.5]),
        times=st.integers(1, 5),
    )
    def some_calls(self, result: Result, seconds: float, times: int) -> None:
        for _ in range(times):
            self.a_call_begins()
            if self.under_way and self.under_way[-1][1] == self.model.turn:
                self.a_call_ends(len(self.under_way) - 1, result, seconds)

    @rule(
        state=st.sampled_from([State.FORCED_OPEN, State.DISABLED, State.CLOSED]),
        seconds=st.sampled_from([None, 1.0, 10.0]),
    )
    def staff_speak(self, state: State, seconds: float | None) -> None:
        expires = None if seconds is None else self.clock.now() + seconds
        self.breaker.force(Override(state, expires))
        self.model.go(state)
        self.model.expires = expires if state in FORCED else None

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        assert self.breaker.state is self.model.state
        if self.model.state is State.CLOSED:
            kept = self.model.kept()
            assert self.breaker.buffered == (
                len(kept),
                sum(f for _, f, _ in kept),
                sum(s for _, _, s in kept),
            )
        if self.model.state is State.OPEN:
            left = self.model.since + self.model.policy.open_seconds - self.clock.monotonic()
            assert self.breaker.seconds_left() == max(0.0, left)


@pytest.fixture(scope="module", autouse=True)
def long_form(is_long: bool) -> None:
    BreakerMachine.TestCase.settings = settings(
        max_examples=3000 if is_long else 150, stateful_step_count=60, deadline=None
    )


BreakerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestBreakerMachine: Any = BreakerMachine.TestCase
