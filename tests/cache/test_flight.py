"""Equal calls at the same time: one asks, the others wait, and nobody waits for the dead."""

from __future__ import annotations

import asyncio
import random
from functools import partial

import pytest

from cache.cache import Cache
from cache.policy import CachePolicy
from lib.problems import DeadlineExceeded, Unavailable
from tests.cache.serving import POLICY, SECRET, Provider, ask, serve
from tests.virtual_time import LoopClock, on_virtual_loop


class Stage:
    def __init__(self) -> None:
        self.clock = LoopClock()
        self.cache = Cache(SECRET, clock=self.clock)
        self.answers = 0
        self.provider = Provider(self.clock, self.next_answer)
        self.provider.takes = 1.0

    def next_answer(self) -> bytes:
        self.answers += 1
        return b"%d" % self.answers

    def call(self, **options: object) -> asyncio.Task[bytes]:
        asked = ask(self.cache, **options)  # type: ignore[arg-type]
        return asyncio.create_task(serve(self.cache, asked, self.provider))

    async def over(self) -> None:
        assert len(self.cache.flights) == 0
        await self.cache.close()


@on_virtual_loop
async def test_a_thousand_equal_calls_ask_once() -> None:
    stage = Stage()
    answers = await asyncio.gather(*[stage.call() for _ in range(1000)])
    assert set(answers) == {b"1"} and stage.provider.asked == 1
    assert await stage.call() == b"1"
    assert (stage.cache.figures.misses, stage.cache.figures.waited) == (1, 999)
    assert stage.cache.figures.hits == 1
    await stage.over()


@on_virtual_loop
async def test_different_calls_do_not_wait_for_each_other() -> None:
    stage = Stage()
    calls = [stage.call(symbol=f"S{number}") for number in range(20)]
    await asyncio.wait(calls, timeout=1.01)
    assert all(call.done() for call in calls) and stage.provider.asked == 20


@on_virtual_loop
async def test_when_the_leader_is_cancelled_the_next_one_leads() -> None:
    stage = Stage()
    calls = [stage.call() for _ in range(10)]
    for dead in calls[:3]:
        await asyncio.sleep(0.5)
        dead.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers[:3]] == [asyncio.CancelledError] * 3
    assert answers[3:] == [b"4"] * 7 and stage.provider.asked == 4
    await stage.over()


@on_virtual_loop
async def test_each_waiter_keeps_its_own_deadline() -> None:
    stage = Stage()
    stage.provider.takes = 5.0
    leader, *waiters = [stage.call(patience=span) for span in (9, 1, 2, 3, 9)]
    began = asyncio.get_running_loop().time()
    for waiter, span in zip(waiters[:3], (1, 2, 3), strict=True):
        with pytest.raises(DeadlineExceeded):
            await waiter
        assert asyncio.get_running_loop().time() - began == pytest.approx(span, abs=0.03)
    assert await leader == await waiters[3] == b"1"
    await stage.over()


@on_virtual_loop
async def test_when_the_leader_leaves_the_one_with_most_time_left_leads() -> None:
    stage = Stage()
    stage.provider.takes = 5.0
    leader, *hurried, patient = [stage.call(patience=span) for span in (9, 1, 2, 3, 9)]
    await asyncio.sleep(0.5)
    leader.cancel()
    assert await patient == b"2" and stage.provider.asked == 2
    for each in hurried:
        with pytest.raises(DeadlineExceeded):
            await each
    await stage.over()


@on_virtual_loop
async def test_a_failure_is_all_waiters_or_the_next_one_tries_as_the_policy_says() -> None:
    together, in_turn = CachePolicy(ttl=60), CachePolicy(ttl=60, fails_together=False)
    for policy, expected in ((together, 1), (in_turn, 5)):
        stage = Stage()
        stage.provider.down = True
        calls = [stage.call(policy=policy) for _ in range(5)]
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(end, Unavailable) for end in ends)
        assert len({id(end) for end in ends}) == 5  # each its own to render
        assert stage.provider.asked == expected
        stage.provider.down = False
        assert await stage.call(policy=policy) == b"%d" % (expected + 1)  # it was not kept
        await stage.over()


@on_virtual_loop
async def test_where_they_try_in_turn_the_first_who_gets_an_answer_gives_it_to_all() -> None:
    stage = Stage()
    stage.provider.down = True
    policy = CachePolicy(ttl=60, fails_together=False)
    calls = [stage.call(policy=policy) for _ in range(6)]
    await asyncio.sleep(2.5)
    stage.provider.down = False
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(end, Unavailable) for end in ends] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]
    assert stage.provider.asked == 3


@on_virtual_loop
async def test_an_answer_that_may_not_be_kept_is_nobody_elses() -> None:
    stage = Stage()
    stage.provider.headers = {"cache-control": "no-store"}
    calls = [stage.call() for _ in range(5)]
    answers = await asyncio.gather(*calls)
    assert sorted(answers) == [b"1", b"2", b"3", b"4", b"5"]
    assert asyncio.get_running_loop().time() == pytest.approx(2.0, abs=0.01)  # all at once
    calls = [stage.call() for _ in range(5)]
    await asyncio.wait(calls)
    assert asyncio.get_running_loop().time() == pytest.approx(3.0, abs=0.02)  # nor wait again
    assert len(stage.cache.memory) == 0
    stage.provider.headers = {}
    await asyncio.sleep(5.0)
    assert {*await asyncio.gather(*[stage.call() for _ in range(5)])} == {b"11"}
    await stage.over()


@on_virtual_loop
async def test_who_comes_after_an_invalidation_gets_nothing_from_before() -> None:
    stage = Stage()
    early = [stage.call() for _ in range(3)]
    await asyncio.sleep(0.5)
    await stage.cache.invalidate(["symbol:AAPL"])
    late = [stage.call() for _ in range(3)]
    assert await asyncio.gather(*early) == [b"1"] * 3
    assert await asyncio.gather(*late) == [b"2"] * 3
    assert await stage.call() == b"2"
    await stage.over()


@on_virtual_loop
async def test_a_stale_answer_is_served_at_once_and_refreshed_once() -> None:
    stage = Stage()
    policy = CachePolicy(ttl=10, stale_while_revalidate=60)
    assert await stage.call(policy=policy) == b"1"
    await asyncio.sleep(15)
    began = asyncio.get_running_loop().time()
    answers = await asyncio.gather(*[stage.call(policy=policy) for _ in range(50)])
    assert set(answers) == {b"1"} and asyncio.get_running_loop().time() == began
    await asyncio.sleep(1.1)
    assert stage.provider.asked == 2
    assert await stage.call(policy=policy) == b"2"
    assert stage.cache.figures.stale == 50
    await stage.over()


@on_virtual_loop
async def test_a_refresh_that_fails_leaves_the_old_answer_and_is_tried_again() -> None:
    stage = Stage()
    policy = CachePolicy(ttl=10, stale_while_revalidate=60)
    await stage.call(policy=policy)
    await asyncio.sleep(15)
    stage.provider.down = True
    assert await stage.call(policy=policy) == b"1"
    await asyncio.sleep(1.1)
    assert await stage.call(policy=policy) == b"1"
    await asyncio.sleep(1.1)
    assert stage.provider.asked == 3
    await stage.over()


@on_virtual_loop
async def test_with_every_provider_down_a_stale_answer_saves_the_day() -> None:
    stage = Stage()
    policy = CachePolicy(ttl=10, stale_if_error=600)
    await stage.call(policy=policy)
    await asyncio.sleep(100)
    stage.provider.down = True
    answers = await asyncio.gather(*[stage.call(policy=policy) for _ in range(20)])
    assert set(answers) == {b"1"} and stage.provider.asked == 2
    stage.provider.takes = 100.0  # nor can it be waited for
    leader = stage.call(policy=policy, patience=200)
    await asyncio.sleep(0)
    assert await stage.call(policy=policy, patience=2) == b"1"
    leader.cancel()
    await asyncio.wait([leader])
    await asyncio.sleep(600)
    stage.provider.takes = 0.0
    with pytest.raises(Unavailable):
        await stage.call(policy=policy)
    await stage.over()


@pytest.mark.parametrize("seed", range(20))
def test_nobody_is_forgotten_whatever_happens_to_whom(seed: int) -> None:
    """Cancelled, late, failing and invalidated at random: everyone has an end, and in time."""

    @on_virtual_loop
    async def storm() -> None:
        chance, stage = random.Random(seed), Stage()
        calls: list[tuple[asyncio.Task[bytes], float]] = []
        policies = [POLICY, CachePolicy(ttl=60, fails_together=False), CachePolicy(ttl=0.2)]
        loop, late = asyncio.get_running_loop(), []

        def over(end: float, _: object) -> None:
            if loop.time() > end:
                late.append(end)

        for _ in range(150):
            stage.provider.takes = chance.choice([0.0, 0.1, 1.0, 4.0])
            stage.provider.down = chance.random() < 0.3
            stage.provider.headers = chance.choice([{}, {}, {"cache-control": "no-store"}])
            patience = chance.choice([0.05, 0.5, 5.0])
            policy = chance.choice(policies)
            call = stage.call(symbol=chance.choice("AB"), policy=policy, patience=patience)
            calls.append((call, loop.time() + patience + 0.1))
            call.add_done_callback(partial(over, calls[-1][1]))
            if chance.random() < 0.3:
                chance.choice(calls)[0].cancel()
            if chance.random() < 0.1:
                await stage.cache.invalidate([chance.choice(["symbol:A", "provider:lab"])])
            await asyncio.sleep(chance.choice([0, 0, 0.01, 0.3]))
        ends = await asyncio.gather(*[call for call, _ in calls], return_exceptions=True)
        allowed = (bytes, asyncio.CancelledError, DeadlineExceeded, Unavailable)
        assert all(isinstance(end, allowed) for end in ends)
        assert late == []
        await stage.over()

    storm()


@on_virtual_loop
async def test_who_gives_up_in_the_turn_in_which_it_is_told_to_lead_passes_it_on() -> None:
    stage = Stage()
    leader, first, second = stage.call(), stage.call(), stage.call()
    await asyncio.sleep(0.5)
    leader.cancel()
    await asyncio.sleep(0)  # the leader leaves, and the first is told
    first.cancel()  # before it runs
    assert await second == b"2"
    assert first.cancelled()
    await stage.over()
