"""Hedging: when the first target of a read is unusually slow, the next is asked as well, and
whoever answers first is heard ("The Tail at Scale", Dean and Barroso).

Only for routes that opted in, and for data operations, which may be asked twice. Slow is what
takes longer than the target's own 95th percentile; of 100 calls at most 5 are hedged.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

ANSWERS = 200  # of which the percentile is, the latest
LEAST = 20  # answers before which nothing is known
PER_MILLE = 950  # the percentile
PERCENT = 5  # hedges for 100 calls
SAVED = 20  # hedges that may be saved up for worse times
MAX_TARGETS = 10_000
HEDGED_AWAY = "hedged_away"  # how the slower attempt ends

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Latencies:
    """How long the latest answers took, in seconds."""

    __slots__ = ("_latest", "_sorted")

    def __init__(self) -> None:
        self._latest: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        if len(self._latest) == ANSWERS:
            del self._sorted[bisect_left(self._sorted, self._latest.popleft())]
        self._latest.append(seconds)
        insort(self._sorted, seconds)

    def percentile(self) -> float | None:
        """What no more than 5 % of them exceed; None while there are too few to say."""
        count = len(self._sorted)
        if count < LEAST:
            return None
        return self._sorted[(count * PER_MILLE - 1) // 1000]


class Budget:
    """Never more than PERCENT hedges for 100 calls, counted from the first; and never more than
    SAVED at once."""

    __slots__ = ("_hundredths",)

    def __init__(self) -> None:
        self._hundredths = 0

    def earn(self) -> None:
        """One call more."""
        self._hundredths = min(self._hundredths + PERCENT, SAVED * 100)

    def take(self) -> bool:
        if self._hundredths < 100:
            return False
        self._hundredths -= 100
        return True

    def give_back(self) -> None:
        self._hundredths += 100


class Runner(Protocol[T_co]):
    """An attempt that is ready to be made."""

    def begin(self) -> Coroutine[Any, Any, T_co]:
        """Ask, and wait for the answer."""
        ...

    def lose(self) -> None:
        """Another one has answered; this one is cancelled next."""
        ...

    def close(self) -> None:
        """Let go of everything, begun or not, answered or not."""
        ...


R = TypeVar("R", bound=Runner[Any])


class Race(Generic[R, T]):
    """One call's attempts, of which the first to answer wins."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[T], R] = {}
        self._winner: asyncio.Task[T] | None = None

    async def run(
        self, first: R, another: Callable[[], Awaitable[R | None]], delay: float
    ) -> tuple[R, T]:
        """Who answered, and what. `another` is asked for a second runner when the first has not
        ended within `delay` seconds. Raises what the first raises if nobody answers. By the
        time it returns or raises, whatever makes it, no other one runs or holds anything."""
        try:
            self._start(first)
            done, _ = await asyncio.wait(self._tasks, timeout=delay)
            if not done and (second := await another()) is not None:
                self._start(second)
            self._winner = await self._first_to_answer()
        finally:
            await self._end()
        if self._winner is None:
            return first, next(iter(self._tasks)).result()
        return self._tasks[self._winner], self._winner.result()

    async def run_all(self, runners: Iterable[R]) -> tuple[R, T] | None:
        """All of them at once: who answered first, and what; None where nobody did. What is
        said of the others' end is true here too."""
        try:
            for runner in runners:
                self._start(runner)
            self._winner = await self._first_to_answer()
        finally:
            await self._end()
        if self._winner is None:
            return None
        return self._tasks[self._winner], self._winner.result()

    def _start(self, runner: R) -> None:
        self._tasks[asyncio.create_task(runner.begin())] = runner

    async def _first_to_answer(self) -> asyncio.Task[T] | None:
        waiting: set[asyncio.Task[Any]] = set(self._tasks)
        while waiting:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task.done() and not task.cancelled() and task.exception() is None:
                    return task
        return None

    async def _end(self) -> None:
        losers = [task for task in self._tasks if task is not self._winner]
        for task in losers:
            if self._winner is not None:
                self._tasks[task].lose()
            task.cancel()
        try:
            if losers:
                await asyncio.wait(losers)
        except BaseException:
            self._winner = None  # called off in this moment: its answer is for nobody
            raise
        finally:
            for task, runner in self._tasks.items():
                if task is not self._winner:  # who never came to run has let go of nothing
                    runner.close()


class Watched:
    """A target that is asked first on a hedged route."""

    __slots__ = ("budget", "latencies")

    def __init__(self) -> None:
        self.latencies = Latencies()
        self.budget = Budget()

    async def race(self, first: R, another: Callable[[], Awaitable[R | None]]) -> tuple[R, Any]:
        """Who answered, and what: `first`, which is an attempt at this target, or when that is
        slow perhaps `another`. Raises what the first raises if nobody answers."""
        self.budget.earn()
        delay = self.latencies.percentile()
        if delay is None:
            return first, await first.begin()
        return await Race[R, Any]().run(first, partial(self._afford, another), delay)

    async def _afford(self, another: Callable[[], Awaitable[R | None]]) -> R | None:
        if not self.budget.take():
            return None
        found = None
        try:
            found = await another()
        finally:
            if found is None:
                self.budget.give_back()
        return found


class Hedging:
    """All that are watched, by their names; those heard of last stay."""

    def __init__(self) -> None:
        self._watched: OrderedDict[str, Watched] = OrderedDict()

    def of(self, name: str) -> Watched:
        watched = self._watched.get(name)
        if watched is not None:
            self._watched.move_to_end(name)
            return watched
        while len(self._watched) >= MAX_TARGETS:
            self._watched.popitem(last=False)
        watched = self._watched[name] = Watched()
        return watched
