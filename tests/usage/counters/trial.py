"""Counters of one kind on a clock that the test moves, asked without an event loop in sight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.services.valkey import Valkey
from tests.usage.counters.stage import Book, OneClock, memory, shared
from usage.counters.claims import Admission, Amounts, Claim, Hold, Part, QuotaClaim, Used
from usage.counters.memory import MemoryCounters
from usage.counters.shared import SharedCounters


class Trial:
    """New counters in which nothing was counted yet, and the ledger that they settle by."""

    def __init__(
        self, runner: asyncio.Runner, valkey: Valkey | None, clock: OneClock | int | None = None
    ) -> None:
        self.clock = clock if isinstance(clock, OneClock) else OneClock(*filter(None, [clock]))
        self.book = Book()
        self.valkey = valkey
        self._run = runner.run
        self._number = 0
        if valkey is not None:
            with valkey.client() as client:
                client.flushall()
        self.counters = self._counters()

    def admit(self, *claims: Claim, settled: Amounts | None = None, **amounts: int) -> Admission:
        """One call's decision; what is missing is filled from the ledger. `settled`: the call
        ends at once, and used so much."""
        hold = self.begin(*claims, **amounts)
        if settled is not None and self.last.granted:
            self.end(hold, settled)
        return self.last

    def begin(self, *claims: Claim, **amounts: int) -> Hold:
        """As `admit`, of a call that goes on; the decision is `last`."""
        self._number += 1
        hold = Hold(f"h{self._number}")
        part = Part(claims, Amounts(**{"requests": 1, **amounts}))
        self.last = self._run(self._admit(hold, part))
        return hold

    def end(self, hold: Hold, used: Amounts) -> None:
        self._run(self._end(hold, used))

    def read(self, claim: QuotaClaim) -> Used | None:
        (used,) = self._run(self.counters.read([claim]))
        return used

    def close(self) -> None:
        self._run(self.counters.close())

    async def _end(self, hold: Hold, used: Amounts) -> None:
        self.book.write(hold.id, hold.parts, [used])
        self.counters.settle(hold, [used])

    async def _admit(self, hold: Hold, part: Part) -> Admission:
        for _ in range(20):
            admission: Admission = await self.counters.admit(hold, part)
            if not admission.missing:
                return admission
            for claim in admission.missing:
                number, holders = await self.counters.begin_filling(claim)
                used, final = await self.book.sum(claim, holders)
                await self.counters.fill(claim, number, used, final)
        raise AssertionError("never filled")

    def _counters(self) -> MemoryCounters | SharedCounters:
        if self.valkey is None:
            return memory(self.clock)
        counters = shared(self.valkey.url, self.book, clock=self.clock)
        self._run(_started(counters))
        return counters


async def _started(counters: SharedCounters) -> None:
    await counters.start()
    async with asyncio.timeout(30):
        while not counters.ready:
            await asyncio.sleep(0.01)


NewTrial = Callable[..., Trial]
