"""One admitted call's hold, from admission to its final ledger row: a scope, never a call.

    async with Reservation(...) as reservation:
        …                                   attempts note themselves here
        await reservation.open()            before the first byte of a stream leaves
        await reservation.settle(…)         before the last byte of any answer leaves

Whatever way the scope is left once an attempt was made, exactly one final row is committed
for the request id.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from lib.clock import Clock
from lib.problems import Problem
from providers.call import Usage, Verdict
from usage.ledger import Final, Ledger, Opened
from usage.record import AttemptRecord, Record

HUNG_UP = 499  # the client left; nginx's number, as no standard has one


class HungUp(Exception):
    """The client left before its answer was whole."""


@dataclass(slots=True)
class Reservation:
    """`record` is filled in on the way; `settle` commits it."""

    ledger: Ledger
    clock: Clock
    record: Record
    started: float
    attempts: list[AttemptRecord] = field(default_factory=list)
    settled: bool = False
    _opened: bool = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.settled or not self.attempts:
            return  # nothing was asked of any provider: there is nothing to account for
        if isinstance(error, Problem):
            await self.settle(status=error.status, code=error.code)
        elif isinstance(error, asyncio.CancelledError):
            # Nobody hung up (that is HungUp by now): the server ends, its patience over.
            self.record.estimate = self.record.estimate and "cut"
            await self.settle(status=503, code="shutting_down")
        elif isinstance(error, HungUp):
            await self.settle(status=HUNG_UP, code="hung_up")
        else:
            await self.settle(status=500, code="internal_error")

    async def open(self, estimate: Usage, charge: int, *, expires_in: float) -> None:
        """Commit what to bill if this process dies before the stream's end."""
        _use(self.record, estimate)
        self.record.charge = self.record.cost = charge
        self.record.attempts = len(self.attempts)
        self._opened = True  # the row may get there although we are called off while we wait
        await self.ledger.commit(Opened(self.record, self.clock.now() + expires_in))

    def use(self, usage: Usage, *, charge: int, estimate: str = "") -> None:
        """What the call used and what it costs (µUSD); committed with `settle`."""
        _use(self.record, usage)
        self.record.charge = self.record.cost = charge
        self.record.estimate = estimate

    async def settle(self, *, status: int | None = None, code: str | None = None) -> None:
        """Commit the final row. Raises Unavailable (store_unavailable)."""
        record = self.record
        if status is not None:
            record.status = status
        if code is not None:
            record.code = code
        record.attempts = len(self.attempts)
        record.latency_ms = round((self.clock.monotonic() - self.started) * 1000)
        self.settled = True
        told = len(self.attempts) == 1 and self.attempts[0].verdict == Verdict.OK
        attempts = () if told else self.attempts
        await self.ledger.commit(Final(record, attempts, self._opened))


def _use(record: Record, usage: Usage) -> None:
    record.input_tokens = usage.input_tokens
    record.output_tokens = usage.output_tokens
    record.cached_tokens = usage.cached_tokens
    record.reasoning_tokens = usage.reasoning_tokens
    record.units = usage.units
