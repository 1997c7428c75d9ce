"""Nothing of one tenant's reaches another, however alike they ask."""

from __future__ import annotations

import asyncio
import random

import orjson
import pytest

from cache.cache import Ask, Cache
from cache.keys import Place
from cache.policy import CachePolicy
from lib.clock import SystemClock
from tests.cache.serving import Provider, running, serve
from tests.cache.test_keys import spelled
from tests.loops import on_loop
from tests.services.valkey import Valkey

SYMBOLS = [
    "AAPL",
    "aapl",
    "ＡＡＰＬ",
    "A\u030aPL",
    "ÅPL",
    "AAPL\0",
    "AAPL ",
    '","tenant":1',
    "",
    "1",
    1,
    True,
    None,
]
POLICY = CachePolicy(ttl=60, stale_while_revalidate=60)


async def canaries(caches: list[Cache], count: int) -> int:
    """Calls of two tenants, each with a canary of its own in every answer. Who hears what it did
    not ask for is said. How many came from the cache."""
    chance = random.Random(53)
    places = [
        Place(tenant, mode, operation, route=route, provider=provider, own=own, extra=extra)
        for tenant in (1, 11)
        for mode in ("live", "test")
        for operation, route in (
            ("chat.completions", "fast"),
            ("chat.completions", "fas"),
            ("x", "t"),
        )
        for provider in ("", "lab")
        for own in ((), ("cred_1",))
        for extra in (False, True)
    ]
    loop, hits = asyncio.get_running_loop(), 0
    for number in range(count):
        cache, place = chance.choice(caches), chance.choice(places)
        params = {
            "symbol": chance.choice(SYMBOLS),
            "n": chance.choice([1, 1.5]),
            "stream": bool(number % 2),
        }
        truth = orjson.dumps(
            [place, {k: v for k, v in params.items() if k != "stream" or place.operation == "x"}],
            option=orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS,
            default=list,
        )
        asked = cache.ask(
            place,
            orjson.loads(spelled(params, chance)),
            POLICY,
            until=loop.time() + 5,
            tags=[f"tenant:{place.tenant_id}"],
        )
        hits += await hears(cache, asked, truth)
        if number % 500 == 0:
            await cache.invalidate([f"tenant:{place.tenant_id}"])
    return hits


async def hears(cache: Cache, asked: Ask, truth: bytes) -> bool:
    """Whether it came from the cache."""
    provider = Provider(SystemClock(), lambda: truth)
    assert await serve(cache, asked, provider) == truth
    return provider.asked == 0


def test_thousands_of_mixed_calls_cross_nowhere(is_long: bool) -> None:
    count = 10_000 if is_long else 3_000

    @on_loop
    async def run() -> None:
        async with running(1) as caches:
            assert await canaries(caches, count) > count // 10

    run()


@on_loop
async def test_nor_do_they_in_the_store_that_all_workers_share(valkey: Valkey) -> None:
    async with running(2, valkey.url, memory_bytes=100_000) as caches:
        assert await canaries(caches, 1000) > 50
        assert sum(cache.figures.shared_hits for cache in caches) > 10


@on_loop
async def test_public_answers_are_everybodys_of_the_same_mode_and_no_others() -> None:
    async with running(1) as (cache,):
        until = asyncio.get_running_loop().time() + 5
        public = Place(None, "live", "weather.current")
        kinds = [public, public._replace(mode="test"), public._replace(tenant_id=1)]
        for number, place in enumerate(kinds):
            truth = b"%d" % number
            for _ in range(2):
                asked = cache.ask(place, {"lat": 1}, CachePolicy(ttl=60, public=True), until=until)
                await hears(cache, asked, truth)
        assert cache.figures.stored == 3


@pytest.mark.parametrize("private", ["private", 'private="x", max-age=60'])
def test_what_a_provider_calls_private_is_kept_for_nobody_but_its_tenant(private: str) -> None:
    @on_loop
    async def run() -> None:
        async with running(1) as (cache,):
            until = asyncio.get_running_loop().time() + 5
            for public, stored in ((True, 0), (False, 1)):
                policy = CachePolicy(ttl=60, public=public)
                place = Place(None if public else 1, "live", "weather.current")
                provider = Provider(SystemClock())
                provider.headers = {"cache-control": private}
                async with cache.look(cache.ask(place, {}, policy, until=until)) as look:
                    look.keep(await provider.answer())
                assert cache.figures.stored == stored

    run()
