"""What a breaker's decision and a merge of policies cost here and now, on the machine that asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from lib.clock import SystemClock
from providers.breaker import Breaker, Result
from providers.resilience import Layer, merge

MOST_SECONDS = 0.03  # for each figure, however slow the machine is


class Timing(NamedTuple):
    """µs of CPU for one, over so many."""

    microseconds: float
    iterations: int


def breaker_decision() -> Timing:
    """Leave for a call and its good end, at one CLOSED breaker; a call has two."""
    breaker = Breaker(SystemClock())

    def decide() -> None:
        permit = breaker.permit()
        if permit is not None:
            breaker.end(permit, Result.SUCCESS, 0.001)

    return _timed(decide, 5_000)


def policy_merge(layers: list[Layer]) -> Timing:
    """Done when a snapshot is loaded, for each provider; never for a call."""
    return _timed(lambda: merge(layers), 200)


def _timed(work: Callable[[], object], most: int) -> Timing:
    """In this thread's own CPU time: what else the machine does meanwhile is not its cost."""
    until, begun = time.perf_counter() + MOST_SECONDS, time.thread_time()
    done = 0
    while done < most and time.perf_counter() < until:
        for _ in range(20):
            work()
        done += 20
    used = time.thread_time() - begun
    return Timing(round(used / done * 1e6, 3), done)
