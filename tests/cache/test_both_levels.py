"""The standards' rules through both levels: what two workers on one store serve, and as what, is
what RFC 9111 and RFC 5861 say of the newest answer that each may know: how long it is fresh, of
any use, for which requests it is, and what a 304 makes of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.cache import Answer, Cache, Look
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
    lang: str


@dataclass
class Model:
    """What each worker may have in memory, and what the store has. Times from NOON."""

    policy: CachePolicy
    memory: dict[int, Told] = field(default_factory=dict)
    store: Told | None = None

    def look(self, worker: int, lang: str, now: int) -> Told | None:
        """Who looks into the store keeps what it finds there, whatever it wants of a provider;
        what is not for its request it does not see."""
        newer, known = self.store, self.in_memory(worker, lang, now)
        if newer is None or not self._may_have(newer, lang, now):
            return known
        if known is None or newer.times[1] >= known.times[1]:
            known = self.memory[worker] = newer
        return known

    def in_memory(self, worker: int, lang: str, now: int) -> Told | None:
        known = self.memory.get(worker)
        return known if known is not None and self._may_have(known, lang, now) else None

    def keep(self, worker: int, told: Told, now: int) -> None:
        if not rfc.may_store(told.said, self.policy):
            return
        self.memory[worker] = told
        if self._state(told, now) is not State.DEAD:
            self.store = told

    def read(
        self, worker: int, lang: str, now: int, max_age: int | None
    ) -> tuple[State, Told | None]:
        known = self.in_memory(worker, lang, now)
        if known is None or self._state(known, now, max_age) is not State.FRESH:
            known = self.look(worker, lang, now)
        return (State.DEAD, None) if known is None else (self._state(known, now, max_age), known)

    def _may_have(self, told: Told, lang: str, now: int) -> bool:
        """It is for this request, and the provider's terms let it be kept so long."""
        is_gone = now - told.times[1] >= self.policy.max_retention
        return not is_gone and rfc.suits(told.said, told.lang, lang)

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
langs = st.sampled_from(["", "sv"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("fetch"), workers, langs, rfc.said),
        st.tuples(st.just("holds"), workers, langs, rfc.said),
        st.tuples(st.just("holds"), workers, langs, st.just(Said())),
        st.tuples(st.just("read"), workers, langs, st.none() | st.sampled_from([0, 3, 30])),
        st.tuples(st.just("read"), workers, langs, st.none()),
        st.tuples(st.just("wait"), workers, langs, st.sampled_from([1, 2, 5, 15, 60])),
    ),
    min_size=2,
    max_size=12,
)


class Story:
    """One key's, told to the caches and to the model at once. Times from when it `began`."""

    def __init__(self, stage: Stage, policy: CachePolicy, chance: random.Random) -> None:
        self.stage, self.policy, self.chance = stage, policy, chance
        self.symbol, self.began = stage.new_symbol(), stage.clock.now()
        self.model = Model(policy)

    async def tell(self, number: int, step: str, worker: int, lang: str, value: object) -> None:
        if step == "wait":
            assert isinstance(value, int)
            self.stage.clock.advance(value)
        elif step == "fetch":
            assert isinstance(value, Said)
            await self.fetch(worker, Told(number, value, self.times(), lang))
        elif step == "holds":
            assert isinstance(value, Said)
            await self.holds(worker, replace(value, vary=""), self.times(), lang)
        else:
            assert value is None or isinstance(value, int)
            await self.read(worker, lang, value)

    def now(self) -> int:
        return round(self.stage.clock.now() - self.began)

    def times(self) -> tuple[int, int]:
        return self.now(), self.now() + self.chance.randrange(4)

    async def fetch(self, worker: int, told: Told) -> None:
        async with self.looking(worker, told.lang, no_cache=True) as look:
            headers = told.said.headers(self.chance, self.began)
            times = self.answered(told.times)
            look.keep(Answer(b"%d" % told.number, times, headers=headers))
        await self.written(worker)
        self.model.look(worker, told.lang, self.now())
        self.model.keep(worker, told, self.now())

    async def holds(self, worker: int, said: Said, times: tuple[int, int], lang: str) -> None:
        """A provider is asked whether what is kept still holds, and says so in these words."""
        known = self.model.look(worker, lang, self.now())
        async with self.looking(worker, lang, no_cache=True) as look:
            conditions = set() if known is None else known.said.conditions
            assert {*look.conditional} == conditions
            if known is None or not conditions:
                return
            headers = said.headers(self.chance, self.began)
            entry = look.still_holds(headers, self.answered(times))
        await self.written(worker)
        by = rfc.renewed(known.said, said)
        assert (entry is None) == (by is None or not rfc.may_store(by, self.policy))
        if by is not None:
            self.model.keep(worker, replace(known, said=by, times=times), self.now())

    async def read(self, worker: int, lang: str, max_age: int | None) -> None:
        expected, told = self.model.read(worker, lang, self.now(), max_age)
        async with self.looking(worker, lang, max_age=max_age, only_if_cached=True) as look:
            assert look.state is expected
            may_serve = expected <= State.WHILE_REVALIDATING
            served = look.entry if may_serve else look.spare
            assert (served is None) == (expected is State.DEAD)
            if served is not None:
                assert told is not None and served.body() == b"%d" % told.number
            assert not look.leads

    def looking(self, worker: int, lang: str, **wish: Any) -> Look:
        cache, asked_with = self.stage.caches[worker], {"lang": lang} if lang else {}
        asked = ask(
            cache, self.symbol, policy=self.policy, wish=Wish(**wish), asked_with=asked_with
        )
        return cache.look(asked)

    def answered(self, times: tuple[int, int]) -> Times:
        self.stage.clock.advance(times[1] - times[0])
        return Times(self.began + times[0], self.began + times[1])

    async def written(self, worker: int) -> None:
        shared = self.stage.caches[worker].shared
        assert isinstance(shared, SharedCache)
        await shared._store.call("PING")


@settings(max_examples=250)
@given(steps, rfc.policies, st.randoms())
def test_what_is_served_is_what_the_standards_say(
    stage: Stage,
    taken: list[tuple[str, int, str, object]],
    policy: CachePolicy,
    chance: random.Random,
) -> None:
    async def run() -> None:
        story = Story(stage, replace(policy, ttl=policy.ttl or 9), chance)
        for number, step in enumerate(taken):
            await story.tell(number, *step)

    stage.runner.run(run())
