"""Waiting for what another process is about to do, no longer than it has."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(check: Callable[[], T], seconds: float = 5.0, *, every: float = 0.02) -> T:
    """`check()`'s first true value. Fails when `seconds` pass without one."""
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(every)
    return value
