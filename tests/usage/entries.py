"""Ledger entries for tests."""

from __future__ import annotations

import datetime as dt
from itertools import count
from typing import Any

from lib.clock import SystemClock
from lib.ids import uuid7
from tests.usage.counters.stage import Book
from usage.admission import Admissions, Grant
from usage.counters.claims import Amounts, Hold, Part
from usage.counters.memory import MemoryCounters
from usage.ledger import Final, Opened
from usage.record import AttemptRecord, Record

NOON = dt.datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=dt.UTC)
_numbers = count(1)


def record(**values: Any) -> Record:
    number = next(_numbers)
    plain = {
        "request_id": uuid7(),
        "created_at": NOON + dt.timedelta(seconds=number),
        "tenant_id": 7,
        "project_id": 8,
        "key_id": 9,
        "user_id": None,
        "mode": "live",
        "operation": "chat.completions",
        "route": "fast",
        "status": 200,
        "code": "ok",
    }
    return Record(**plain | values)


def attempt(request_id: str, number: int, **values: Any) -> AttemptRecord:
    plain = {
        "created_at": NOON,
        "provider": "lab",
        "model": "gpt-x",
        "verdict": "ok",
        "status": 200,
        "latency_ms": 12,
    }
    return AttemptRecord(request_id, number, **plain | values)


def final(*, attempts: int = 0, was_open: bool = False, **values: Any) -> Final:
    row = record(**values)
    notes = [attempt(row.request_id, number + 1) for number in range(attempts)]
    return Final(row, notes, was_open)


def opened(*, expires_at: float = 1_900_000_000.25, **values: Any) -> Opened:
    return Opened(record(**values), expires_at)


def granted() -> Grant:
    """What a call is granted that nothing counts."""
    admissions = Admissions(MemoryCounters(), Book(), SystemClock())
    return Grant(admissions, Hold(uuid7(), [Part((), Amounts(requests=1))]))
