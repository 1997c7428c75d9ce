"""Event loops for tests: a coroutine as a test, and an eye on what blocks its loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")
PACE = 0.005


def on_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an `async def` test to its end on a loop of its own, within half a minute."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(30):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for what has no event of its own; the test's own time bounds it."""
    while not condition():
        await asyncio.sleep(0.001)


class Ticker:
    """`longest` is for how long anything held the loop up, in seconds: its longest gap between
    two turns, less what a busy machine kept a plain thread waiting for meanwhile."""

    def __init__(self) -> None:
        self.ticks = 0
        self._gap = 0.0
        self._lateness = 0.0
        self._done = threading.Event()

    @property
    def longest(self) -> float:
        return max(0.0, self._gap - self._lateness)

    async def tick(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(PACE)
            now = time.perf_counter()
            self._gap, last = max(self._gap, now - last), now
            self.ticks += 1

    def compare(self) -> None:
        last = time.perf_counter()
        while not self._done.wait(PACE):
            now = time.perf_counter()
            self._lateness, last = max(self._lateness, now - last - PACE), now

    def stop(self) -> None:
        self._done.set()


@contextlib.asynccontextmanager
async def ticking() -> AsyncIterator[Ticker]:
    """Measures, while the scope is open, for how long anything held the loop up."""
    ticker = Ticker()
    thread = threading.Thread(target=ticker.compare)
    thread.start()
    task = asyncio.create_task(ticker.tick())
    try:
        yield ticker
        await asyncio.sleep(2 * PACE)  # what blocked last must be seen too
    finally:
        task.cancel()
        ticker.stop()
        thread.join()
