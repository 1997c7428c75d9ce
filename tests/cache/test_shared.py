"""The second level in a real Valkey: all workers know what one has, and its loss costs nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from cache.cache import Cache, Look
from cache.foresight import Foresight
from cache.freshness import State
from cache.policy import CachePolicy, Wish
from cache.shared import PATIENCE, PREFIX, SharedCache
from cache.warming import FRESH, OK, Warmer
from lib.clock import SystemClock
from tests.cache.serving import PLACE, Provider, ask, running, serve, state_of
from tests.loops import eventually, on_loop
from tests.services.proxy import Proxy
from tests.services.valkey import Valkey

MOST_ADDED = 0.05  # seconds that a store may cost a call


def counting() -> Provider:
    provider = Provider(SystemClock())
    provider.says = lambda: b"%d" % provider.asked
    return provider


async def written(cache: Cache) -> None:
    """What was sent behind is there."""
    assert isinstance(cache.shared, SharedCache)
    await cache.shared._store.call("PING")


@contextlib.asynccontextmanager
async def behind_a_proxy(valkey: Valkey) -> AsyncIterator[tuple[Cache, Proxy]]:
    proxy = Proxy(valkey.port)
    proxy.start()
    try:
        async with running(1, f"redis://127.0.0.1:{proxy.port}/0", patience=PATIENCE) as (cache,):
            yield cache, proxy
    finally:
        proxy.stop()


@on_loop
async def test_what_one_worker_keeps_all_have(valkey: Valkey) -> None:
    provider = counting()
    async with running(3, valkey.url) as (one, two, three):
        assert await serve(one, ask(one), provider) == b"1"
        await written(one)
        assert await serve(two, ask(two), provider) == b"1"
        assert await serve(two, ask(two), provider) == b"1"
        assert (two.figures.shared_hits, two.figures.hits) == (1, 1)
        private = CachePolicy(ttl=60, shared=False)
        assert await serve(three, ask(three, policy=private), provider) == b"2"
        assert await serve(three, ask(three, "MSFT"), provider) == b"3"


@on_loop
async def test_a_thousand_equal_calls_of_all_workers_ask_once(valkey: Valkey) -> None:
    provider = counting()
    provider.takes = 0.1
    async with running(4, valkey.url) as caches:
        calls = [
            serve(caches[number % 4], ask(caches[number % 4]), provider) for number in range(1000)
        ]
        assert set(await asyncio.gather(*calls)) == {b"1"}
        assert provider.asked == 1


@on_loop
async def test_a_leader_that_is_cancelled_hands_over_to_another_worker(valkey: Valkey) -> None:
    provider = counting()
    provider.takes = 0.2
    async with running(2, valkey.url) as (one, two):
        leader = asyncio.create_task(serve(one, ask(one), provider))
        await eventually(lambda: provider.asked)
        waiter = asyncio.create_task(serve(two, ask(two), provider))
        await asyncio.sleep(0.05)
        leader.cancel()
        begun = time.monotonic()
        assert await waiter == b"2"
        assert time.monotonic() - begun < 0.8  # it did not wait for the lease to end by itself


@on_loop
async def test_a_leader_lives_longer_than_its_lease(valkey: Valkey) -> None:
    provider = counting()
    provider.takes = 1.2
    async with running(2, valkey.url) as (one, two):
        both = asyncio.gather(*[serve(cache, ask(cache), provider) for cache in (one, two)])
        assert await both == [b"1", b"1"] and provider.asked == 1


@on_loop
async def test_a_stale_answer_is_refreshed_once_for_all_workers(valkey: Valkey) -> None:
    provider = counting()
    policy = CachePolicy(ttl=0.05, stale_while_revalidate=60)
    async with running(3, valkey.url) as caches:
        for cache in caches:
            assert await serve(cache, ask(cache, policy=policy), provider) == b"1"
            await written(cache)
        await asyncio.sleep(0.06)
        provider.takes = 0.1
        calls = [
            serve(cache, ask(cache, policy=policy), provider) for cache in caches for _ in range(9)
        ]
        assert set(await asyncio.gather(*calls)) == {b"1"}
        await eventually(lambda: not any(cache.behind for cache in caches))
        assert provider.asked == 2


@on_loop
async def test_a_client_that_wants_it_younger_than_it_is_does_not_wait(valkey: Valkey) -> None:
    """The store takes the entry for fresh, and so nobody else fetches it."""
    provider = counting()
    async with running(2, valkey.url) as (one, two):
        await serve(one, ask(one), provider)
        await written(one)
        await asyncio.sleep(0.02)
        begun = time.monotonic()
        assert await serve(two, ask(two, wish=Wish(max_age=0)), provider) == b"2"
        assert time.monotonic() - begun < 0.5
        await written(two)
        assert await serve(one, ask(one, wish=Wish(no_cache=True)), provider) == b"3"


@on_loop
async def test_an_invalidation_is_everybodys_within_a_second(valkey: Valkey) -> None:
    provider = counting()
    async with running(3, valkey.url) as caches:
        for cache in caches:
            await serve(cache, ask(cache), provider)
            await written(cache)
        await caches[0].invalidate(["symbol:AAPL"])
        begun = time.monotonic()
        assert await state_of(caches[0], ask(caches[0])) is State.DEAD
        async with asyncio.timeout(1):
            for cache in caches[1:]:
                while await state_of(cache, ask(cache)) is not State.DEAD:
                    await asyncio.sleep(0.01)
        assert time.monotonic() - begun < 1
        assert await serve(caches[1], ask(caches[1]), provider) == b"2"
        await written(caches[1])
        assert await serve(caches[0], ask(caches[0]), provider) == b"2"


@on_loop
async def test_what_was_asked_for_before_an_invalidation_is_not_kept_after_it(
    valkey: Valkey,
) -> None:
    provider = counting()
    provider.takes = 0.1
    async with running(3, valkey.url) as (one, two, three):
        early = asyncio.create_task(serve(one, ask(one), provider))
        await eventually(lambda: provider.asked)
        await two.invalidate(["provider:lab"])
        assert await early == b"1"
        await written(one)
        for cache in (two, three):
            assert await state_of(cache, ask(cache)) is State.DEAD


@on_loop
async def test_no_stale_read_after_an_invalidation_returned_whatever_the_load(
    valkey: Valkey,
) -> None:
    """A number that only grows stands behind every answer; who begins to ask after an
    invalidation returned must not hear a smaller one than was true then."""
    truth = 0
    provider = Provider(SystemClock(), lambda: b"%d" % truth)
    provider.takes = 0.002
    wrong: list[tuple[int, int]] = []
    served = 0

    async def read(cache: Cache, floors: list[int], until: float) -> None:
        nonlocal served
        while time.monotonic() < until:
            least = floors[0]
            heard = int(await serve(cache, ask(cache), provider))
            served += 1
            if heard < least:
                wrong.append((heard, least))
            await asyncio.sleep(0)

    async def write(cache: Cache, floors: list[int], until: float) -> None:
        nonlocal truth
        while time.monotonic() < until:
            truth += 1
            now = truth
            await cache.invalidate(["symbol:AAPL"])
            floors[0] = max(floors[0], now)
            await asyncio.sleep(0.01)

    async with running(2, valkey.url) as caches:
        until = time.monotonic() + 1.0
        floors: list[list[int]] = [[0], [0]]
        work = [
            read(cache, floor, until)
            for cache, floor in zip(caches, floors, strict=True)
            for _ in range(3)
        ]
        work += [write(cache, floor, until) for cache, floor in zip(caches, floors, strict=True)]
        await asyncio.gather(*work)
    assert wrong == [] and served > 100 and truth > 20


@on_loop
async def test_an_emptied_store_is_harmless_and_nothing_of_before_is_trusted(
    valkey: Valkey,
) -> None:
    provider = counting()
    async with running(2, valkey.url) as (one, two):
        for cache in (one, two):
            await serve(cache, ask(cache), provider)
            await written(cache)
        await one.invalidate(["symbol:AAPL"])
        with valkey.client() as client:
            client.flushall()  # before the other one heard of it
        async with asyncio.timeout(1):
            while await state_of(two, ask(two)) is not State.DEAD:
                await asyncio.sleep(0.01)
        assert await serve(two, ask(two), provider) == b"2"
        await written(two)
        async with asyncio.timeout(1):
            while await serve(one, ask(one), provider) != b"2":
                await asyncio.sleep(0.01)


@on_loop
async def test_scripts_that_are_forgotten_are_harmless(valkey: Valkey) -> None:
    provider = counting()
    async with running(2, valkey.url) as (one, two):
        with valkey.client() as client:
            client.script_flush()
        await serve(one, ask(one), provider)
        await written(one)
        assert await serve(two, ask(two), provider) == b"1"


@on_loop
async def test_a_store_that_dies_and_comes_back(valkey: Valkey) -> None:
    provider = counting()
    async with running(2, valkey.url) as (one, two):
        await serve(one, ask(one), provider)
        valkey.kill()
        for _ in range(3):
            assert await serve(one, ask(one), provider) == b"1"  # from memory
        assert await serve(two, ask(two), provider) == b"2"
        await two.invalidate(["symbol:AAPL"])
        assert await serve(two, ask(two), provider) == b"3"
        valkey.start()
        await eventually(lambda: one.shared.usable and two.shared.usable)
        assert await state_of(one, ask(one)) is State.DEAD  # it cannot know what it missed
        assert await serve(one, ask(one, "NEW"), provider) == b"4"
        await written(one)
        assert await serve(two, ask(two, "NEW"), provider) == b"4"


@on_loop
async def test_what_was_invalidated_while_the_store_was_away_is_told_when_it_is_back(
    valkey: Valkey,
) -> None:
    """It kept all it knew, the entry too: nobody may read that any more."""
    provider = counting()
    async with behind_a_proxy(valkey) as (one, proxy), running(1, valkey.url) as (two,):
        for cache in (two, one):
            await serve(cache, ask(cache), provider)
            await written(cache)
        with proxy.black_hole():
            await one.invalidate(["symbol:AAPL"])
            assert not one.shared.usable
            assert await state_of(one, ask(one)) is State.DEAD
            assert await serve(two, ask(two), provider) == b"1"  # which cannot know
        await eventually(lambda: one.shared.usable)
        assert await state_of(one, ask(one)) is State.DEAD
        async with asyncio.timeout(1):
            while await state_of(two, ask(two)) is not State.DEAD:
                await asyncio.sleep(0.01)


async def worst_of(cache: Cache, provider: Provider, name: str) -> float:
    """The longest that any of some calls and an invalidation took."""
    spans = []
    for number in range(8):
        begun = time.monotonic()
        await serve(cache, ask(cache, f"{name}{number}"), provider)
        spans.append(time.monotonic() - begun)
    begun = time.monotonic()
    await cache.invalidate([f"symbol:{name}1"])
    return max(*spans, time.monotonic() - begun)


@pytest.mark.parametrize("fault", ["slow", "black_hole", "stopped"])
def test_a_bad_store_fails_nothing_and_costs_little(valkey: Valkey, fault: str) -> None:
    """The best of three: how long a busy machine takes besides is not the store's doing."""

    @on_loop
    async def run() -> None:
        provider, worst = counting(), []
        async with behind_a_proxy(valkey) as (cache, proxy):
            await serve(cache, ask(cache), provider)
            faults = {
                "slow": lambda: proxy.slow(0.2),
                "black_hole": proxy.black_hole,
                "stopped": valkey.frozen,
            }
            for name in "ABC":
                with faults[fault]():
                    worst.append(await worst_of(cache, provider, name))
                    assert await serve(cache, ask(cache), provider) == b"1"
                await eventually(lambda: cache.shared.usable)
                if min(worst) < MOST_ADDED:
                    break
        assert min(worst) < MOST_ADDED

    run()


@on_loop
async def test_a_store_that_is_not_there_at_the_start_is_used_when_it_comes(valkey: Valkey) -> None:
    provider = counting()
    valkey.kill()
    async with running(2, valkey.url) as (one, two):
        assert await serve(one, ask(one), provider) == b"1"
        valkey.start()
        await eventually(lambda: one.shared.usable and two.shared.usable)
        await serve(one, ask(one), provider)
        await written(one)
        assert await serve(two, ask(two), provider) == b"2"


@on_loop
async def test_the_store_stays_within_its_bound_and_keeps_what_is_used(valkey: Valkey) -> None:
    provider = Provider(SystemClock(), lambda: b"%064d" % provider.asked * 10)
    async with running(1, valkey.url, memory_bytes=1, shared_bytes=50_000) as (cache,):
        await serve(cache, ask(cache, "HOT"), provider)
        for number in range(100):
            await serve(cache, ask(cache, f"S{number}"), provider)
            await serve(cache, ask(cache, "HOT"), provider)
        await written(cache)
        assert provider.asked == 101
        with valkey.client() as client:
            names = client.keys(f"{PREFIX}:*")
            kept = [
                name
                for name in names
                if client.type(name) == b"hash" and not name.endswith(b"sizes")
            ]
            told = int(client.hget(f"{PREFIX}:sizes", "") or 0)
            assert 40_000 < told <= 50_000
            assert (
                len(kept) == client.zcard(f"{PREFIX}:index") == client.hlen(f"{PREFIX}:sizes") - 1
            )
            assert sum(client.memory_usage(name) or 0 for name in kept) <= told * 1.2
            assert all(0 < client.ttl(name) <= 60 for name in kept)
        await cache.invalidate_all()


@on_loop
async def test_the_store_keeps_nothing_longer_than_its_providers_terms_let_it(
    valkey: Valkey,
) -> None:
    provider = counting()
    provider.headers = {"etag": '"a"'}  # could be revalidated
    async with running(1, valkey.url) as (cache,):
        await serve(cache, ask(cache, policy=CachePolicy(ttl=60, max_retention=60)), provider)
        await written(cache)
        with valkey.client() as client:
            (name,) = [each for each in client.keys(f"{PREFIX}:*:*") if b"lease" not in each]
            assert 0 < client.pttl(name) <= 60_000


@on_loop
async def test_what_somebody_else_wrote_there_is_no_answer(valkey: Valkey) -> None:
    provider = counting()
    async with running(2, valkey.url) as (one, two):
        await serve(one, ask(one, "A"), provider)
        await serve(one, ask(one, "B", place=PLACE._replace(tenant_id=8)), provider)
        await written(one)
        with valkey.client() as client:
            first, second = [n for n in client.keys(f"{PREFIX}:*:*") if not n.endswith(b"lease")]
            client.hset(first, "data", client.hget(second, "data"))
            client.hset(second, "data", b"junk")
        assert await serve(two, ask(two, "A"), provider) == b"3"
        assert await serve(two, ask(two, "B", place=PLACE._replace(tenant_id=8)), provider) == b"4"
        assert two.figures.torn >= 2


@on_loop
async def test_a_store_that_evicts_what_was_invalidated_is_not_trusted(valkey: Valkey) -> None:
    provider = counting()
    async with running(2, valkey.url) as (one, two):
        await serve(one, ask(one), provider)
        await written(one)
        assert await one.invalidate(["symbol:AAPL"])
        with valkey.client() as client:
            before = client.get(f"{PREFIX}:epoch")
            client.delete(f"{PREFIX}:tags")
            await eventually(lambda: client.get(f"{PREFIX}:epoch") != before)
        assert isinstance(two.shared, SharedCache)
        await two.shared.look()
        assert await serve(two, ask(two), provider) == b"2"


@on_loop
async def test_a_store_that_evicts_its_index_is_used_again(valkey: Valkey) -> None:
    provider = Provider(SystemClock(), lambda: b"%064d" % provider.asked * 10)
    async with running(1, valkey.url, memory_bytes=1, shared_bytes=10_000) as (cache,):
        for number in range(20):
            await serve(cache, ask(cache, f"S{number}"), provider)
        await written(cache)
        with valkey.client() as client:
            client.delete(f"{PREFIX}:index")
        for _ in range(2):
            await serve(cache, ask(cache), provider)
            await written(cache)
        asked = provider.asked
        await serve(cache, ask(cache), provider)
        assert provider.asked == asked
        await cache.invalidate_all()


@on_loop
async def test_all_can_be_invalidated_at_once(valkey: Valkey) -> None:
    provider = counting()
    async with running(2, valkey.url) as (one, two):
        for cache in (one, two):
            await serve(cache, ask(cache), provider)
            await written(cache)
        await one.invalidate_all()
        assert await state_of(one, ask(one)) is State.DEAD
        async with asyncio.timeout(1):
            while await state_of(two, ask(two)) is not State.DEAD:
                await asyncio.sleep(0.01)
        assert await serve(one, ask(one), provider) == b"2"


@on_loop
async def test_more_invalidations_than_are_told_at_once(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.shared.MOST_AT_ONCE", 7)
    provider = counting()
    async with running(2, valkey.url) as (one, two):
        symbols = [f"S{number}" for number in range(40)]
        for symbol in symbols:
            await serve(two, ask(two, symbol), provider)
        await one.invalidate([f"symbol:{symbol}" for symbol in symbols])
        async with asyncio.timeout(1):
            for symbol in symbols:
                while await state_of(two, ask(two, symbol)) is not State.DEAD:
                    await asyncio.sleep(0.01)


@on_loop
async def test_too_many_invalidations_to_remember_become_one_of_all(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.shared.MOST_UNTOLD", 3)
    provider = counting()
    async with running(2, valkey.url) as (one, two):
        await serve(two, ask(two, "OTHER"), provider)
        await one.invalidate([f"symbol:S{number}" for number in range(9)])
        async with asyncio.timeout(1):
            while await state_of(two, ask(two, "OTHER")) is not State.DEAD:
                await asyncio.sleep(0.01)


@on_loop
async def test_a_late_answer_from_before_an_invalidation_replaces_no_new_one(
    valkey: Valkey,
) -> None:
    provider = counting()
    async with running(3, valkey.url) as (one, two, three):
        provider.takes = 0.1
        late = asyncio.create_task(serve(one, ask(one, wish=Wish(no_cache=True)), provider))
        await eventually(lambda: provider.asked)
        provider.takes = 0.0
        await two.invalidate(["symbol:AAPL"])
        assert await serve(two, ask(two), provider) == b"2"
        await written(two)
        assert await late == b"1"
        await written(one)
        for cache in (two, three):
            assert await serve(cache, ask(cache), provider) == b"2"
        async with asyncio.timeout(1):  # by when it has heard of it
            while await serve(one, ask(one), provider) != b"2":
                await asyncio.sleep(0.01)


@on_loop
async def test_what_could_not_be_told_is_not_read_though_the_store_answers_again(
    valkey: Valkey,
) -> None:
    provider = counting()
    async with running(2, valkey.url) as (one, two):
        await serve(two, ask(two), provider)
        await written(two)
        with valkey.frozen():
            await serve(one, ask(one, "OTHER"), provider)  # from here on nobody waits for it
            await one.invalidate(["symbol:AAPL"])
        until = time.monotonic() + 0.35
        while time.monotonic() < until:
            assert await state_of(one, ask(one)) is State.DEAD
            await asyncio.sleep(0.001)


@on_loop
async def test_a_worker_that_invalidated_keeps_what_it_fetched_since(valkey: Valkey) -> None:
    provider = counting()
    async with running(1, valkey.url) as (cache,):
        await cache.invalidate(["symbol:AAPL"])
        await serve(cache, ask(cache), provider)
        await asyncio.sleep(0.3)  # in which it hears of its own
        assert cache.fresh(ask(cache)) is not None


@on_loop
async def test_a_store_that_began_anew_with_what_it_had_saved_is_not_trusted(
    valkey: Valkey,
) -> None:
    """It may have saved it before the last invalidations."""
    provider = counting()
    async with running(2, valkey.url) as (one, two):
        await serve(one, ask(one), provider)
        await written(one)
        with valkey.client() as client:
            client.save()
        saved = valkey._server.log.parent / "dump.rdb"
        assert saved.stat().st_size > 100
        await one.invalidate(["symbol:AAPL"])
        valkey.kill()
        valkey.start()
        saved.unlink()
        await eventually(lambda: two.shared.usable)
        assert await state_of(two, ask(two)) is State.DEAD


@on_loop
async def test_what_is_to_be_done_once_is_claimed_by_one_worker(valkey: Valkey) -> None:
    async with running(3, valkey.url) as caches:
        claims = [cache.shared.claim(b"a" * 32, 60) for cache in caches]
        assert sorted(await asyncio.gather(*claims)) == [False, False, True]
        assert await caches[0].shared.claim(b"b" * 32, 0.05)
        while not await caches[1].shared.claim(b"b" * 32, 60):  # within the test's own time
            await asyncio.sleep(0.005)


@on_loop
async def test_without_a_store_a_worker_claims_all_and_with_a_lost_one_nothing() -> None:
    async with running(1) as (alone,):
        assert await alone.shared.claim(b"a" * 32, 60)
    async with running(1, "redis://127.0.0.1:1/0") as (lost,):
        assert not await lost.shared.claim(b"a" * 32, 60)


@on_loop
async def test_what_one_worker_keeps_warm_the_others_need_not_fetch(valkey: Valkey) -> None:
    provider = counting()

    async def fetch(look: Look) -> str:
        await provider(look)
        return OK

    async with running(2, valkey.url) as caches:
        warmers = [Warmer(cache, Foresight()) for cache in caches]
        until = time.time() + 30
        assert await warmers[0].ensure(ask(caches[0]), fetch, until=until) == OK
        await written(caches[0])
        assert await warmers[1].ensure(ask(caches[1]), fetch, until=until) == FRESH
        assert caches[1].fresh(ask(caches[1])) is not None
        assert await warmers[1].ensure(ask(caches[1]), fetch, until=until + 60) == OK
        await written(caches[1])
        assert await warmers[0].ensure(ask(caches[0]), fetch, until=until + 60) == OK
    assert provider.asked == 3
