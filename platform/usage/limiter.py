"""Rate limits in this process: never more than `limit` calls in *any* span of `per_seconds`.

A span is cut into SLICES; a call is admitted when the slices that the span can touch hold
less than the limit. That counts at most one slice too many, so the bound is never passed and
64 of 65 parts of it are usable, in memory that does not grow with the traffic.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from lib.clock import Clock, SystemClock
from tenants.limits import RateLimit

SLICES = 64
SWEEP_SECONDS = 30.0


class LimitState(NamedTuple):
    """One limit after a decision: `reset` is the whole seconds until the next place is free
    (when refused) or until the allowance is whole again."""

    limit: RateLimit
    remaining: int
    reset: int


class Decision(NamedTuple):
    """All limits of a call, and the one that refused it, if any."""

    states: tuple[LimitState, ...]
    refused: LimitState | None = None


class Window:
    """One subject's count under one limit: (slice, calls) pairs, oldest first."""

    __slots__ = ("_counts", "_total", "_width", "limit", "per_seconds")

    def __init__(self, limit: int, per_seconds: int) -> None:
        self.limit = limit
        self.per_seconds = per_seconds
        self._width = per_seconds / SLICES
        self._counts: deque[list[int]] = deque()
        self._total = 0

    @property
    def left(self) -> int:
        """Places free as of the last look at the clock."""
        return self.limit - self._total

    def remaining(self, now: float) -> int:
        self._forget(now)
        return self.limit - self._total

    def add(self, now: float) -> None:
        current = math.floor(now / self._width)
        if self._counts and self._counts[-1][0] >= current:
            self._counts[-1][1] += 1
        else:
            self._counts.append([current, 1])
        self._total += 1

    def wait(self, now: float) -> float:
        """Seconds until one call is admitted; 0 when it would be now."""
        if self.remaining(now) > 0:
            return 0.0
        return self._leaves(self._counts[0][0]) - now

    def whole(self, now: float) -> float:
        """Seconds until the allowance is whole again."""
        return self._leaves(self._counts[-1][0]) - now if self._counts else 0.0

    def _leaves(self, index: int) -> float:
        return (index + SLICES + 1) * self._width

    def _forget(self, now: float) -> None:
        oldest = math.floor(now / self._width) - SLICES
        counts = self._counts
        while counts and counts[0][0] < oldest:
            self._total -= counts.popleft()[1]


class Limiter:
    """All windows of this process. Decides on all limits of a call at once, all or none."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._windows: dict[tuple[str, str], Window] = {}
        self._swept = self._clock.monotonic()

    def admit(self, limits: Sequence[tuple[RateLimit, str]]) -> Decision:
        """Count one call against each (limit, subject), or, if any is full, against none."""
        now = self._clock.monotonic()
        windows: list[tuple[RateLimit, Window]] = []
        full = False
        for limit, subject in limits:
            window = self._windows.get((subject, limit.key)) or self._window(limit, subject)
            windows.append((limit, window))
            if window.remaining(now) <= 0:
                full = True  # and go on: every window must forget what is past
        if not full:
            for _, window in windows:
                window.add(now)
        states = tuple([_state(limit, window, now) for limit, window in windows])
        if now - self._swept > SWEEP_SECONDS:
            self._sweep(now)
        return Decision(states, _longest_wait(windows, now) if full else None)

    def _window(self, limit: RateLimit, subject: str) -> Window:
        window = self._windows[subject, limit.key] = Window(limit.limit, limit.per_seconds)
        return window

    def _sweep(self, now: float) -> None:
        """Idle windows are empty ones: leaving them out changes no decision."""
        self._swept = now
        self._windows = {
            key: window
            for key, window in self._windows.items()
            if window.remaining(now) < window.limit
        }


def _state(limit: RateLimit, window: Window, now: float) -> LimitState:
    """`window` has just forgotten what is past."""
    left = window.left
    return LimitState(limit, left if left > 0 else 0, math.ceil(window.whole(now)))


def _longest_wait(windows: Sequence[tuple[RateLimit, Window]], now: float) -> LimitState | None:
    """The limit that refuses for longest, so that its Retry-After is true for all of them."""
    waits = [(window.wait(now), limit) for limit, window in windows]
    longest, limit = max(waits, key=lambda pair: pair[0], default=(0.0, None))
    if limit is None or longest <= 0:
        return None
    return LimitState(limit, 0, math.ceil(longest))
