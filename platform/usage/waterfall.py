"""When a call's attempts ran, to be drawn."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from usage.models import Attempt, UsageRecord

WHOLE = 100.0


@dataclass(frozen=True, slots=True)
class Bar:
    """An attempt, and when it ran, in per cent of the whole call."""

    attempt: Attempt
    starts: float
    width: float


def bars(record: UsageRecord) -> list[Bar]:
    """Of every attempt, in order. A clock that jumped leaves no bar outside the picture."""
    whole = max(1, record.latency_ms)
    drawn = []
    for attempt in record.tries():
        after = (attempt.created_at - record.created_at) / dt.timedelta(milliseconds=1)
        starts = min(WHOLE - 1, max(0.0, WHOLE * after / whole))
        width = min(WHOLE - starts, max(1.0, WHOLE * attempt.latency_ms / whole))
        drawn.append(Bar(attempt, round(starts, 2), round(width, 2)))
    return drawn
