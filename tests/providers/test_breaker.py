"""The breaker as a state machine: it opens on faults in a row, rests, and one probe decides."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from providers.breaker import Breaker, Breakers, Policy, State
from providers.call import Outcome, Verdict
from tests.clocks import ManualClock

OK, FAULT = Outcome(Verdict.OK), Outcome(Verdict.UNAVAILABLE)
NEITHER = [Verdict.AUTH, Verdict.RATE_LIMITED, Verdict.QUOTA_EXHAUSTED, Verdict.INVALID_REQUEST, Verdict.BLOCKED]  # fmt: skip
FAULTS = [Verdict.UNAVAILABLE, Verdict.BAD_PAYLOAD, Verdict.TIMEOUT, Verdict.UNREACHABLE]
ANSWERS = [Verdict.OK, Verdict.EMPTY, Verdict.NOT_FOUND]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def opened(clock: ManualClock, policy: Policy | None = None) -> Breaker:
    policy = policy or Policy(failures=3, wait=10)
    breaker = Breaker(clock, policy)
    for _ in range(policy.failures):
        assert breaker.permits()
        breaker.record(FAULT)
    assert breaker.state is State.OPEN
    return breaker


def half_opened(clock: ManualClock) -> Breaker:
    breaker = opened(clock)
    clock.advance(10)
    assert breaker.permits() and breaker.state is State.HALF_OPEN
    return breaker


@pytest.mark.parametrize("verdict", FAULTS)
def test_faults_in_a_row_open_it(clock: ManualClock, verdict: Verdict) -> None:
    breaker = Breaker(clock, Policy(failures=3, wait=10))
    for number in range(3):
        assert breaker.permits() and breaker.state is State.CLOSED, number
        breaker.record(Outcome(verdict))
    assert breaker.state is State.OPEN and not breaker.permits()


@pytest.mark.parametrize("verdict", ANSWERS)
def test_any_answer_breaks_the_row(clock: ManualClock, verdict: Verdict) -> None:
    breaker = Breaker(clock, Policy(failures=3, wait=10))
    for _ in range(20):
        breaker.record(FAULT)
        breaker.record(FAULT)
        breaker.record(Outcome(verdict))
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("verdict", NEITHER)
def test_what_is_not_the_providers_fault_counts_neither_way(
    clock: ManualClock, verdict: Verdict
) -> None:
    breaker = Breaker(clock, Policy(failures=3, wait=10))
    for _ in range(20):
        breaker.record(Outcome(verdict))
    assert breaker.state is State.CLOSED
    for outcome in (FAULT, FAULT, Outcome(verdict), FAULT):
        breaker.record(outcome)
    assert breaker.state is State.OPEN


def test_every_verdict_is_on_one_side() -> None:
    assert {*ANSWERS, *FAULTS, *NEITHER} == set(Verdict)


def test_a_closed_one_has_nothing_to_wait_for(clock: ManualClock) -> None:
    breaker = Breaker(clock)
    breaker.record(FAULT)
    assert breaker.seconds_left() == 0


def test_it_rests_as_long_as_said_and_not_a_moment_less(clock: ManualClock) -> None:
    breaker = opened(clock)
    assert breaker.seconds_left() == 10
    clock.advance(9.999)
    assert not breaker.permits() and 0 < breaker.seconds_left() < 0.01
    clock.advance(0.001)
    assert breaker.seconds_left() == 0
    assert breaker.permits() and breaker.state is State.HALF_OPEN


def test_only_one_probe_goes_until_it_has_a_verdict(clock: ManualClock) -> None:
    breaker = half_opened(clock)
    assert [breaker.permits() for _ in range(5)] == [False] * 5
    clock.advance(1000)
    assert not breaker.permits()
    breaker.record(OK)
    assert breaker.state is State.CLOSED
    assert [breaker.permits() for _ in range(5)] == [True] * 5


def test_a_probe_that_fails_sends_it_back_to_rest(clock: ManualClock) -> None:
    breaker = half_opened(clock)
    breaker.record(FAULT)
    assert breaker.state is State.OPEN and breaker.seconds_left() == 10


def test_a_probe_without_a_verdict_leaves_its_place_to_the_next(clock: ManualClock) -> None:
    breaker = half_opened(clock)
    breaker.release()
    assert breaker.permits() and not breaker.permits()
    breaker.record(Outcome(Verdict.AUTH))
    assert breaker.state is State.HALF_OPEN
    assert breaker.permits() and not breaker.permits()


def test_the_row_starts_anew_after_a_good_probe(clock: ManualClock) -> None:
    breaker = half_opened(clock)
    breaker.record(OK)
    breaker.record(FAULT)
    breaker.record(FAULT)
    assert breaker.state is State.CLOSED


def test_an_answer_to_a_call_from_before_does_not_close_it(clock: ManualClock) -> None:
    """Long streams that began well end well while the provider refuses all new calls."""
    breaker = opened(clock)
    breaker.record(OK)
    assert breaker.state is State.OPEN and not breaker.permits()


def test_faults_of_calls_from_before_do_not_prolong_its_rest(clock: ManualClock) -> None:
    breaker = opened(clock)
    for _ in range(9):
        clock.advance(1)
        breaker.record(FAULT)
        breaker.release()
    assert breaker.seconds_left() == 1


def test_a_target_has_one_breaker_of_its_own(clock: ManualClock) -> None:
    breakers = Breakers(clock)
    one = breakers.of("lab/gpt-x")
    assert breakers.of("lab/gpt-x") is one is not breakers.of("lab/gpt-y")
    for _ in range(Policy().failures):
        one.record(FAULT)
    assert breakers.states() == {"lab/gpt-x": State.OPEN, "lab/gpt-y": State.CLOSED}


class BreakerMachine(RuleBasedStateMachine):
    """Against a model that knows which permissions are out: at most one while HALF_OPEN."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.policy = Policy(failures=3, wait=10)
        self.breaker = Breaker(self.clock, self.policy)
        self.row = 0
        self.opened_at: float | None = None
        self.probing = False

    @rule(seconds=st.sampled_from([0.5, 3.0, 9.5, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(verdict=st.sampled_from([*ANSWERS, *FAULTS, *NEITHER, None]))
    def call(self, verdict: Verdict | None) -> None:
        """A whole attempt, from permission to verdict (None: its client left)."""
        resting = self.opened_at is not None and self.clock.monotonic() < self.opened_at + 10
        assert self.breaker.permits() == (not resting and not self.probing)
        if resting or self.probing:
            return
        was_open = self.opened_at is not None
        assert (self.breaker.state is State.HALF_OPEN) == was_open
        self._end(verdict, probe=was_open)

    @precondition(lambda self: self.opened_at is not None and not self.probing)
    @rule()
    def a_probe_begins(self) -> None:
        if self.breaker.permits():
            self.probing = True

    @precondition(lambda self: self.probing)
    @rule(verdict=st.sampled_from([*ANSWERS, *FAULTS, *NEITHER, None]))
    def the_probe_ends(self, verdict: Verdict | None) -> None:
        self.probing = False
        self._end(verdict, probe=True)

    def _end(self, verdict: Verdict | None, *, probe: bool) -> None:
        if verdict is None:
            self.breaker.release()
            return
        self.breaker.record(Outcome(verdict))
        if verdict in ANSWERS:
            self.row, self.opened_at = 0, None
        elif verdict in FAULTS:
            self.row += 1
            if probe or self.row >= self.policy.failures:
                self.opened_at = self.clock.monotonic()

    @invariant()
    def it_is_closed_exactly_when_it_should_be(self) -> None:
        assert (self.breaker.state is State.CLOSED) == (self.opened_at is None)


BreakerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBreakerMachine = BreakerMachine.TestCase
