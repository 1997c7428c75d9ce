"""The ledger's writer: rows become durable in group commits, before the answer's last byte.

A call hands in its entry and waits; all entries that came meanwhile share one transaction.
A request id has one final row for ever: a second one is silently the first (unique key).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from lib.problems import Unavailable
from usage.record import AttemptRecord, Record

log = structlog.get_logger("patchbay.ledger")

MAX_BATCH = 512
# A commit waits for company as long as each turn of the loop brings some: until there are
# FULL_BATCH, or for COMPANY_SECONDS.
FULL_BATCH = 32
COMPANY_SECONDS = 0.004
PATIENCE = 5.0  # seconds the writer keeps trying before it tells the waiting calls
LATE_SECONDS = 1.0  # between two tries to write what nobody waits for any longer
MOST_LATE = 10_000
LOOK_SECONDS = 0.025  # while it tries: how often it looks whose call may wait no longer


@dataclass(slots=True)
class Opened:
    """A streamed call whose first byte is about to leave. `record` is what to write if this
    process dies before the end; `expires_at` (unix seconds) is when that is certain, and
    `gateway` names the process, which may be known to be dead before."""

    record: Record
    expires_at: float
    gateway: str = ""


@dataclass(slots=True)
class Final:
    """A call's last word; closes its open row if it had one. `attempts` is empty where the
    record tells all there is to tell: one attempt, which answered."""

    record: Record
    attempts: Sequence[AttemptRecord] = ()
    was_open: bool = False


Entry = Opened | Final


class StoreLost(Exception):
    """The database cannot be reached, or refuses to write, for now."""


class Journal(Protocol):
    """Writes entries in one transaction, all or none, in a database of one kind."""

    def write_at_once(self, entries: Sequence[Entry]) -> bool:
        """Write without waiting, or say that it would have to wait (False). Raises StoreLost."""
        ...

    async def write(self, entries: Sequence[Entry]) -> None:
        """Raises StoreLost."""
        ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class _Waiting:
    entry: Entry
    done: asyncio.Future[None]
    until: float


@dataclass(slots=True)
class Ledger:
    """`commit` returns when the entry is durable."""

    journal: Journal
    _waiting: list[_Waiting] = field(default_factory=list)
    _batch: list[_Waiting] = field(default_factory=list)  # which the writer is at
    _flush: asyncio.Handle | None = None
    _writer: asyncio.Task[None] | None = None
    _gathered: int = 0  # of those waiting, by the last turn
    _gathers_until: float = 0.0
    _looking: asyncio.TimerHandle | None = None
    _late: list[_Waiting] = field(default_factory=list)
    _again: asyncio.TimerHandle | None = None

    async def commit(self, entry: Entry, *, until: float = math.inf) -> None:
        """Raises Unavailable (store_unavailable) when the database stays away, or is not back by
        `until` (the loop's time); then the entry may be written all the same, later."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(entry, loop.create_future(), until)
        self._waiting.append(waiting)
        if self._writer is None and self._flush is None:
            self._gather(loop)
        await waiting.done

    def is_writing(self, entry: Entry) -> bool:
        """Whether it is not written yet and may still be, whatever its call was told."""
        return any(each.entry is entry for each in (*self._batch, *self._waiting, *self._late))

    async def close(self) -> None:
        """Write what waits, then let go of the database."""
        self._catch_up()
        while self._waiting or self._writer or self._flush:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.005)
        if self._again is not None:
            self._again.cancel()
        await self.journal.close()

    def _gather(self, loop: asyncio.AbstractEventLoop) -> None:
        self._gathered, self._gathers_until = 0, loop.time() + COMPANY_SECONDS
        self._flush = loop.call_soon(self._turn)

    def _turn(self) -> None:
        """One turn later: what else was ready has joined. A turn that brought nobody says that
        all others are waiting for somebody else."""
        loop, waiting = asyncio.get_running_loop(), len(self._waiting)
        if self._gathered < waiting < FULL_BATCH and loop.time() < self._gathers_until:
            self._gathered = waiting
            self._flush = loop.call_soon(self._turn)
        else:
            self._flush_now()

    def _flush_now(self) -> None:
        self._flush = None
        loop, batch = asyncio.get_running_loop(), self._take()
        try:
            written = self.journal.write_at_once([waiting.entry for waiting in batch])
        except Exception:  # the patient writer finds out what is wrong, and with which entry
            written = False
        if not written:
            self._batch = batch
            self._writer = loop.create_task(self._write(batch))
            return
        _release(batch)
        if self._waiting:
            self._gather(loop)

    async def _write(self, batch: list[_Waiting]) -> None:
        """Write this batch and all that comes meanwhile, waiting as long as it takes."""
        self._looking = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)
        try:
            while batch:
                self._batch = batch
                await self._write_patiently(batch)
                batch = self._take()
        finally:
            self._looking.cancel()
            self._writer, self._batch = None, []

    def _look(self) -> None:
        """Who may wait no longer hears that the ledger is away; the others wait on."""
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(LOOK_SECONDS, self._look)
        now = loop.time()
        late = [each for each in (*self._batch, *self._waiting) if each.until <= now]
        _release(late, _store_unavailable())

    async def _write_patiently(self, batch: list[_Waiting]) -> None:
        is_waited_for = any(not waiting.done.done() for waiting in batch)
        try:
            async with asyncio.timeout(PATIENCE if is_waited_for else LATE_SECONDS):
                await self._until_written([waiting.entry for waiting in batch])
        except TimeoutError:
            log.error("ledger_lost", entries=len(batch))
            _release(batch, _store_unavailable())
            self._put_off(batch)
        except Exception as error:
            await self._without_the_faulty(batch, error)
        else:
            _release(batch)

    async def _until_written(self, entries: Sequence[Entry]) -> None:
        pause = 0.02
        while True:
            try:
                return await self.journal.write(entries)
            except StoreLost as lost:
                log.warning("ledger_waits", reason=str(lost), entries=len(entries))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.5)

    def _put_off(self, batch: list[_Waiting]) -> None:
        """What a stream came to is written once the database is back, though its caller heard that
        it could not be: else its open row would be billed, as if this process had died."""
        late = [each for each in batch if isinstance(each.entry, Final) and each.entry.was_open]
        self._late = [*self._late, *late][:MOST_LATE]
        if self._late and self._again is None:
            self._again = asyncio.get_running_loop().call_later(LATE_SECONDS, self._catch_up)

    def _catch_up(self) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again, late, self._late = None, self._late, []
        self._waiting += late
        if late and self._writer is None and self._flush is None:
            self._gather(asyncio.get_running_loop())

    async def _without_the_faulty(self, batch: list[_Waiting], error: Exception) -> None:
        """The database takes some entry never (a number too large …): halve until only that
        one is left out. Nobody else's row is lost for it."""
        if len(batch) == 1:
            log.error("entry_refused", request_id=_id(batch[0]), error=type(error).__name__)
            _release(batch, _store_unavailable())
            return
        middle = len(batch) // 2
        await self._write_patiently(batch[:middle])
        await self._write_patiently(batch[middle:])

    def _take(self) -> list[_Waiting]:
        batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        return batch


def _release(batch: list[_Waiting], problem: Unavailable | None = None) -> None:
    for waiting in batch:
        if waiting.done.done():
            continue
        if problem is None:
            waiting.done.set_result(None)
        else:
            waiting.done.set_exception(problem)


def _id(waiting: _Waiting) -> str:
    return waiting.entry.record.request_id


def _store_unavailable() -> Unavailable:
    return Unavailable(
        "The ledger cannot be written just now, so no call is answered. Try again shortly.",
        code="store_unavailable",
        retry_after=2,
    )
