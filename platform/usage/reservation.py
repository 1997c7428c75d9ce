"""One admitted call's hold, from admission to its final ledger row: a scope, never a call.

    async with Reservation(...) as reservation:
        …                                   attempts note themselves here
        await reservation.open()            before the first byte of a stream leaves
        await reservation.settle(…)         before the last byte of any answer leaves

Whatever way the scope is left once an attempt was made, exactly one final row is committed
for the request id; and whatever was granted by the counters is settled with what that row says.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

from lib.clock import Clock
from lib.money import marked_up
from lib.problems import DeadlineExceeded, Problem, Unavailable
from providers.call import Usage, Verdict
from usage.admission import Grant
from usage.counters.claims import NOTHING, Amounts
from usage.ledger import Final, Ledger, Opened
from usage.record import AttemptRecord, Record

ROW_SECONDS = 0.04  # for which a call that met its deadline still waits for its row
HUNG_UP = 499  # the client left; nginx's number, as no standard has one


class HungUp(Exception):
    """The client left before its answer was whole."""


@dataclass(slots=True)
class Reservation:
    """`record` is filled in on the way; `settle` commits it. `deadline` is the loop's time by
    which the call must have ended, whether the ledger can be written or not."""

    ledger: Ledger
    clock: Clock
    record: Record
    started: float
    grant: Grant
    attempts: list[AttemptRecord] = field(default_factory=list)
    settled: bool = False
    deadline: float = math.inf
    _opened: bool = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.settled:
            return
        if not self.attempts:
            self.grant.settle(NOTHING, ())  # nothing was asked of any provider
        elif isinstance(error, DeadlineExceeded):
            with contextlib.suppress(Unavailable):  # its time is over: that is what it hears
                await self.settle(status=error.status, code=error.code)
        elif isinstance(error, Problem):
            await self.settle(status=error.status, code=error.code)
        elif isinstance(error, asyncio.CancelledError):
            # Nobody hung up (that is HungUp by now): the server ends, its patience over.
            self.record.estimate = self.record.estimate and "cut"
            await self.settle(status=503, code="shutting_down")
        elif isinstance(error, HungUp):
            await self.settle(status=HUNG_UP, code="hung_up")
        else:
            await self.settle(status=500, code="internal_error")

    async def open(self, estimate: Usage, cost: int, *, expires_in: float) -> None:
        """Commit what to bill if this process dies before the stream's end."""
        _use(self.record, estimate)
        _rate(self.record, cost)
        self.record.attempts = len(self.attempts)
        self._opened = True  # the row may get there although we are called off while we wait
        expires_at = self.clock.now() + expires_in
        entry = Opened(self.record, expires_at, self.grant.process)
        await self.ledger.commit(entry, until=self._until)

    def use(self, usage: Usage, *, cost: int, estimate: str = "") -> None:
        """What the call used and what it costs (µUSD); committed with `settle`."""
        _use(self.record, usage)
        _rate(self.record, cost)
        self.record.estimate = estimate

    def use_kept(self, provider: str, model: str, *, how: str, price: int) -> None:
        """The cache answers (`how`: hit or stale), for which nobody takes anything of us, and the
        tenant pays `price` (µUSD); committed with `settle`."""
        record = self.record
        record.provider, record.model, record.cache = provider, model, how
        _use(record, Usage())
        record.cost, record.charge, record.price_id, record.estimate = 0, price, None, ""

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
        self._note_what_the_last_took()
        told = len(self.attempts) == 1 and self.attempts[0].verdict == Verdict.OK
        attempts = () if told else self.attempts
        final = Final(record, attempts, self._opened)
        try:
            await self.ledger.commit(final, until=self._until)
        except BaseException:
            # The row may be there all the same, or be still to come.
            self.grant.settle_by_ledger(partial(self.ledger.is_writing, final))
            raise
        if self.grant.settles:
            self.grant.settle(amounts_of(record), list(map(_tried, self.attempts)))

    @property
    def _until(self) -> float:
        return max(self.deadline, asyncio.get_running_loop().time() + ROW_SECONDS)

    def _note_what_the_last_took(self) -> None:
        """Of all attempts only the last can have answered, and so used anything we know of; those
        that were asked together say what they took themselves."""
        last = self.attempts[-1] if self.attempts else None
        if last is not None and last.verdict == Verdict.OK and not last.units:
            last.tokens = self.record.input_tokens + self.record.output_tokens
            last.units, last.cost = self.record.units, self.record.cost


def amounts_of(record: Record) -> Amounts:
    """What a final row counts for in the caller's quotas."""
    return Amounts(
        1, record.input_tokens + record.output_tokens, record.charge, record.units, record.bytes
    )


def _tried(attempt: AttemptRecord) -> Amounts:
    """What one try counts for in its provider's quotas."""
    if attempt.verdict.startswith("skipped_"):
        return NOTHING
    return Amounts(1, attempt.tokens, attempt.cost, attempt.units)


def _rate(record: Record, cost: int) -> None:
    """The tenant pays the cost with the plan's markup on top."""
    record.cost = cost
    record.charge = marked_up(cost, record.markup)


def _use(record: Record, usage: Usage) -> None:
    record.input_tokens = usage.input_tokens
    record.output_tokens = usage.output_tokens
    record.cached_tokens = usage.cached_tokens
    record.cache_write_tokens = usage.cache_write_tokens
    record.reasoning_tokens = usage.reasoning_tokens
    record.units = usage.units or 1  # an answer is one unit where nothing else is said
