"""The standards' rules through both levels: what two workers on one store serve, and as what, is
what RFC 9111 and RFC 5861 say of the newest answer that each may know."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.cache import Answer, Cache
from cache.freshness import State, Times
from cache.policy import CachePolicy, Wish
from cache.shared import SharedCache
from tests.cache import rfc
from tests.cache.rfc import NOON, Said
from tests.cache.serving import SECRET, ask
from tests.clocks import ManualClock
from tests.services.valkey import Valkey

WORKERS = 2


@dataclass
class Told:
    """An answer, as the model knows it."""

    number: int
    said: Said
    times: tuple[int, int]


@dataclass
class Model:
    """What each worker may have in memory, and what the store has. Times from NOON."""

    policy: CachePolicy
    memory: dict[int, Told] = field(default_factory=dict)
    store: Told | None = None

    def look(self, worker: int) -> None:
        """Who looks into the store keeps what it finds there, whatever it wants of a provider."""
        newer, known = self.store, self.memory.get(worker)
        if newer is not None and (known is None or newer.times[1] >= known.times[1]):
            self.memory[worker] = newer

    def keep(self, worker: int, told: Told, now: int) -> None:
        if not rfc.may_store(told.said, self.policy):
            return
        self.memory[worker] = told
        if self._state(told, now) is not State.DEAD:
            self.store = told

    def read(self, worker: int, now: int, max_age: int | None) -> tuple[State, Told | None]:
        known = self.memory.get(worker)
        if known is None or self._state(known, now, max_age) is not State.FRESH:
            self.look(worker)
            known = self.memory.get(worker)
        return (State.DEAD, None) if known is None else (self._state(known, now, max_age), known)

    def _state(self, told: Told, now: int, max_age: int | None = None) -> State:
        if max_age is not None and rfc.current_age(told.said, *told.times, now) > max_age:
            return State.DEAD
        return rfc.state(told.said, self.policy, told.times, now)


class Stage:
    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self.clock = ManualClock(now=float(NOON))
        self.caches = [Cache(SECRET, url=url, clock=self.clock) for _ in range(WORKERS)]
        self.asked = 0
        self.runner.run(self._start())

    async def _start(self) -> None:
        for cache in self.caches:
            await cache.start()

    def close(self) -> None:
        for cache in self.caches:
            self.runner.run(cache.close())
        self.runner.close()

    def new_symbol(self) -> str:
        self.asked += 1
        return f"S{self.asked}"


@pytest.fixture(scope="module")
def stage(valkey_server: Valkey) -> Iterator[Stage]:
    if not valkey_server.running:
        valkey_server.start()
    made = Stage(valkey_server.url)
    yield made
    made.close()


workers = st.integers(0, WORKERS - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("fetch"), workers, rfc.said),
        st.tuples(st.just("read"), workers, st.none() | st.sampled_from([0, 3, 30])),
        st.tuples(st.just("read"), workers, st.none()),
        st.tuples(st.just("wait"), workers, st.sampled_from([1, 2, 5, 15, 60])),
    ),
    min_size=2,
    max_size=12,
)


@settings(max_examples=150)
@given(steps, rfc.policies, st.randoms())
def test_what_is_served_is_what_the_standards_say(
    stage: Stage, taken: list[tuple[str, int, object]], policy: CachePolicy, chance: random.Random
) -> None:
    policy, symbol = replace(policy, ttl=policy.ttl or 9), stage.new_symbol()
    begun = stage.clock.now()
    model = Model(policy)

    def now() -> int:
        return round(stage.clock.now() - begun)

    async def run() -> None:
        for number, (step, worker, value) in enumerate(taken):
            cache = stage.caches[worker]
            if step == "wait":
                assert isinstance(value, int)
                stage.clock.advance(value)
            elif step == "fetch":
                assert isinstance(value, Said)
                delay = chance.randrange(4)
                told = Told(number, value, (now(), now() + delay))
                stage.clock.advance(delay)
                headers = value.headers(chance, begun)
                await fetch(cache, headers, told, delay)
                model.look(worker)
                model.keep(worker, told, now())
            else:
                assert value is None or isinstance(value, int)
                await read(cache, worker, value)

    async def fetch(cache: Cache, headers: dict[str, str], told: Told, delay: int) -> None:
        asked = ask(cache, symbol, policy=policy, wish=Wish(no_cache=True))
        async with cache.look(asked) as look:
            end = stage.clock.now()
            look.keep(Answer(b"%d" % told.number, Times(end - delay, end), headers=headers))
        assert isinstance(cache.shared, SharedCache)
        await cache.shared._store.call("PING")

    async def read(cache: Cache, worker: int, max_age: int | None) -> None:
        wish = Wish(max_age=max_age, only_if_cached=True)
        expected, told = model.read(worker, now(), max_age)
        async with cache.look(ask(cache, symbol, policy=policy, wish=wish)) as look:
            assert look.state is expected
            may_serve = expected <= State.WHILE_REVALIDATING
            served = look.entry if may_serve else look.spare
            assert (served is None) == (expected is State.DEAD)
            if served is not None:
                assert told is not None and served.body() == b"%d" % told.number
            assert not look.leads

    stage.runner.run(run())
