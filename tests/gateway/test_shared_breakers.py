"""Workers on a real store: what one has seen the others know, and probes are all workers'
together."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import accumulate, pairwise
from pathlib import Path

import pytest

from gateway.shared_breakers import LOOK_SECONDS, SharedBreakers
from lib.clock import SystemClock
from providers.breaker import Breaker, Override, State
from providers.breaker_policy import Policy
from providers.breakers import Breakers
from providers.call import Outcome, Verdict
from tests.gateway.breaker_worker import OPEN_SECONDS
from tests.loops import on_loop
from tests.services.valkey import Valkey

ROOT = Path(__file__).resolve().parents[2]
OK, FAULT = Outcome(Verdict.OK), Outcome(Verdict.UNAVAILABLE)
POLICY = Policy(consecutive_failures=3, open_seconds=0.3)


class Worker:
    def __init__(self, url: str, policy: Policy = POLICY) -> None:
        self.shared = SharedBreakers(url, timeout=1.0)
        self.breakers = Breakers(SystemClock(), self.shared)
        self.policy = policy

    @property
    def breaker(self) -> Breaker:
        return self.breakers.of("lab", self.policy)

    async def call(self, outcome: Outcome = OK) -> bool:
        permits = await self.breakers.admit([self.breaker])
        if permits is not None:
            permits.record(outcome)
        return permits is not None

    async def fail(self) -> None:
        for _ in range(3):
            assert await self.call(FAULT)
        assert self.breaker.state is State.OPEN


@asynccontextmanager
async def workers(
    valkey: Valkey, number: int = 3, policy: Policy = POLICY
) -> AsyncIterator[list[Worker]]:
    made = [Worker(valkey.url, policy) for _ in range(number)]
    for worker in made:
        await worker.shared.start()
    try:
        yield made
    finally:
        for worker in made:
            await worker.shared.close()


async def within_a_second(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(1):
        while not condition():
            await asyncio.sleep(0.01)


@on_loop
async def test_what_one_worker_sees_all_know_within_a_second(valkey: Valkey) -> None:
    async with workers(valkey, policy=Policy(consecutive_failures=3, open_seconds=2)) as three:
        one, two, three_ = three
        await one.fail()
        await within_a_second(lambda: all(w.breaker.state is State.OPEN for w in three))
        assert not await two.call() and not await three_.call()
        left = [w.breaker.seconds_left() for w in three]
        assert max(left) - min(left) < 0.5 and max(left) <= 2
        await asyncio.sleep(max(left) + 0.05)
        assert await two.call(OK)
        await within_a_second(lambda: all(w.breaker.state is State.CLOSED for w in three))


@on_loop
async def test_permitted_probes_are_all_workers_together(valkey: Valkey) -> None:
    policy = Policy(consecutive_failures=3, open_seconds=0.3, permitted_probes=2)
    async with workers(valkey, policy=policy) as three:
        await three[0].fail()
        await within_a_second(lambda: all(w.breaker.state is State.OPEN for w in three))
        await asyncio.sleep(0.35)
        asked = [w.breakers.admit([w.breaker]) for w in three for _ in range(5)]
        permits = [p for p in await asyncio.gather(*asked) if p is not None]
        assert len(permits) == 2
        permits[0].record(OK)
        await asyncio.sleep(2 * LOOK_SECONDS)
        assert not any([await w.call() for w in three])  # a result frees no place
        permits[1].record(OK)
        await within_a_second(lambda: all(w.breaker.state is State.CLOSED for w in three))


@on_loop
async def test_a_probe_given_back_or_never_ended_leaves_its_place(valkey: Valkey) -> None:
    async with workers(valkey, 2) as (one, two):
        await one.fail()
        await within_a_second(lambda: two.breaker.state is State.OPEN)
        await asyncio.sleep(0.35)
        probe = await one.breakers.admit([one.breaker])
        assert probe is not None and not await two.call()
        probe.release()
        async with asyncio.timeout(1):
            while (lost := await two.breakers.admit([two.breaker], lease=0.2)) is None:
                await asyncio.sleep(0.01)
        assert not await one.call()
        await asyncio.sleep(0.25)  # as if its worker had died
        assert await one.call(OK)
        await within_a_second(lambda: two.breaker.state is State.CLOSED)
        lost.record(FAULT)
        assert two.breaker.failures_in_a_row == 0


@on_loop
async def test_a_store_that_is_away_leaves_each_to_itself_and_comes_back(valkey: Valkey) -> None:
    async with workers(valkey, 2) as (one, two):
        valkey.kill()
        await one.fail()
        assert await two.call(OK)
        await asyncio.sleep(0.35)
        assert await one.call(FAULT)  # its own probe
        assert one.breaker.state is State.OPEN
        await asyncio.sleep(0.35)
        assert await one.call(OK)
        assert one.breaker.state is State.CLOSED
        one.policy = Policy(consecutive_failures=3, open_seconds=20)
        await one.fail()
        valkey.start()
        async with asyncio.timeout(10):
            while two.breaker.state is not State.OPEN:
                await asyncio.sleep(0.02)


@on_loop
async def test_an_emptied_store_or_one_that_never_heard_does_not_block(valkey: Valkey) -> None:
    async with workers(valkey, 2) as (one, two):
        await one.fail()
        await within_a_second(lambda: two.breaker.state is State.OPEN)
        with valkey.client() as client:
            client.flushall()
        await asyncio.sleep(0.35)
        assert await two.call(OK)
        await within_a_second(lambda: one.breaker.state is State.CLOSED)
        # The store says CLOSED, and never hears that it opened anew.
        one.shared.tell = lambda *_: None  # type: ignore[method-assign]
        await one.fail()
        await asyncio.sleep(0.35)
        assert await one.call(OK)
        await within_a_second(lambda: one.breaker.state is State.CLOSED)


@on_loop
async def test_staff_close_for_all(valkey: Valkey) -> None:
    async with workers(valkey, 2, Policy(consecutive_failures=3, open_seconds=50)) as (one, two):
        for worker in (one, two):
            worker.breakers.apply({})
        await one.fail()
        await within_a_second(lambda: two.breaker.state is State.OPEN)
        two.breakers.apply({"lab": Override(State.CLOSED, None, id=1)})
        await within_a_second(lambda: one.breaker.state is State.CLOSED)


@pytest.mark.parametrize(("permitted", "result"), [(1, "ok"), (1, "fault"), (3, "ok")])
def test_three_processes_share_one_half_open_round(
    valkey: Valkey, tmp_path: Path, permitted: int, result: str
) -> None:
    """They all try as fast as they can. Of all their probes only so many are ever in flight."""

    @on_loop
    async def open_it() -> None:
        async with workers(
            valkey, 1, Policy(consecutive_failures=3, open_seconds=OPEN_SECONDS)
        ) as (one,):
            await one.fail()

    journals = [tmp_path / f"{number}" for number in range(3)]
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.gateway.breaker_worker",
                valkey.url,
                "20",
                str(permitted),
                result,
                str(journal),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for journal in journals
    ]
    try:
        for process in processes:
            assert process.stdout
            assert any(line == "ready\n" for line in process.stdout)
        open_it()
        for process in processes:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        ends = [process.communicate(timeout=30)[0].split()[-1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    probes = sorted(
        tuple(map(float, line.split()))
        for journal in journals
        for line in journal.read_text().splitlines()
    )
    moments = sorted([(began, 1) for began, _ in probes] + [(ended, -1) for _, ended in probes])
    in_flight = list(accumulate(change for _, change in moments))
    assert max(in_flight) == permitted
    if result == "ok":
        assert len(probes) == permitted and set(ends) == {"CLOSED"}
    else:
        assert len(probes) >= 2 and "CLOSED" not in ends
        assert all(next_[0] - one[1] >= OPEN_SECONDS for one, next_ in pairwise(probes))
