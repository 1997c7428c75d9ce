"""A bound on waiting that costs no timer while it is young, and is as exact as one with."""

from __future__ import annotations

import asyncio

import pytest

from lib.deadline import YOUNG, Deadline
from tests.loops import on_loop

LATE = 0.1  # seconds that a busy machine may take


def now() -> float:
    return asyncio.get_running_loop().time()


@on_loop
@pytest.mark.parametrize("seconds", [-1.0, 0.0, YOUNG / 2, YOUNG * 1.5, YOUNG * 4])
async def test_what_is_still_open_then_times_out(seconds: float) -> None:
    begun = now()
    with pytest.raises(TimeoutError), Deadline(begun + seconds):
        await asyncio.sleep(10)
    assert seconds - 0.001 <= now() - begun <= max(seconds, 0) + LATE
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
    await asyncio.sleep(0)  # and nothing cancels it any more


@on_loop
@pytest.mark.parametrize("seconds", [YOUNG / 2, YOUNG * 3])
async def test_what_is_over_before_is_left_alone(seconds: float) -> None:
    with Deadline(now() + seconds):
        await asyncio.sleep(0)
    await asyncio.sleep(seconds + 2 * YOUNG)


@on_loop
async def test_it_may_be_moved_at_any_time() -> None:
    begun = now()
    with pytest.raises(TimeoutError), Deadline(begun + YOUNG / 2) as limit:
        limit.when = begun + 4 * YOUNG
        await asyncio.sleep(2 * YOUNG)
        limit.when = begun + 6 * YOUNG
        await asyncio.sleep(10)
    assert now() - begun >= 6 * YOUNG - 0.001


@on_loop
async def test_a_cancellation_of_somebody_elses_stays_one() -> None:
    async def wait() -> None:
        with Deadline(now() + 3 * YOUNG):
            await asyncio.sleep(10)

    task = asyncio.create_task(wait())
    await asyncio.sleep(YOUNG / 4)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@on_loop
async def test_the_inner_of_two_ends_first_and_the_outer_goes_on() -> None:
    begun = now()
    with pytest.raises(TimeoutError), Deadline(begun + 4 * YOUNG):
        with pytest.raises(TimeoutError), Deadline(begun + 2 * YOUNG):
            await asyncio.sleep(10)
        assert now() - begun < 4 * YOUNG + LATE
        await asyncio.sleep(10)


@on_loop
async def test_thousands_at_once() -> None:
    async def one(number: int) -> bool:
        try:
            with Deadline(now() + YOUNG * (number % 5) / 2):
                await asyncio.sleep(YOUNG * (number % 7) / 2)
        except TimeoutError:
            return False
        return True

    ended = await asyncio.gather(*map(one, range(2000)))
    for number, in_time in enumerate(ended):
        if number % 7 == 0:
            assert in_time or number % 5 == 0
        elif number % 5 == 0:
            assert not in_time


def test_a_loop_after_another() -> None:
    async def bounded() -> None:
        with pytest.raises(TimeoutError), Deadline(now() + 2 * YOUNG):
            await asyncio.sleep(10)

    async def left_open() -> None:
        Deadline(now() + 60).__enter__()  # whose loop ends before it is due

    for _ in range(3):
        asyncio.run(left_open())
        asyncio.run(bounded())
