"""Time, injected: logic asks a Clock, never the operating system, so that tests can move it."""

from __future__ import annotations

import datetime as dt
import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Unix time in seconds: for what people read and what survives a restart."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back: for spans, deadlines and limits."""
        ...


class SystemClock:
    """The machine's own clocks."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


def utc(seconds: float) -> dt.datetime:
    """Unix seconds as an aware UTC datetime."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def rfc3339(moment: dt.datetime) -> str:
    """RFC 3339 in UTC with a `Z`, to the second or, where there are any, microseconds."""
    return moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
