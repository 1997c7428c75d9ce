"""All breakers of a process: two before every call, staff's word, and who shares a probe."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lib.stores import StoreAway
from providers.breaker import Breaker, Override, Result, State
from providers.breaker_policy import Policy
from providers.breakers import MOST, Alone, Breakers, OnTold, Permits, Told
from providers.call import Outcome, Verdict
from tests.clocks import ManualClock
from tests.loops import on_loop

OK, FAULT, REFUSED = Outcome(Verdict.OK), Outcome(Verdict.UNAVAILABLE), Outcome(Verdict.AUTH)
POLICY = Policy(consecutive_failures=3, open_seconds=10)


class Stage:
    def __init__(self, shared: Any = None) -> None:
        self.clock = ManualClock()
        self.breakers = Breakers(self.clock, shared)

    def pair(self, model: str = "gpt-x") -> tuple[Breaker, Breaker]:
        lab = self.breakers.of("lab", Policy(consecutive_failures=5, open_seconds=10))
        return lab, self.breakers.of(f"lab/{model}", POLICY)

    async def admit(self, model: str = "gpt-x") -> Permits | None:
        return await self.breakers.admit(self.pair(model))

    async def call(self, outcome: Outcome = OK, model: str = "gpt-x") -> bool:
        permits = await self.admit(model)
        if permits is not None:
            permits.record(outcome)
        return permits is not None

    @property
    def states(self) -> tuple[State, ...]:
        return tuple(breaker.state for breaker in self.pair())


@on_loop
async def test_the_targets_rests_alone_and_the_providers_for_all() -> None:
    stage = Stage()
    for _ in range(3):
        assert await stage.call(FAULT)
    assert stage.states == (State.CLOSED, State.OPEN)
    assert stage.breakers.rests("lab/gpt-x") and not stage.breakers.rests("lab/other")
    assert not await stage.call()
    for _ in range(2):
        assert await stage.call(FAULT, "other")
    assert stage.states == (State.OPEN, State.OPEN)
    assert not await stage.call(OK, "third")
    assert stage.breakers.rests("lab/third")
    assert stage.breakers.states()["lab/third"] is State.CLOSED


@on_loop
async def test_a_probe_needs_both_and_one_refusal_takes_no_place() -> None:
    stage = Stage()
    for model in ("gpt-x", "gpt-x", "gpt-x", "other", "other"):
        await stage.call(FAULT, model)
    stage.clock.advance(10)
    probe = await stage.admit()
    assert probe is not None
    assert await stage.admit("other") is None  # the provider's one probe is out
    probe.release()
    other = await stage.admit("other")
    assert other is not None and await stage.admit() is None
    other.record(OK)
    assert stage.states == (State.CLOSED, State.HALF_OPEN)
    assert await stage.call()
    assert stage.states == (State.CLOSED, State.CLOSED)


@on_loop
async def test_what_is_nobodys_fault_keeps_the_place_free() -> None:
    stage = Stage()
    for _ in range(3):
        await stage.call(FAULT)
    stage.clock.advance(10)
    for _ in range(5):
        assert await stage.call(REFUSED)
    assert stage.states[1] is State.HALF_OPEN
    assert await stage.call()
    assert stage.states[1] is State.CLOSED


@on_loop
async def test_a_stream_is_slow_by_its_first_event_and_judged_by_its_end() -> None:
    stage = Stage()
    stage.breakers.of(
        "lab/gpt-x", Policy(slow_call_seconds=2, minimum_calls=1, slow_call_rate_threshold=50)
    )
    lab = stage.breakers.of("lab", POLICY)
    gpt = stage.breakers.of("lab/gpt-x")
    permits = await stage.breakers.admit((lab, gpt))
    assert permits is not None
    stage.clock.advance(1)
    permits.began()
    stage.clock.advance(100)
    assert gpt.buffered.calls == 0
    permits.record(FAULT)
    permits.record(OK)
    assert gpt.buffered == (1, 1, 0) and gpt.failures_in_a_row == 1


@on_loop
async def test_a_stream_that_probes_lets_others_in_at_its_first_event() -> None:
    stage = Stage()
    for _ in range(3):
        await stage.call(FAULT)
    stage.clock.advance(10)
    probe = await stage.admit()
    assert probe is not None and await stage.admit() is None
    probe.began()
    assert stage.states[1] is State.CLOSED
    probe.record(FAULT)
    assert stage.pair()[1].failures_in_a_row == 1


@on_loop
async def test_staffs_word_comes_and_goes() -> None:
    stage = Stage()
    stage.pair()
    forced = Override(State.FORCED_OPEN, stage.clock.now() + 5, id=1)
    stage.breakers.apply({"lab": forced})
    assert not await stage.call()
    stage.breakers.apply({"lab": forced, "new/target": Override(State.DISABLED, None, id=2)})
    assert stage.breakers.states()["new/target"] is State.DISABLED
    assert not await stage.call()
    stage.clock.advance(5)  # nobody tells it
    assert await stage.call()
    stage.breakers.apply({"new/target": Override(State.FORCED_OPEN, None, id=3)})
    assert stage.breakers.states()["new/target"] is State.FORCED_OPEN
    stage.breakers.apply({})
    assert set(stage.breakers.states().values()) == {State.CLOSED}


@on_loop
async def test_staff_close_once_and_only_what_was_open_when_they_said_it() -> None:
    stage = Stage()
    old = {"lab/gpt-x": Override(State.CLOSED, None, id=1)}
    for _ in range(3):
        await stage.call(FAULT)
    stage.breakers.apply(old)  # said before this worker began: it is no news
    assert stage.states[1] is State.OPEN
    new = {
        "lab/gpt-x": Override(State.CLOSED, None, id=2),
        "never/met": Override(State.CLOSED, None, id=3),
    }
    stage.breakers.apply(new)
    assert stage.states[1] is State.CLOSED
    await stage.call(OK, "other")
    for _ in range(3):
        await stage.call(FAULT)
    stage.breakers.apply(dict(new))
    assert stage.states[1] is State.OPEN


@on_loop
async def test_tenants_own_breakers_do_not_pile_up() -> None:
    stage = Stage()
    stage.breakers.of("test:1:lab").follow(State.OPEN, 60)
    for tenant in range(MOST + 50):
        stage.breakers.of(f"test:{tenant}:lab")
    assert len(stage.breakers.states()) < MOST
    assert stage.breakers.states()["test:1:lab"] is State.OPEN
    assert stage.breakers.figures() == []


class Store(Alone):
    """Says what the test tells it to, and keeps what it is told."""

    def __init__(self) -> None:
        self.on_told: OnTold = lambda _: None
        self.answer: Told | Exception | None = None
        self.asked = 0
        self.ended: list[Result] = []
        self.told: list[tuple[str, State]] = []
        self.gate: asyncio.Event | None = None

    async def probe(self, name: str, lease: str, seconds: float, policy: Policy) -> Told | None:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            self.on_told(self.answer)
        return self.answer

    def end(self, name: str, lease: str, result: Result, *, slow: bool, policy: Policy) -> None:
        self.ended.append(result)

    def tell(self, name: str, state: State, seconds: float) -> None:
        self.told.append((name, state))


async def resting(store: Store) -> Stage:
    """Its target may be probed now."""
    stage = Stage(store)
    for _ in range(3):
        await stage.call(FAULT)
    assert store.asked == 0
    assert store.told == [("lab/gpt-x", State.OPEN)]
    stage.clock.advance(10)
    return stage


@on_loop
async def test_a_leased_probe_decides_nothing_here() -> None:
    store = Store()
    stage = await resting(store)
    store.answer = Told("lab/gpt-x", State.HALF_OPEN, granted=True)
    probe = await stage.admit()
    assert probe is not None
    probe.record(OK)
    assert store.ended == [Result.SUCCESS]
    assert stage.states[1] is State.HALF_OPEN
    store.on_told(Told("lab/gpt-x", State.CLOSED))
    asked = store.asked
    assert await stage.call() and store.asked == asked


@on_loop
async def test_others_have_the_probe_or_have_closed_it_meanwhile() -> None:
    store = Store()
    stage = await resting(store)
    store.answer = Told("lab/gpt-x", State.HALF_OPEN)
    assert not await stage.call()
    store.answer = Told("lab/gpt-x", State.OPEN, 5)
    assert not await stage.call()
    assert stage.pair()[1].seconds_left() == 5
    stage.clock.advance(5)
    store.answer = Told("lab/gpt-x", State.CLOSED)
    assert await stage.call()


@on_loop
async def test_without_the_store_each_decides_alone() -> None:
    store = Store()
    stage = await resting(store)
    store.answer = StoreAway("gone")
    probe = await stage.admit()
    assert probe is not None and await stage.admit() is None
    probe.record(OK)
    assert stage.states[1] is State.CLOSED
    assert store.told[-1] == ("lab/gpt-x", State.CLOSED)


@on_loop
async def test_whoever_leaves_while_the_store_is_asked_gives_the_probe_back() -> None:
    store = Store()
    stage = await resting(store)
    store.gate = asyncio.Event()
    asked = asyncio.create_task(stage.admit())
    while not store.asked:
        await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert store.ended == [Result.IGNORED]
    store.gate, store.answer = None, StoreAway("gone")
    assert await stage.call()


@on_loop
async def test_what_staff_forced_is_cleared_for_all() -> None:
    store = Store()
    stage = Stage(store)
    stage.breakers.apply({"lab": Override(State.FORCED_OPEN, None, id=1)})
    assert store.told == [("lab", State.CLOSED)]
    store.on_told(Told("lab", State.OPEN, 60))
    assert stage.breakers.states()["lab"] is State.FORCED_OPEN
