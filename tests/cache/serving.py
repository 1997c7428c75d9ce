"""The cache as the gateway uses it, with a provider that counts how often it is asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from cache.cache import Answer, Ask, Cache, Look, Place
from cache.freshness import State, Times
from cache.policy import CachePolicy
from lib.clock import Clock
from lib.problems import DeadlineExceeded, Unavailable

SECRET = b"the same for all workers of a test"
PLACE = Place(7, "live", "finance.quote", route="finance.quote")
POLICY = CachePolicy(ttl=60)
PATIENCE = 10.0


@contextlib.asynccontextmanager
async def running(number: int = 1, url: str = "", **options: Any) -> AsyncIterator[list[Cache]]:
    """Patient with the store, which a busy machine may make late, unless told otherwise."""
    options.setdefault("patience", 5.0)
    made = [Cache(SECRET, url=url, **options) for _ in range(number)]
    for cache in made:
        await cache.start()
    try:
        yield made
    finally:
        for cache in made:
            await cache.close()


def ask(cache: Cache, symbol: str = "AAPL", **options: Any) -> Ask:
    place = options.pop("place", PLACE)
    policy = options.pop("policy", POLICY)
    patience = options.pop("patience", PATIENCE)
    until = asyncio.get_running_loop().time() + patience
    options.setdefault("tags", [f"symbol:{symbol}"])
    return cache.ask(place, {"symbol": symbol}, policy, until=until, **options)


class Provider:
    """`takes` seconds for an answer, which is what `says` gives. `down`: it fails."""

    def __init__(self, clock: Clock, says: Callable[[], bytes] = lambda: b"{}") -> None:
        self.clock = clock
        self.says = says
        self.takes = 0.0
        self.asked = 0
        self.down = False
        self.headers: Mapping[str, str] = {}
        self.tags: Sequence[str] = ("provider:lab",)

    async def __call__(self, look: Look) -> None:
        answer = await self.answer()
        look.keep(answer)

    async def answer(self) -> Answer:
        self.asked += 1
        begun, body = self.clock.now(), self.says()
        await asyncio.sleep(self.takes)
        if self.down:
            raise Unavailable
        times = Times(begun, self.clock.now())
        return Answer(body, times, headers=self.headers, tags=self.tags)


async def serve(cache: Cache, asked: Ask, provider: Provider) -> bytes:
    """A call, from the look into the cache to its answer. Raises Problem."""
    entry = cache.fresh(asked)
    if entry is not None:
        return entry.body()
    async with cache.look(asked) as look:
        if look.entry is not None:
            if look.leads:
                look.refresh(provider)
            return look.entry.body()
        try:
            answer = await _in_time(provider, asked)
        except (Unavailable, DeadlineExceeded) as problem:
            spare = look.failed(problem)
            if spare is None:
                raise
            return spare.body()
        look.keep(answer)
        return answer.body


async def _in_time(provider: Provider, asked: Ask) -> Answer:
    """As the gateway asks: who leads keeps its own deadline too."""
    try:
        async with asyncio.timeout_at(asked.until):
            return await provider.answer()
    except TimeoutError:
        raise DeadlineExceeded from None


async def state_of(cache: Cache, asked: Ask) -> State:
    """What it would serve, without asking anybody."""
    async with cache.look(asked._replace(wish=asked.wish._replace(only_if_cached=True))) as look:
        return look.state
