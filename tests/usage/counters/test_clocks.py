"""Clocks that are set forward and back, month ends, leap days, days of 23 and 25 hours: no
window is had twice, nothing is told below zero, nobody waits longer than a window for it."""

from __future__ import annotations

import asyncio
import datetime as dt
import zoneinfo
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenants.limits import LimitMetric, RateLimit, Scope
from tenants.quotas import Metric, Quota, QuotaScope
from tenants.windows import Window, period
from tests.loops import on_loop
from tests.services.valkey import Valkey
from tests.usage.counters.stage import Book, OneClock, memory, rate, shared, slots
from tests.usage.counters.trial import NewTrial, Trial
from usage.admission import Admissions
from usage.counters.claims import (
    MICROSECONDS,
    SLICES,
    Admission,
    Amounts,
    Part,
    QuotaClaim,
    RateClaim,
)

HOUR, DAY = 3600 * MICROSECONDS, 86_400 * MICROSECONDS
JUMPS = [HOUR, -HOUR, DAY, -DAY]
ZONES = ["UTC", "Europe/Stockholm", "America/New_York", "America/Havana", "Australia/Lord_Howe"]


class Machine(OneClock):
    """A machine whose unix clock can be set; what it counts since its start goes on as ever."""

    def __init__(self, moment: int) -> None:
        super().__init__(moment)
        self.off = 0

    def now(self) -> float:
        return (self.moment + self.off) / MICROSECONDS

    def monotonic(self) -> float:
        return self.moment / MICROSECONDS


class Server(Machine):
    """The machine of the store, where only its unix clock is seen."""

    true = 0

    @property
    def moment(self) -> int:
        return self.true + self.off

    @moment.setter
    def moment(self, value: int) -> None:
        self.true = value
        self.off = 0

    def advance(self, microseconds: int) -> None:
        self.true += microseconds

    def now(self) -> float:
        return self.moment / MICROSECONDS


def at(text: str, zone: str = "UTC") -> int:
    """A moment (µs) by a zone's wall clock."""
    moment = dt.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(zone))
    return int(moment.timestamp()) * MICROSECONDS


def quota(window: Window, limit: int, now: float, zone: str = "UTC") -> QuotaClaim:
    made = Quota(QuotaScope.TENANT, Metric.REQUESTS, window, limit)
    when = period(window, now, zone)
    return QuotaClaim(made, f"quota:ten_1:{when.name}", when, 0, (("tenant_id", 1),))


def check(admission: Admission) -> None:
    assert all(state.left >= 0 and state.wait >= 0 for state in admission.states)


@dataclass
class Clocks:
    """A gateway's clock and the store's, of which those in `jumping` are set together."""

    trial: Trial
    jumping: str
    off: int = 0

    def set(self, off: int) -> None:
        self.off = off
        if "store" in self.jumping:
            self.trial.clock.off = off  # type: ignore[attr-defined]

    def now(self) -> float:
        """What the gateway's unix clock says."""
        clock = self.trial.clock
        if not isinstance(clock, Server):
            return clock.now()
        return (clock.true + ("gateway" in self.jumping and self.off)) / MICROSECONDS


JUMPING = ["gateway", "store", "gateway and store"]


def clocks(new_trial: NewTrial, start: int, jumping: str = "gateway and store") -> Clocks:
    """Where there is no store, the gateway's clock is the one that jumps."""
    trial = new_trial(Machine(start))
    if trial.valkey is None:
        return Clocks(trial, "gateway and store")
    return Clocks(new_trial(Server(start)), jumping)


steps = st.one_of(
    st.integers(0, 90 * MICROSECONDS), st.integers(0, 2 * HOUR), st.sampled_from([HOUR, DAY])
)
moves = st.lists(
    st.tuples(steps, st.one_of(st.just(0), st.sampled_from(JUMPS))), min_size=1, max_size=40
)
begins = st.one_of(
    st.integers(1_900_000_000, 2_100_000_000).map(lambda second: second * MICROSECONDS),
    st.sampled_from([at("2035-12-31T23:59:58"), at("2036-02-29T23:30:00"), at("2035-03-25T00:59")]),
)


@given(sequence=moves, start=begins, jumping=st.sampled_from(JUMPING))
@settings(max_examples=30)
def test_no_window_is_had_twice_whenever_the_clock_jumps(
    new_trial: NewTrial, sequence: list[tuple[int, int]], start: int, jumping: str
) -> None:
    there = clocks(new_trial, start, jumping)
    admitted: Counter[str] = Counter()
    limits = {Window.MINUTE: 1, Window.HOUR: 2, Window.DAY: 3, Window.MONTH: 5}
    for number, (step, off) in enumerate(sequence):
        there.trial.clock.advance(step)
        there.set(off)
        now = there.now()
        asked = [quota(window, limit, now) for window, limit in limits.items()]
        ends = Amounts(requests=1) if number % 2 else None
        admission = there.trial.admit(*asked, settled=ends)
        check(admission)
        if admission.granted:
            admitted.update(claim.key for claim in asked)
        for claim in asked:
            assert admitted[claim.key] <= claim.quota.limit, claim.key
        if not admission.granted:
            refused = [state.claim for state in admission.states if state.refused]
            assert any(admitted[claim.key] == claim.quota.limit for claim in refused)  # type: ignore[union-attr]


@given(sequence=moves, start=begins)
@settings(max_examples=30)
def test_no_span_has_more_than_its_limit_whenever_a_clock_is_set_back(
    new_trial: NewTrial, sequence: list[tuple[int, int]], start: int
) -> None:
    """A gateway's own counters do not look at the unix clock at all. A store's have no other:
    set forward, a span is over for them; set back, it lasts as long as it should."""
    there = clocks(new_trial, start)
    trial, claim, offset = there.trial, rate(3, 7), 0
    moments: list[int] = []
    elapsed, ahead = 0, 0
    for step, off in sequence:
        trial.clock.advance(step)
        elapsed += step
        if trial.valkey is not None:
            ahead += max(0, off - offset)
        offset = off
        there.set(off)
        admission = trial.admit(claim)
        check(admission)
        if admission.granted:
            moments.append(elapsed + ahead)
        within = [moment for moment in moments if moment > moments[-1] - 7 * MICROSECONDS]
        assert len(within) <= 3


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("place", range(6))
def test_nobody_is_stuck_once_the_clock_is_right_again(
    new_trial: NewTrial, jump: int, place: int
) -> None:
    """The clock is wrong for a while at any place of a sequence of six calls a second apart."""
    there = clocks(new_trial, at("2035-06-15T11:59:57"))
    trial, limit = there.trial, rate(2, 7)
    for number in range(6):
        trial.clock.advance(MICROSECONDS)
        there.set(jump if number == place else 0)
        check(trial.admit(limit, slots(9), quota(Window.HOUR, 3, there.now()), settled=Amounts(1)))
    there.set(0)
    trial.clock.advance((SLICES + 1) * limit.width)
    assert trial.admit(limit, slots(9)).granted
    trial.clock.advance(2 * HOUR)  # calls of an hour ahead have used of the next one
    fresh = quota(Window.HOUR, 3, there.now())
    assert [trial.admit(fresh).granted for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize("jump", JUMPS)
def test_a_wait_that_was_told_is_true_though_the_clock_was_set(
    new_trial: NewTrial, jump: int
) -> None:
    """Set back, nobody waits longer than was said."""
    there = clocks(new_trial, at("2035-06-15T12:00:00"))
    trial, limit = there.trial, rate(1, 60)
    assert trial.admit(limit).granted
    (state,) = trial.admit(limit).states
    assert 0 < state.wait <= (SLICES + 1) * limit.width
    there.set(jump)
    early = trial.admit(limit).granted
    trial.clock.advance(state.wait)
    assert early or trial.admit(limit).granted


EDGES = [
    ("UTC", "2035-04-30T23:59:59"),
    ("UTC", "2035-12-31T23:59:59"),
    ("UTC", "2036-02-28T23:59:59"),
    ("UTC", "2036-02-29T23:59:59"),
    ("UTC", "2035-02-28T23:59:59"),
    ("Asia/Tokyo", "2036-02-29T23:59:59"),
    ("Europe/Stockholm", "2035-03-25T01:59:59"),  # then it is 03:00
    ("Europe/Stockholm", "2035-10-28T02:59:59"),  # then it is 02:00 again
    ("America/New_York", "2035-03-11T01:59:59"),
    ("America/New_York", "2035-11-04T01:59:59"),
    ("America/Havana", "2035-03-10T23:59:59"),  # midnight is skipped
    ("America/Havana", "2035-11-04T00:59:59"),  # midnight comes twice
    ("Australia/Lord_Howe", "2035-04-01T01:59:59"),  # half an hour
]


@pytest.mark.unmeasured
@pytest.mark.parametrize(("zone", "edge"), EDGES)
@pytest.mark.parametrize("window", [Window.HOUR, Window.DAY, Window.MONTH])
def test_each_window_is_had_once_over_the_edges_of_the_calendar(
    new_trial: NewTrial, zone: str, edge: str, window: Window
) -> None:
    """Calls every half hour from a day before to a day after; in each window its limit, however
    long that window is, and each window's end comes after its beginning."""
    start = at(edge, zone) - DAY
    trial = new_trial(Machine(start))
    wanted: Counter[str] = Counter()
    admitted: Counter[str] = Counter()
    for _ in range(2 * 49):
        for _ in range(2):
            claim = quota(window, 3, trial.clock.now(), zone)
            assert claim.period.ends is not None
            assert claim.period.starts <= trial.clock.now() < claim.period.ends
            wanted[claim.key] += 1
            admission = trial.admit(claim, settled=Amounts(1))
            check(admission)
            admitted[claim.key] += admission.granted
        trial.clock.advance(HOUR // 2)
    assert admitted == {key: min(3, count) for key, count in wanted.items()}


async def _started(counters: Any) -> Any:
    await counters.start()
    async with asyncio.timeout(20):
        while not counters.ready:
            await asyncio.sleep(0.01)
    return counters


class Worker:
    """A gateway whose clock is `off` seconds from the store's."""

    def __init__(self, name: str, valkey: Valkey, book: Book, clock: OneClock, off: float) -> None:
        self.book, self.clock, self.off, self.name = book, clock, off, name
        self.counters = shared(valkey.url, book, name, clock)
        self.admissions = Admissions(self.counters, book, self, name)
        self.calls = 0

    def now(self) -> float:
        return self.clock.now() + self.off

    def monotonic(self) -> float:
        return self.clock.monotonic()

    async def call(self, window: Window, limit: int) -> tuple[QuotaClaim, bool]:
        self.calls += 1
        claim = quota(window, limit, self.now())
        base = Part([claim], Amounts(1))
        grant = await self.admissions.admit(f"{self.name}-{self.calls}", base, ())
        if grant.refusal is None:
            self.book.write(grant.hold.id, grant.hold.parts, [Amounts(1)])
            grant.settle(Amounts(1), ())
        else:
            assert grant.refusal.retry_after is None or grant.refusal.retry_after >= 1
        return claim, grant.refusal is None


@pytest.mark.parametrize("lost_at", [None, *range(0, 24, 3)])
@pytest.mark.parametrize("window", [Window.MINUTE, Window.DAY])
@on_loop
async def test_two_workers_five_seconds_apart_around_midnight(
    valkey: Valkey, window: Window, lost_at: int | None
) -> None:
    """They take turns each second, from 12 seconds before midnight; at some second the store
    loses all it knew."""
    clock, limit = OneClock(at("2035-06-14T23:59:48")), 7
    book = Book("slow", "fast")
    workers = [
        Worker("slow", valkey, book, clock, -2.5),
        Worker("fast", valkey, book, clock, 2.5),
    ]
    for worker in workers:
        await worker.counters.start()
    for worker in workers:
        await _started_again(worker)
    admitted: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for second in range(24):
        if second == lost_at:
            with valkey.client() as client:
                client.flushall()
            for worker in workers:
                worker.counters._lost()
            for worker in workers:
                await _started_again(worker)
        for worker in workers:
            claim, granted = await worker.call(window, limit)
            asked[claim.key] += 1
            admitted[claim.key] += granted
        clock.advance(MICROSECONDS)
    for worker in workers:
        await worker.counters.close()
    assert admitted == {key: min(limit, count) for key, count in asked.items()}


async def _started_again(worker: Worker) -> None:
    async with asyncio.timeout(20):
        while not worker.counters.ready:
            await asyncio.sleep(0.01)


class Jumping(Worker):
    """Its clock is set while the counters are asked."""

    def __init__(self, clock: OneClock, jump: int) -> None:
        self.jump, self.off, self.clock = jump, 0.0, clock
        counters = memory(clock)
        self.admissions = Admissions(counters, Book(), self, "one")
        admit = counters.admit

        async def admit_and_jump(*asked: Any) -> Admission:
            answer = await admit(*asked)
            self.off = self.jump / MICROSECONDS
            return answer

        counters.admit = admit_and_jump  # type: ignore[method-assign]


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("window", [Window.MINUTE, Window.HOUR, Window.DAY, Window.MONTH])
@on_loop
async def test_no_answer_says_to_wait_for_less_than_a_second(window: Window, jump: int) -> None:
    """The window may be over by the time its refusal is written, or begin only in a day."""
    worker = Jumping(OneClock(at("2035-06-30T23:59:59")), jump)
    span = RateLimit(Scope.KEY, 1, 60, metric=LimitMetric.REQUESTS)
    for claims in ([quota(window, 1, worker.now())], [RateClaim(span, "rate:a")]):
        worker.off = 0.0
        part = Part(claims, Amounts(1))
        assert (await worker.admissions.admit("a", part, ())).refusal is None
        worker.off = 0.0
        refusal = (await worker.admissions.admit("b", part, ())).refusal
        assert refusal is not None
        assert refusal.retry_after is not None
        assert refusal.retry_after >= 1


def test_a_hold_ends_in_the_window_that_it_began_in(new_trial: NewTrial) -> None:
    """A call that lasts over midnight, or over an hour that comes twice, is yesterday's."""
    trial = new_trial(Machine(at("2035-10-28T23:59:59", "Europe/Stockholm")))
    zone = "Europe/Stockholm"
    before = quota(Window.DAY, 5, trial.clock.now(), zone)
    hold = trial.begin(before)
    trial.clock.advance(5 * MICROSECONDS)
    after = quota(Window.DAY, 5, trial.clock.now(), zone)
    trial.admit(after, settled=Amounts(1))
    trial.end(hold, Amounts(1))
    used = [trial.read(claim) for claim in (before, after)]
    assert used == [(1, 0), (1, 0)]
