"""One connection to Redis or Valkey: commands go out in order, and so the replies come back.

The server answers in the order it was asked, so a queue of futures says whose each reply is. A
place in the queue is kept until its reply has come, also when nobody waits for it any more
(cancelled, timed out): that is what keeps each answer with its own question. Where the order
can no longer be trusted, the connection is dropped, and with it all that waits.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from typing import Any, NamedTuple, cast

import hiredis

from lib.stores import StoreAway

MAX_REPLY = 8 << 20  # bytes
MAX_UNSENT = 1 << 20  # bytes
SILENCE = 0.25  # seconds without a byte after which a server that owes an answer is given up
LONGEST = 2.0  # seconds after which it is, whatever else came meanwhile
_INCOMPLETE = object()

Word = bytes | str | int | float


class StoreError(Exception):
    """The store answered with an error."""

    @property
    def code(self) -> str:
        """The first word: NOSCRIPT, READONLY, OOM, WRONGTYPE, MOVED …"""
        return str(self).partition(" ")[0]


class _Unsent(NamedTuple):
    data: bytes
    reply: asyncio.Future[Any]
    patience: float  # seconds from when it is written for which somebody waits


class _Asked(NamedTuple):
    reply: asyncio.Future[Any]
    written: float  # monotonic seconds, as are:
    expires: float  # when nobody waits any longer
    overdue: float  # when something must be wrong


class Link(asyncio.Protocol):
    """The connection. `timeout` is the seconds within which an answer is expected."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.lost = ""  # why, once it is
        self.suspect = False  # an answer is overdue
        self.error: StoreError | None = None  # that this server is not to be asked any more
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(replyError=StoreError, notEnoughData=_INCOMPLETE)
        self._asked: deque[_Asked] = deque()
        self._unsent: list[_Unsent] = []
        self._unsent_bytes = 0
        self._partial_bytes = 0  # of a reply that is not there as a whole
        self._full = False
        self._received = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._watch_due = 0.0
        self._looked = 0.0

    def send(self, command: tuple[Word, ...], *, patience: float = math.inf) -> asyncio.Future[Any]:
        """The reply to come, which fails with StoreAway `patience` seconds after it was asked
        for: that is when the command is written, and however long this process was held up
        before, the server is not late. Raises StoreAway when the connection is gone or its
        buffer full."""
        if self._transport is None or self.lost:
            raise StoreAway("not connected")
        if self._full:
            raise StoreAway("does not read what it is sent")
        data = hiredis.pack_command(command)  # type: ignore[arg-type]
        reply = self._loop.create_future()
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(_Unsent(data, reply, patience))
        self._unsent_bytes += len(data)
        if self._unsent_bytes > MAX_UNSENT:
            self._flush()
        return reply

    def drop(self, reason: str) -> None:
        """End the connection now; all that waits gets StoreAway."""
        if self.lost:
            return
        self.lost = reason
        self._end.set()
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            self._transport.abort()
        waiting = [one.reply for one in self._asked] + [one.reply for one in self._unsent]
        for reply in waiting:
            _fail(reply, StoreAway(reason))
        self._unsent.clear()
        self._asked.clear()

    async def end(self) -> str:
        """Wait until it is lost; why."""
        await self._end.wait()
        return self.lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=MAX_UNSENT)
        if self.lost:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.drop("connection lost")

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False

    def data_received(self, data: bytes) -> None:
        if self.lost:
            return
        self._received = time.monotonic()
        self._partial_bytes += len(data)
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _INCOMPLETE:
                self._partial_bytes = self._reader.len()
                self._answer(reply)
        except Exception:
            self.drop("answers are not in the store's protocol")
            return
        if self._partial_bytes > MAX_REPLY:
            self.drop("an answer is too long")
        elif self.suspect:
            self.suspect = bool(self._asked) and self._asked[0].overdue <= self._received

    def _answer(self, reply: Any) -> None:
        future = self._asked.popleft().reply  # an answer that nobody asked for: IndexError
        if not isinstance(reply, StoreError):
            if not future.done():
                future.set_result(reply)
            return
        _fail(future, reply)
        if reply.code in ("READONLY", "MOVED"):
            self.error = reply
            self.drop(reply.code)

    def _flush(self) -> None:
        if not self._unsent or self._transport is None:
            return
        unsent, self._unsent, self._unsent_bytes = self._unsent, [], 0
        now, due = time.monotonic(), math.inf
        for _, reply, patience in unsent:
            slow = self.timeout
            if slow < patience < math.inf:
                slow = patience  # the caller knows that it takes long
            due = min(due, patience, slow)
            self._asked.append(_Asked(reply, now, now + patience, now + slow))
        self._transport.write(b"".join([each.data for each in unsent]))
        if self._watch is None or now + due < self._watch_due:
            self._watch_until(now + due, now)

    def _watch_until(self, due: float, now: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch_due = due
        self._watch = self._loop.call_later(max(0.0, due - now), self._check)

    def _check(self) -> None:
        """Let those whose time is over go, and the connection when the server is silent.

        Only what was due at the last look is given up: between two looks the loop has turned
        and read what had come. A loop that was held up takes no answer for late that was there.
        """
        self._watch = None
        now = time.monotonic()
        before, self._looked = self._looked, now
        if not self._asked:
            return
        upcoming = []
        for asked in self._asked:
            if asked.expires <= before:
                _fail(asked.reply, StoreAway("no answer in time"))
            if asked.overdue <= before:
                self.suspect = True
            upcoming += [due for due in asked[2:] if due > before]
        if self.suspect:
            oldest = self._asked[0].written
            given_up = min(max(oldest, self._received) + SILENCE, oldest + LONGEST)
            if given_up <= before:
                self.drop("no answer")
                return
            upcoming.append(given_up)
        self._watch_until(min(upcoming), now)


def _fail(reply: asyncio.Future[Any], error: Exception) -> None:
    if not reply.done():
        reply.set_exception(error)
        reply.exception()  # seen: the caller may have wanted no answer
