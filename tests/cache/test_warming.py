"""When an answer is fetched before anybody asks, and that it is nobody's loss."""

from __future__ import annotations

import asyncio

from cache.cache import Ask, Cache, Look
from cache.foresight import Foresight
from cache.policy import CachePolicy
from cache.warming import FRESH, LEAD, LEFT, OK, UNDER_WAY, Warmer
from lib.problems import Unavailable
from tests.cache.serving import SECRET, Provider, ask, serve
from tests.clocks import ManualClock
from tests.loops import eventually, on_loop

ALONE = CachePolicy(ttl=60, fails_together=False)


class Stage:
    def __init__(self, policy: CachePolicy = ALONE) -> None:
        self.policy = policy
        self.clock = ManualClock()
        self.cache = Cache(SECRET, clock=self.clock)
        self.provider = Provider(self.clock, lambda: b"%d" % self.provider.asked)
        self.foresight = Foresight()
        self.warmer = Warmer(self.cache, self.foresight)

    async def fetch(self, look: Look) -> str:
        """As the gateway does: what fails is told, and not raised."""
        try:
            await self.provider(look)
        except Unavailable as problem:
            return problem.code
        return OK

    def ask(self, policy: CachePolicy | None = None) -> Ask:
        return ask(self.cache, policy=policy or self.policy)

    async def ensure(self, seconds: float) -> str:
        until = self.clock.now() + seconds
        return await self.warmer.ensure(self.ask(), self.fetch, until=until)

    async def refresh(self, policy: CachePolicy = ALONE) -> str:
        return await self.warmer.refresh(self.ask(policy), self.fetch)

    async def call(self) -> bytes:
        asked = self.ask()
        self.foresight.note(asked.key, "q", self.clock.now())
        return await serve(self.cache, asked, self.provider)


@on_loop
async def test_it_is_fetched_only_if_it_would_be_stale_before_the_next_time() -> None:
    stage = Stage()
    assert await stage.ensure(30) == OK
    assert await stage.call() == b"1"
    assert await stage.ensure(59) == FRESH
    assert await stage.ensure(60) == OK
    stage.clock.advance(59)
    assert await stage.call() == b"2"
    stage.clock.advance(100)
    assert await stage.ensure(1) == OK
    assert stage.provider.asked == 3


@on_loop
async def test_warming_is_nobodys_look_up() -> None:
    stage = Stage()
    await stage.ensure(30)
    await stage.ensure(30)
    figures = stage.cache.figures
    assert (figures.hits, figures.misses, figures.stale, figures.stored) == (0, 0, 0, 1)


@on_loop
async def test_who_asks_meanwhile_waits_for_the_same_answer() -> None:
    stage = Stage()
    stage.provider.takes = 0.01
    warm = asyncio.create_task(stage.ensure(30))
    await eventually(lambda: stage.provider.asked)
    assert await stage.call() == b"1"
    assert await warm == OK and stage.provider.asked == 1


@on_loop
async def test_while_a_call_fetches_it_warming_does_not() -> None:
    stage = Stage()
    stage.provider.takes = 0.01
    call = asyncio.create_task(stage.call())
    await eventually(lambda: stage.provider.asked)
    assert await stage.ensure(30) == UNDER_WAY
    assert await call == b"1" and stage.provider.asked == 1


@on_loop
async def test_a_warm_call_that_fails_fails_nobody_else() -> None:
    stage = Stage()
    stage.provider.takes, stage.provider.down = 0.01, True
    warm = asyncio.create_task(stage.ensure(30))
    await eventually(lambda: stage.provider.asked)
    call = asyncio.create_task(stage.call())
    assert await warm == Unavailable.code
    stage.provider.down = False
    assert await call == b"2"


@on_loop
async def test_what_is_often_asked_for_never_gets_stale() -> None:
    stage = Stage()
    await stage.call()
    for _ in range(600):
        stage.clock.advance(1)
        for _ in stage.foresight.due(stage.clock.now()):
            await stage.refresh()
        if stage.clock.now() % 5 < 1:
            await stage.call()
    assert stage.cache.figures.misses <= 4  # until it has seen enough
    assert 9 <= stage.provider.asked <= 13
    gain = stage.foresight.gain
    assert gain.useful >= 6 and gain.hits >= 70


@on_loop
async def test_what_hardly_anybody_asks_for_is_left_alone() -> None:
    stage = Stage()
    for _ in range(5):
        await stage.call()
        for _ in range(300):
            stage.clock.advance(1)
            for _ in stage.foresight.due(stage.clock.now()):
                assert await stage.refresh() in (LEFT, FRESH)
    assert stage.provider.asked == 5


async def live(stage: Stage, seconds: int, *, every: int) -> dict[str, int]:
    """What callers found, one each `every` seconds; warming has its turn each second."""
    figures = stage.cache.figures
    before = (figures.hits, figures.stale, figures.misses)
    for second in range(seconds):
        for _ in stage.foresight.due(stage.clock.now()):
            await stage.refresh(stage.policy)
        if second % every == 0:
            await stage.call()
        stage.clock.advance(1)
    now = (figures.hits, figures.stale, figures.misses)
    return dict(zip(("hits", "stale", "misses"), map(int.__sub__, now, before), strict=True))


WITH_STALE = CachePolicy(ttl=60, stale_while_revalidate=60, fails_together=False)


@on_loop
async def test_what_is_asked_for_now_and_then_is_there_but_not_always_fresh() -> None:
    """Fewer than one caller while an answer is fresh, more than one while it is served: to have
    it fresh would take more calls than callers; to have it at all takes no more."""
    stage = Stage(WITH_STALE)
    await live(stage, 7200, every=97)
    asked = stage.provider.asked
    found = await live(stage, 7200, every=97)
    assert found["misses"] == 0 and found["stale"] > 0
    assert stage.provider.asked - asked <= 7200 / 97 + 2


@on_loop
async def test_what_is_served_stale_but_hardly_asked_for_is_left_alone() -> None:
    stage = Stage(WITH_STALE)
    found = await live(stage, 7200, every=400)
    assert found == {"hits": 0, "stale": 0, "misses": 18}
    assert stage.provider.asked == 18


@on_loop
async def test_what_is_fresh_for_a_moment_only_is_left_to_those_who_ask() -> None:
    stage = Stage()
    policy = CachePolicy(ttl=5)
    for _ in range(100):
        asked = stage.ask(policy)
        stage.foresight.note(asked.key, "q", stage.clock.now())
        await serve(stage.cache, asked, stage.provider)
    assert await stage.refresh(policy) == LEFT and stage.provider.asked == 1


@on_loop
async def test_after_a_failure_nobody_tries_until_it_is_asked_for() -> None:
    stage = Stage()
    for _ in range(100):
        await stage.call()
    stage.foresight.due(stage.clock.now())
    stage.clock.advance(60 - LEAD)
    stage.provider.down = True
    assert await stage.refresh() == Unavailable.code
    assert stage.foresight.due(stage.clock.now() + 1e6) == []
    assert await stage.call() == b"1"


@on_loop
async def test_of_all_workers_one_fetches_it() -> None:
    """A second level that gives each name once stands for the store (test_both_levels.py has
    the real one)."""
    stages = [Stage(), Stage()]
    claimed: set[bytes] = set()

    async def claim(name: bytes, seconds: float) -> bool:
        is_new = name not in claimed
        claimed.add(name)
        return is_new

    for stage in stages:
        stage.cache.shared.claim = claim  # type: ignore[method-assign]
        for _ in range(100):
            await stage.call()
        stage.clock.advance(60 - LEAD)
    assert [await stage.refresh() for stage in stages] == [OK, UNDER_WAY]
