"""Calls that were refused before anything was tried, and so have no row in the ledger: counted by
the hour, for their tenant to see why.

They are gathered in memory and written every few seconds. What a crash takes with it is missing:
nobody is billed by these.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import structlog
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils import timezone

from lib.clock import Clock, SystemClock
from lib.stores import StoreAway
from lib.threads import LookUps
from usage.refusal_models import Refusal
from usage.sums import HOUR, stored

SECONDS: Final = 5.0
MOST: Final = 1000  # kinds that one worker holds until they are written
KEPT: Final = dt.timedelta(days=30)

log = structlog.get_logger("patchbay.refusals")
_ADD: Final = (
    "INSERT INTO usage_refusal (starts, tenant_id, key_id, mode, operation, code, limit_name,"
    " calls, last_at, last_request_id) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
    " ON CONFLICT (tenant_id, starts, key_id, mode, operation, code, limit_name)"
    " DO UPDATE SET calls = usage_refusal.calls + excluded.calls,"
    " last_at = excluded.last_at, last_request_id = excluded.last_request_id"
)


class Kind(NamedTuple):
    """Refusals that are counted together. A key's id of 0 is none; `limit_name` names the limit
    or the quota that was full."""

    tenant_id: int
    key_id: int
    mode: str
    operation: str
    code: str
    limit_name: str


class Count(NamedTuple):
    """How many there were, and the last one: unix seconds, and its request id."""

    calls: int
    at: float
    request_id: str


Counts = dict[tuple[int, Kind], Count]


@dataclass(slots=True)
class Refusals:
    """One worker's."""

    clock: Clock = field(default_factory=SystemClock)
    _counts: Counts = field(default_factory=dict)
    _look_ups: LookUps = field(default_factory=lambda: LookUps(threads=1))

    def note(self, kind: Kind, request_id: str) -> None:
        now = self.clock.now()
        self._add((int(now // HOUR) * HOUR, kind), Count(1, now, request_id))

    async def keep_writing(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(SECONDS)
            await self.write()

    async def write(self) -> None:
        """What cannot be written now waits for the next time."""
        counts, self._counts = self._counts, {}
        if not counts:
            return
        try:
            await self._look_ups.run(add, counts)
        except StoreAway:
            log.warning("refusals_wait", kinds=len(counts))
            for key, count in counts.items():
                self._add(key, count)

    def close(self) -> None:
        self._look_ups.close()

    def _add(self, key: tuple[int, Kind], count: Count) -> None:
        former = self._counts.get(key)
        if former is not None:
            last = count if count.at >= former.at else former
            self._counts[key] = last._replace(calls=former.calls + count.calls)
        elif len(self._counts) < MOST:
            self._counts[key] = count


def add(counts: Counts, *, using: str = DEFAULT_DB_ALIAS) -> None:
    """To what is there already; in one order, so that two workers never wait for each other in a
    circle."""
    rows = [
        (stored(starts, using), *kind, count.calls, stored(count.at, using), count.request_id)
        for (starts, kind), count in sorted(counts.items())
    ]
    with connections[using].cursor() as cursor:
        cursor.executemany(_ADD, rows)


def expire() -> int:
    """Forget the oldest; how many rows."""
    return Refusal.objects.filter(starts__lt=timezone.now() - KEPT).delete()[0]
