"""Event loops for tests: a coroutine as a test, and an eye on what blocks its loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")


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
    while not condition():  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.001)


class Ticker:
    """The longest gap between two turns of the loop, in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.ticks = 0


@contextlib.asynccontextmanager
async def ticking() -> AsyncIterator[Ticker]:
    """Measures, while the scope is open, for how long anything held the loop up."""
    ticker = Ticker()

    async def tick() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            ticker.longest, last = max(ticker.longest, now - last), now
            ticker.ticks += 1

    task = asyncio.create_task(tick())
    try:
        yield ticker
    finally:
        await asyncio.sleep(0.01)
        task.cancel()
