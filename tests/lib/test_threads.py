from __future__ import annotations

import asyncio
import threading

import pytest
from django import db

from lib.threads import LookUps, StoreAway
from tests.loops import eventually, on_loop, ticking


@on_loop
async def test_a_blocking_look_up_does_not_block_the_loop() -> None:
    look_ups, gate = LookUps(), threading.Event()
    async with ticking() as ticker:
        waiting = asyncio.create_task(look_ups.run(gate.wait, 5.0))
        await eventually(lambda: ticker.ticks > 20)
        assert not waiting.done()
        gate.set()
        assert await waiting is True
    assert ticker.longest < 0.1
    look_ups.close()


@on_loop
async def test_never_more_threads_than_said() -> None:
    look_ups = LookUps(threads=3)
    names = await asyncio.gather(
        *(look_ups.run(lambda: threading.current_thread().name) for _ in range(50))
    )
    assert len(set(names)) <= 3
    assert all(name.startswith("look-up") for name in names)
    look_ups.close()


@on_loop
async def test_a_database_that_is_away_is_told_without_its_words() -> None:
    def away() -> None:
        raise db.OperationalError("could not connect to 10.1.2.3 as patchbay with pw-canary")

    look_ups = LookUps()
    with pytest.raises(StoreAway) as told:
        await look_ups.run(away)
    assert str(told.value) == "OperationalError"
    assert told.value.__suppress_context__
    assert await look_ups.run(lambda: 1) == 1
    look_ups.close()


@on_loop
async def test_other_errors_are_not_the_databases() -> None:
    look_ups = LookUps()
    with pytest.raises(ZeroDivisionError):
        await look_ups.run(lambda: 1 // 0)
    look_ups.close()


@on_loop
async def test_giving_up_on_a_look_up_spoils_no_later_one() -> None:
    look_ups, gate = LookUps(threads=1), threading.Event()
    first = asyncio.create_task(look_ups.run(gate.wait, 5.0))
    second = asyncio.create_task(look_ups.run(lambda: "second"))
    await asyncio.sleep(0.01)
    first.cancel()
    second.cancel()
    gate.set()
    assert await look_ups.run(lambda: "third") == "third"
    assert first.cancelled() and second.cancelled()
    look_ups.close()
