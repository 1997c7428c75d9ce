"""Time that a test moves by hand."""

from __future__ import annotations


class ManualClock:
    """Stands still until `advance`. Unix time and monotonic time start apart, so that code
    which takes one for the other is found out."""

    def __init__(self, monotonic: float = 1000.0, now: float = 1_800_000_000.0) -> None:
        self._monotonic = monotonic
        self._now = now

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._monotonic += seconds
        self._now += seconds
