"""Rate limits promise something about *any* span, so they are checked on the moments at which
calls were admitted; whichever kind of counters decides."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenants.limits import RateLimit
from tests.usage.counters.stage import OneClock, memory, rate
from tests.usage.counters.trial import NewTrial, Trial
from usage.counters.claims import (
    MICROSECONDS,
    SLICES,
    Admission,
    Amounts,
    Hold,
    Part,
    RateClaim,
)
from usage.counters.memory import AGED_AT_ONCE, MemoryCounters

SPANS = [7, 10, 60, 3600]  # seconds; a store may forget after a second or two what is shorter
NAMES = itertools.count()

Moment = tuple[int, int]  # when (µs), how much

claims = st.builds(
    lambda limit, span, metric: rate(limit, span, metric, whose=f"n{next(NAMES)}"),
    st.integers(1, 6),
    st.sampled_from(SPANS),
    st.sampled_from(["requests", "tokens"]),
)
# Small steps, whole spans and their neighbours, and a slice's width and its neighbours.
steps = st.one_of(
    st.integers(0, 10_000),
    st.integers(0, 4 * MICROSECONDS),
    st.builds(
        lambda span, part, off: max(0, span * MICROSECONDS // SLICES * part + off),
        st.sampled_from(SPANS),
        st.sampled_from([1, 2, 63, 64, 65, 66]),
        st.integers(-2, 2),
    ),
)
calls = st.lists(st.tuples(steps, st.integers(1, 7), st.integers(1, 4)), max_size=60)
# Any moment, and those where slices of all the spans begin, with their neighbours.
starts = st.one_of(
    st.integers(1, 2**50),
    st.builds(
        lambda turn, off: turn * 25_200 * MICROSECONDS + off,
        st.integers(1, 40_000),
        st.integers(-2, 2),
    ),
)


def most_in_any_span(moments: Sequence[Moment], span: int) -> int:
    """The most in any half-open span of that length: two pointers."""
    most = within = first = 0
    for moment, amount in moments:
        within += amount
        while moment - moments[first][0] >= span:
            within -= moments[first][1]
            first += 1
        most = max(most, within)
    return most


def counted(claim: RateClaim, tokens: int) -> int:
    return tokens if claim.settles else 1


def longest_wait(admission: Admission) -> int:
    return max(state.wait for state in admission.states if state.refused)


def fields(trial: Trial, claim: RateClaim) -> int:
    """How many numbers the counters keep for a rate limit."""
    if trial.valkey is None:
        assert isinstance(trial.counters, MemoryCounters)
        return len(trial.counters._windows[claim.key].counts) + 3
    with trial.valkey.client() as client:
        return int(client.hlen(f"{{patchbay}}:{claim.key}"))  # type: ignore[arg-type]


@given(stacked=st.lists(claims, min_size=1, max_size=3), sequence=calls, start=starts)
@settings(max_examples=40)
def test_never_more_than_the_limit_in_any_span(
    new_trial: NewTrial,
    stacked: list[RateClaim],
    sequence: list[tuple[int, int, int]],
    start: int,
) -> None:
    trial = new_trial(start)
    admitted: dict[RateClaim, list[Moment]] = defaultdict(list)
    for step, chosen, tokens in sequence:
        trial.clock.advance(step)
        asked = [claim for place, claim in enumerate(stacked) if chosen >> place & 1]
        admission = trial.admit(*asked, tokens=tokens)
        assert all(state.left >= 0 and state.wait >= 0 for state in admission.states)
        if admission.granted:
            for claim in asked:
                admitted[claim].append((trial.clock.moment, counted(claim, tokens)))
    for claim, moments in admitted.items():
        span = claim.limit.per_seconds * MICROSECONDS
        assert most_in_any_span(moments, span) <= claim.limit.limit


@given(limit=st.integers(4, 30), span=st.sampled_from(SPANS), start=starts, sequence=calls)
@settings(max_examples=40)
def test_what_was_reserved_and_not_used_is_given_back_and_no_more(
    new_trial: NewTrial,
    limit: int,
    span: int,
    start: int,
    sequence: list[tuple[int, int, int]],
) -> None:
    """Calls end later than others begin; what they used counts from when they were admitted."""
    trial, claim = new_trial(start), rate(limit, span, "tokens")
    running: list[tuple[Hold, int]] = []
    used: dict[int, Moment] = {}
    for number, (step, tokens, less) in enumerate(sequence):
        trial.clock.advance(step)
        hold = trial.begin(claim, tokens=tokens)
        if trial.last.granted:
            running.append((hold, number))
            used[number] = (trial.clock.moment, tokens)
        assert most_in_any_span(list(used.values()), span * MICROSECONDS) <= limit
        if running and number % 3 == 0:
            hold, first = running.pop(0)
            actual = max(0, used[first][1] - less)
            trial.end(hold, Amounts(1, actual))
            used[first] = (used[first][0], actual)
    for hold, _ in running:
        trial.end(hold, Amounts(1, 0))
    if not used:
        return
    trial.clock.advance((SLICES + 1) * claim.width)
    assert trial.admit(claim, tokens=limit).granted


@pytest.mark.unmeasured
@given(claim=claims, start=starts, seed=st.integers(0, 2**32))
@settings(max_examples=15)
def test_who_never_stops_asking_gets_no_more_either(
    new_trial: NewTrial, claim: RateClaim, start: int, seed: int
) -> None:
    trial, pick = new_trial(start), random.Random(seed)
    span, admitted = claim.limit.per_seconds, list[Moment]()
    for _ in range(300):
        trial.clock.advance(pick.randrange(span * MICROSECONDS // 60))
        tokens = pick.randint(1, 3)
        if trial.admit(claim, tokens=tokens).granted:
            admitted.append((trial.clock.moment, counted(claim, tokens)))
    assert most_in_any_span(admitted, span * MICROSECONDS) <= claim.limit.limit


@given(stacked=st.lists(claims, min_size=1, max_size=3), sequence=calls, start=starts)
@settings(max_examples=30)
def test_a_refused_call_counts_nowhere_and_its_wait_is_true_to_the_microsecond(
    new_trial: NewTrial,
    stacked: list[RateClaim],
    sequence: list[tuple[int, int, int]],
    start: int,
) -> None:
    """All or none: counters that were never asked the refused calls decide the same."""
    trial = new_trial(start)
    spared = memory(OneClock(start))
    for step, chosen, tokens in sequence:
        trial.clock.advance(step)
        asked = [claim for place, claim in enumerate(stacked) if chosen >> place & 1]
        admission = trial.admit(*asked, tokens=tokens)
        if admission.granted:
            assert _admit_alone(spared, trial, asked, tokens).states == admission.states
            continue
        if any(counted(claim, tokens) > claim.limit.limit for claim in asked):
            continue  # it will never fit
        wait = longest_wait(admission)
        assert wait > 0
        trial.clock.advance(wait - 1)
        assert not trial.admit(*asked, tokens=tokens).granted
        trial.clock.advance(1)
        assert trial.admit(*asked, tokens=tokens).granted
        assert _admit_alone(spared, trial, asked, tokens).granted


def _admit_alone(
    counters: MemoryCounters, trial: Trial, asked: list[RateClaim], tokens: int
) -> Admission:
    counters._clock.moment = trial.clock.moment  # type: ignore[attr-defined]
    return counters.admit_now(Hold(f"s{next(NAMES)}"), Part(asked, Amounts(1, tokens)))


@given(sequence=calls, start=starts)
@settings(max_examples=40)
def test_what_it_tells_is_true(
    new_trial: NewTrial, sequence: list[tuple[int, int, int]], start: int
) -> None:
    """What is left can be had at once, and nothing more; when it says so all is there again."""
    trial, claim = new_trial(start), rate(9, 7, "tokens")
    for step, _, tokens in sequence:
        trial.clock.advance(step)
        (state,) = trial.admit(claim, tokens=tokens).states
        assert not trial.admit(claim, tokens=state.left + 1).granted
        if state.left:
            assert trial.admit(claim, tokens=state.left).granted
        else:
            assert not trial.admit(claim, tokens=1).granted
    if not sequence:
        return
    (state,) = trial.admit(claim, tokens=0).states
    trial.clock.advance(state.wait - 1)
    trial.admit(claim, tokens=0)
    trial.clock.advance(1)
    assert trial.admit(claim, tokens=9).granted


@pytest.mark.unmeasured
@pytest.mark.parametrize("metric", ["requests", "tokens"])
@pytest.mark.parametrize(("limit", "span"), [(1, 10), (3, 7), (20, 60), (40, 3600)])
def test_98_of_100_places_are_usable_in_a_flood(
    new_trial: NewTrial, limit: int, span: int, metric: str
) -> None:
    """Asked as soon as each refusal says, it gives nearly all there is, in memory that does
    not grow; and never more than the limit in any span."""
    spans, size = SLICES + 1, 7 if metric == "tokens" else 1
    start = 2_100_000_000 * MICROSECONDS + 12_345
    trial, claim = new_trial(start), rate(limit * size, span, metric)
    end, admitted, kept = start + spans * span * MICROSECONDS, list[Moment](), 0
    while trial.clock.moment < end:
        admission = trial.admit(claim, tokens=size)
        if admission.granted:
            admitted.append((trial.clock.moment, size))
            trial.clock.advance(span * MICROSECONDS // limit // 3)
        else:
            trial.clock.advance(longest_wait(admission))
        if len(admitted) % 10 == 0:
            kept = max(kept, fields(trial, claim))
    used = Fraction(sum(amount for _, amount in admitted), limit * size * spans)
    print(f"limit {limit} in {span} s of {metric}: {float(used):.2%} usable, {kept} fields kept")
    assert used >= Fraction(98, 100)
    assert most_in_any_span(admitted, span * MICROSECONDS) <= limit * size
    assert kept <= SLICES + 1 + 3


@pytest.mark.parametrize("span", [7, 60, 3600])
@pytest.mark.parametrize("offset", [0.0, 0.5, 0.999999])
def test_a_burst_anywhere_in_a_slice_blocks_the_whole_span(
    new_trial: NewTrial, span: int, offset: float
) -> None:
    """The bound is the span, wherever the slices' borders happen to lie."""
    claim = rate(3, span)
    start = 1_000_000 * claim.width + int(claim.width * offset)
    trial = new_trial(start)
    for _ in range(3):
        assert trial.admit(claim).granted
    for part in range(1, SLICES + 1):
        for step in (-1, 1, claim.width // 2):
            before = start + span * MICROSECONDS - 1
            trial.clock.moment = min(start + part * claim.width + step, before)
            assert not trial.admit(claim).granted
    trial.clock.moment = start + (SLICES + 1) * claim.width
    assert trial.admit(claim).granted


def test_a_steady_caller_just_below_the_limit_is_never_refused(new_trial: NewTrial) -> None:
    trial, claim = new_trial(123_456_789), rate(60, 60)
    for _ in range(400):
        assert trial.admit(claim).granted
        trial.clock.advance(MICROSECONDS * 66 // 64)


@pytest.mark.unmeasured
def test_memory_does_not_grow_with_traffic(new_trial: NewTrial) -> None:
    trial = new_trial()
    requests, tokens = rate(1_000_000_000, 60), rate(1_000_000_000, 60, "tokens")
    most = 0
    for turn in range(600):
        trial.admit(requests, tokens, tokens=999, settled=Amounts(1, 7))
        trial.clock.advance(300_000)
        if turn % 10 == 0:
            most = max(most, fields(trial, requests), fields(trial, tokens))
    assert most > SLICES
    assert most <= SLICES + 1 + 3


def test_every_rate_in_the_store_expires(new_trial: NewTrial) -> None:
    """Nothing that is about a short span stays for ever, whichever way a call ends."""
    trial = new_trial()
    for span in (1, 7, 60, 3600, 86_400):
        one, two = rate(5, span, whose=f"{span}"), rate(50, span, "tokens", f"{span}")
        for settled in (None, Amounts(1, 3), Amounts(1, 30), Amounts()):
            trial.admit(one, two, tokens=10, settled=settled)
            trial.clock.advance(one.width)
    if trial.valkey is None:
        return  # there are no keys in memory; its ageing is tested below
    with trial.valkey.client() as client:
        keys = list(client.scan_iter("*rate:*"))
        left = {key: client.pttl(key) for key in keys}
    assert len(left) >= 8
    for key, milliseconds in left.items():
        span = int(key.split(b"/")[2 if b"tokens" not in key else 3])
        assert 0 < milliseconds <= span * 1000 * 66 / 64 + 1001  # type: ignore[operator]


def test_a_late_settlement_does_not_bring_back_a_rate_that_is_past(new_trial: NewTrial) -> None:
    """A key without an expiry would stay for ever."""
    trial, claim = new_trial(), rate(50, 7, "tokens")
    hold = trial.begin(claim, tokens=10)
    trial.clock.advance(8 * MICROSECONDS)
    trial.admit(claim, tokens=1)
    trial.end(hold, Amounts(1, 500))
    (state,) = trial.admit(claim, tokens=1).states
    assert (state.left, state.refused) == (48, False)
    if trial.valkey is not None:
        with trial.valkey.client() as client:
            for key in client.scan_iter("*rate:*"):
                assert client.pttl(key) > 0  # type: ignore[operator]


def test_more_used_than_reserved_is_told_as_nothing_left(new_trial: NewTrial) -> None:
    """What a provider counts is what counts; what is left is never said to be below zero."""
    trial, claim = new_trial(), rate(50, 60, "tokens")
    trial.admit(claim, tokens=10, settled=Amounts(1, 70))
    admission = trial.admit(claim, tokens=1)
    (state,) = admission.states
    assert (admission.granted, state.left) == (False, 0)
    trial.clock.advance(state.wait)
    assert trial.admit(claim, tokens=50).granted


def test_the_strictest_of_stacked_limits_refuses_and_all_are_told(new_trial: NewTrial) -> None:
    trial, short, long = new_trial(), rate(2, 7), rate(3, 3600)
    assert [trial.admit(short, long).granted for _ in range(3)] == [True, True, False]
    first, second = trial.last.states
    assert (first.claim, first.refused, second.refused) == (short, True, False)
    trial.clock.advance(first.wait)
    assert trial.admit(short, long).granted
    first, second = trial.admit(short, long).states
    assert (first.refused, second.refused) == (False, True)
    assert second.wait > 3500 * MICROSECONDS


def test_no_limits_admit_everything(new_trial: NewTrial) -> None:
    admission = new_trial().admit()
    assert (admission.granted, admission.states) == (True, ())


def test_subjects_and_limits_do_not_share_an_allowance(new_trial: NewTrial) -> None:
    trial, one = new_trial(), rate(1)
    limit = RateLimit(one.limit.scope, 1, 60, frozenset({"chat.completions"}))
    chat = RateClaim(limit, f"rate:{limit.key}:a")
    assert trial.admit(one).granted
    assert trial.admit(rate(1, whose="b")).granted
    assert trial.admit(chat).granted
    assert not trial.admit(one).granted


# Of the kind in memory only: there is nobody but itself to drop what is past.


def test_callers_who_left_are_forgotten_and_no_call_pays_for_many() -> None:
    clock = OneClock()
    counters = memory(clock)
    for number in range(500):
        _ask(counters, rate(60, whose=f"caller-{number}"))
    clock.advance(62 * MICROSECONDS)
    kept = [500]
    while kept[-1] > 1:
        _ask(counters, rate(60, whose="one more"))
        kept.append(len(counters._windows))
        assert len(kept) < 600
    assert max(before - after for before, after in itertools.pairwise(kept)) <= AGED_AT_ONCE


def test_who_is_only_refused_is_forgotten_too() -> None:
    clock = OneClock()
    counters = memory(clock)
    tight = rate(1, 3600, whose="t")
    _ask(counters, tight)
    for number in range(500):
        assert not _ask(counters, tight, rate(5, whose=f"ip-{number}")).granted
    clock.advance(62 * MICROSECONDS)
    for _ in range(600):
        _ask(counters, tight)
    assert set(counters._windows) == {tight.key}


@given(sequence=calls, start=starts, aged=st.sets(st.integers(0, 60)))
@settings(max_examples=80)
def test_ageing_changes_no_decision(
    sequence: list[tuple[int, int, int]], start: int, aged: set[int]
) -> None:
    clock = OneClock(start)
    ageing, keeping = memory(clock), memory(clock)
    keeping._age = lambda now: None  # type: ignore[method-assign]
    stacked = [rate(2, 1), rate(3, 7), rate(9, 7, "tokens")]
    for turn, (step, _, tokens) in enumerate(sequence):
        clock.advance(step)
        for _ in range(50 if turn in aged else 0):
            ageing._age(clock.moment)
        hold = Hold(f"h{turn}")
        part = Part(stacked, Amounts(1, tokens))
        assert ageing.admit_now(hold, part) == keeping.admit_now(Hold(hold.id), part)


def _ask(counters: MemoryCounters, *asked: RateClaim) -> Admission:
    return counters.admit_now(Hold(f"c{next(NAMES)}"), Part(asked, Amounts(1)))
