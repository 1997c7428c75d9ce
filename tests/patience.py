"""Waiting for what another process is about to do, no longer than it has."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
ROUNDS = 3


def eventually(check: Callable[[], T], seconds: float = 5.0, *, every: float = 0.02) -> T:
    """`check()`'s first true value. Fails when `seconds` pass without one."""
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(every)
    return value


def seconds_until(check: Callable[[], object], seconds: float = 15.0) -> float:
    """How long it took until it was so. Fails when `seconds` pass before."""
    begun = time.monotonic()
    eventually(check, seconds)
    return time.monotonic() - begun


def promised(once: Callable[[], float], *, within: float = 1.0) -> None:
    """That it takes no longer (seconds): `once` has it happen and says how long it took. A machine
    that is busy with something else may spoil a measurement; a promise that is broken is broken
    each time."""
    took: list[float] = []
    while not took or took[-1] > within:
        assert len(took) < ROUNDS, f"took {took} s, not {within} s"
        took.append(once())
