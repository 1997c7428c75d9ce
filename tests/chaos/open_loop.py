"""Calls that come at their own pace, whether those before have been answered or not: what a
public service meets, and what makes a queue that never drains out of a little too much.

Latency is told from the moment a call was due, on whatever it had to wait.
"""

from __future__ import annotations

import asyncio
import re
import statistics
from collections import Counter, deque
from dataclasses import dataclass, field

OPENED_AT_ONCE = 50
PACE = 0.002  # seconds between two looks at what is due
PATIENCE = 30.0  # seconds for which the last answers are waited for
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Ended:
    """One call: when it was due and answered (the loop's seconds), and its status."""

    due: float
    at: float
    status: int
    head: bytes
    body: bytes

    @property
    def seconds(self) -> float:
        return self.at - self.due


@dataclass
class Load:
    """Open-loop load, on connections that are opened before and stay open: what is due while
    all of them wait for an answer waits here."""

    port: int
    request: bytes
    ended: list[Ended] = field(default_factory=list)
    broken: int = 0
    _opened: int = 0
    _idle: list[_Wire] = field(default_factory=list)
    _due: deque[float] = field(default_factory=deque)

    async def connect(self, connections: int) -> None:
        loop = asyncio.get_running_loop()
        while self._opened < connections:
            many = min(OPENED_AT_ONCE, connections - self._opened)
            made = [
                loop.create_connection(lambda: _Wire(self), "127.0.0.1", self.port)
                for _ in range(many)
            ]
            self._idle += [wire for _, wire in await asyncio.gather(*made)]
            self._opened += many

    async def offer(self, rate: float, seconds: float) -> list[Ended]:
        """`rate` calls a second for so long; what became of all of them."""
        loop = asyncio.get_running_loop()
        first, begun, sent, total = len(self.ended), loop.time(), 0, round(rate * seconds)
        while sent < total:
            while sent < total and begun + sent / rate <= loop.time():
                self._due.append(begun + sent / rate)
                sent += 1
            self._ask()
            await asyncio.sleep(PACE)
        async with asyncio.timeout(PATIENCE):
            while len(self.ended) + self.broken < first + total:
                await asyncio.sleep(PACE)
        return self.ended[first:]

    async def saturate(self, clients: int, seconds: float) -> float:
        """The calls answered a second when each of so many clients waits for its answer."""
        loop = asyncio.get_running_loop()
        first, begun = len(self.ended), loop.time()
        while (now := loop.time()) < begun + seconds:
            busy = self._opened - len(self._idle)
            self._due.extend([now] * (clients - busy - len(self._due)))
            self._ask()
            await asyncio.sleep(PACE)
        return (len(self.ended) - first) / (loop.time() - begun)

    def _ask(self) -> None:
        while self._due and self._idle:
            self._idle.pop().ask(self._due.popleft(), self.request)

    def answered(self, wire: _Wire, ended: Ended) -> None:
        self.ended.append(ended)
        if self._due:
            wire.ask(self._due.popleft(), self.request)
        else:
            self._idle.append(wire)

    def lost(self, wire: _Wire, *, asked: bool) -> None:
        self._opened -= 1
        self.broken += asked
        if wire in self._idle:
            self._idle.remove(wire)


class _Wire(asyncio.Protocol):
    """One connection, one call at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._due: float | None = None
        self._raw = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def ask(self, due: float, request: bytes) -> None:
        self._due, self._raw = due, b""
        self._transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._raw += data
        head, end, body = self._raw.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n") if end else None
        if length is None or len(body) < int(length[1]) or self._due is None:
            return
        due, self._due = self._due, None
        now = asyncio.get_running_loop().time()
        self._load.answered(self, Ended(due, now, int(head[9:12]), head, body))

    def connection_lost(self, error: Exception | None) -> None:
        self._load.lost(self, asked=self._due is not None)


def told(ended: list[Ended], seconds: float) -> str:
    """Figures for people: how many were served a second while load was offered, and how soon."""
    begun = min(each.due for each in ended)
    good = [each for each in ended if each.status == 200]
    in_time = sum(each.at < begun + seconds for each in good)
    waits = statistics.quantiles([each.seconds for each in good], n=100)
    statuses = dict(sorted(Counter(each.status for each in ended).items()))
    return (
        f"served {in_time / seconds:.0f}/s of {len(ended) / seconds:.0f}/s, "
        f"p50 {waits[49] * 1000:.0f} ms, p99 {waits[98] * 1000:.0f} ms, {statuses}"
    )
