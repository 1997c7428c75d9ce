"""Kept answers in the whole system: whatever happens to the store that gateways share, no call
fails by it, nobody hears what was invalidated, and equal calls are one.

Only calls are meant that need no counters: a hard quota refuses while its store is away, as it
promises (docs/operate/limits.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from statistics import quantiles

import pytest

from tests.chaos.cached import Load, Stage, staged
from tests.chaos.client import Seen
from tests.chaos.reporting import FIGURES
from tests.patience import ROUNDS

pytestmark = pytest.mark.chaos
FAULTS = ("killed", "emptied", "frozen", "slow", "cut_off")
READERS = 6


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, cluster_template: Path) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("cached"), cluster_template) as made:
        yield made


@contextlib.contextmanager
def happening(stage: Stage, fault: str) -> Iterator[None]:
    """The store is lost in one of its ways, until the scope ends."""
    valkey, proxy = stage.cluster.valkey, stage.proxy
    if fault == "frozen":
        with valkey.frozen():
            yield
    elif fault in ("slow", "cut_off"):
        with proxy.slow(0.3) if fault == "slow" else proxy.black_hole():
            yield
    elif fault == "emptied":
        with valkey.client() as client:
            client.flushall()
        yield
    else:
        valkey.kill()
        yield
        valkey.start()


@contextlib.asynccontextmanager
async def under(load: Load) -> AsyncIterator[None]:
    running = asyncio.create_task(load.run(READERS))
    try:
        yield
    finally:
        load.over = True
        await running


async def is_shared(stage: Stage) -> bool:
    """Whether one gateway has what the other one fetched."""
    name = stage.new_name()
    first, second = await stage.ask(0, name), await stage.ask(1, name)
    assert (first.status, second.status) == (200, 200)
    return second.headers["x-patchbay-cache"] == "hit"


async def shared_again(stage: Stage) -> float:
    """Seconds until it is."""
    begun = time.monotonic()
    async with asyncio.timeout(30):
        while not (await asyncio.to_thread(stage.shares) and await is_shared(stage)):
            await asyncio.sleep(0.02)
    return time.monotonic() - begun


def test_whatever_happens_to_the_store_no_call_fails_and_nobody_hears_what_is_outdated(
    stage: Stage, is_long: bool, record_property: Callable[[str, object], None]
) -> None:
    seed = secrets.randbelow(10**6)
    chance = random.Random(seed)
    load = Load(stage, chance, [stage.new_name() for _ in range(5)])
    span, rounds, faults = (2.0, 3, len(FAULTS)) if is_long else (0.3, 1, 3)
    recovered: Counter[str] = Counter()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        async with under(load):
            for fault in [each for _ in range(rounds) for each in chance.sample(FAULTS, faults)]:
                await asyncio.sleep(span / 2)
                load.healthy_since = float("inf")
                with contextlib.ExitStack() as scope:
                    await asyncio.to_thread(scope.enter_context, happening(stage, fault))
                    await asyncio.sleep(span)
                    await asyncio.to_thread(scope.close)
                seconds = await shared_again(stage)
                recovered[fault] = max(recovered[fault], round(seconds * 1000))
                load.healthy_since = loop.time()
            await asyncio.sleep(1.0 + span)

    asyncio.run(run())
    record_property(
        FIGURES,
        f"cache store faults: calls={load.statuses.total()} failed="
        f"{load.statuses.total() - load.statuses[200]} outdated={len(load.wrong)} "
        f"{dict(load.found)} invalidations={load.invalidations} (untold at first {load.untold}) "
        f"shared again within ms={dict(recovered)} seed={seed}",
    )
    assert {*load.statuses} == {200} and load.wrong == []
    assert load.found["hit"] > load.found["miss"] / 4 > 0
    assert load.untold


@pytest.mark.only_long
def test_no_call_hears_what_was_invalidated_before_it_came(
    stage: Stage, record_property: Callable[[str, object], None]
) -> None:
    """With the store in order. What happens to it besides, the test before tells."""
    load = Load(stage, random.Random(3), [stage.new_name() for _ in range(3)])

    async def run() -> None:
        async with under(load):
            await asyncio.sleep(30)

    asyncio.run(run())
    record_property(
        FIGURES,
        f"cache invalidation: calls={load.statuses.total()} invalidations={load.invalidations} "
        f"outdated={len(load.wrong)} {dict(load.found)}",
    )
    assert {*load.statuses} == {200} and load.wrong == []
    assert load.untold < load.invalidations


@pytest.mark.only_long
def test_how_soon_a_kept_answer_is_there(
    stage: Stage, record_property: Callable[[str, object], None]
) -> None:
    """Over one connection, in the gateway and for the client in all, its row in PostgreSQL included;
    a figure, and no bound: machines differ."""
    names = [stage.new_name() for _ in range(500)]

    async def fetch() -> None:
        for name in names:
            assert (await stage.ask(0, name)).status == 200

    asyncio.run(fetch())
    took = {level: stage.timed(1, names) for level in ("the store", "memory")}
    told = "; ".join(
        f"{len(both[0])} of {level} "
        + ", ".join(
            f"{where} p50 {parts[49]:.2f} ms p99 {parts[98]:.2f} ms"
            for where, spans in zip(("in the gateway", "in all"), both, strict=True)
            for parts in [quantiles(spans, n=100)]
        )
        for level, both in took.items()
    )
    record_property(FIGURES, f"cache hits of 1 kB over one connection: {told}")


@pytest.mark.only_long  # where a store is late by milliseconds, each gateway asks once
def test_equal_calls_of_all_gateways_are_one(stage: Stage, is_long: bool) -> None:
    """The best of three: a store that a busy machine makes late is not waited for, and then
    each gateway asks, once."""
    count, name = 1000 if is_long else 200, ""
    stage.truth.takes = 2.0 if is_long else 0.5

    async def run() -> list[Seen]:
        return await asyncio.gather(*[stage.ask(number % 2, name) for number in range(count)])

    for _ in range(3):
        name = stage.new_name()
        seen = asyncio.run(run())
        assert Counter(each.status for each in seen) == {200: count}
        assert stage.truth.asked[name] <= len(stage.cluster.gateways)
        if stage.truth.asked[name] == 1:
            break
    stage.truth.takes = 0.0
    assert Counter(each.headers["x-patchbay-cache"] for each in seen) == {
        "miss": 1,
        "hit": count - 1,
    }
    assert stage.truth.asked[name] == 1


def test_when_the_leaders_process_is_killed_another_asks_and_all_keep_their_deadlines(
    stage: Stage, is_long: bool, record_property: Callable[[str, object], None]
) -> None:
    """The last of this file: a gateway is gone."""
    count, name = 1000 if is_long else 200, ""
    stage.truth.takes = 60.0

    async def begun_with(name: str) -> tuple[list[asyncio.Task[Seen]], list[Seen]]:
        """The leader and all who wait for it; and what those heard who had no time to."""
        leader = asyncio.create_task(stage.ask(0, name))
        while not stage.truth.asked[name]:
            await asyncio.sleep(0.01)
        waiting = [asyncio.create_task(stage.ask(1, name)) for _ in range(count)]
        told = await asyncio.gather(
            *(stage.ask(1, name, X_Patchbay_Deadline_Ms="300") for _ in range(20))
        )
        return [leader, *waiting], told

    async def run() -> tuple[list[Seen], list[Seen], float]:
        nonlocal name
        for _ in range(ROUNDS):  # a gateway that a busy machine keeps from the store asks itself
            name = stage.new_name()
            (leader, *waiting), told = await begun_with(name)
            if stage.truth.asked[name] == 1:
                break
            for each in (leader, *waiting):
                each.cancel()
        assert stage.truth.asked[name] == 1 and not any(each.done() for each in waiting)
        stage.truth.takes = 0.05
        stage.cluster.kill(0)
        begun = time.monotonic()
        seen = await asyncio.gather(*waiting)
        seconds = time.monotonic() - begun
        assert (await leader).status == 0
        return seen, told, seconds

    seen, hurried, seconds = asyncio.run(run())
    stage.truth.takes = 0.0
    assert Counter(each.status for each in seen) == {200: count}
    assert stage.truth.asked[name] == 2
    for each in hurried:
        assert json.loads(each.body)["error"]["code"] == "deadline_exceeded"
        assert 0.25 < each.ended - each.begun < 2
    record_property(
        FIGURES, f"cache leader killed -9: {count} waiting calls answered after {seconds:.2f} s"
    )
    assert seconds < 5
