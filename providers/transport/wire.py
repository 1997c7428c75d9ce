"""HTTP/1.1 on one connection: a request's bytes out, one answer in.

llhttp (httptools) reads what comes, in its strict mode: it refuses folded or malformed headers,
two lengths, a length beside chunks, and sizes beyond 64 bits. What it leaves to us is here:
how much of anything may come, answers nobody asked for, and when a connection may serve again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from providers.call import UpstreamRequest, Verdict
from providers.transport import interface
from providers.transport.destination import Destination
from providers.transport.interface import TransportFault, refuse_compressed, too_large

MAX_HEAD_BYTES = 64 * 1024  # also: the most that may come without a byte of the body in it
MAX_HEADERS = 256
HIGH_WATER = 256 * 1024  # so much of a body waits for its reader before no more is taken in

_METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}
_FRAMING = {"content-length", "transfer-encoding", "connection", "upgrade", "expect"}
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LISTS = {"cache-control", "vary"}  # that came twice, they are one list (RFC 9110 §5.3)
_INFORMATIONAL = {100, 102, 103}
_BODILESS = {204, 304}


def request_bytes(request: UpstreamRequest, destination: Destination) -> bytes:
    """Raises ValueError for what would not be one well-framed request."""
    given = "".join([f"{name}: {value}\r\n" for name, value in request.headers.items()])
    # A value that breaks out of its line makes a line too many.
    lines = given.count("\r"), given.count("\n")
    if lines != (len(request.headers),) * 2 or "\0" in given or request.method not in _METHODS:
        raise ValueError("no request to send")
    names = _lower_names(tuple(request.headers))
    head = f"{request.method} {destination.path} HTTP/1.1\r\n"
    if "host" not in names:
        head += f"Host: {destination.authority}\r\n"
    if "accept" not in names:
        head += "Accept: */*\r\n"
    body = request.body or b""
    if body or request.method != "GET":
        head += f"Content-Length: {len(body)}\r\n"
    return b"".join((head.encode(), given.encode(), b"\r\n", body))


@lru_cache(maxsize=1024)
def _lower_names(names: tuple[str, ...]) -> frozenset[str]:
    """Raises ValueError for what is no header's name, or named twice, or ours to say."""
    lower = frozenset(name.lower() for name in names)
    if (
        len(lower) != len(names)
        or not all(map(_NAME.fullmatch, names))
        or not lower.isdisjoint(_FRAMING)
    ):
        raise ValueError("no header to send")
    return lower


class Owner(Protocol):
    """Whoever lends a connection out, one call at a time."""

    def take_back(self, connection: Connection, *, reusable: bool) -> None: ...

    def forget(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """One connection, and the answer that is coming on it, if any."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._answer: Answer | None = None
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._barren_bytes = 0
        self._complete = self._until_close = self._reusable = self._paused = False
        self.on_body: Callable[[bytes], None] = self._parts.append
        self._parser = HttpResponseParser(self)

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, answer: Answer, request: bytes) -> None:
        """Send a request whose answer is to come in `answer`."""
        assert self._transport and not self._answer  # noqa: S101 - lent to one call at a time
        self._answer = answer
        self._headers = {}
        self._head_bytes = self._barren_bytes = 0
        self._complete = self._until_close = self._reusable = False
        if self.is_open:
            self._transport.write(request)
        else:  # it ended after it was made, and will not tell a second time
            self._broke()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def let_go(self) -> None:
        """The caller wants no more of the answer that is coming."""
        self._fail(Verdict.UNREACHABLE, "the answer was let go of")

    def stall(self) -> None:
        self._fail(Verdict.TIMEOUT, "the answer stalled")

    def _pause(self) -> None:
        if not self._paused and self._transport is not None and self.is_open:
            self._transport.pause_reading()
            self._paused = True

    def resume(self) -> None:
        if self._paused and self._transport is not None and self.is_open:
            self._transport.resume_reading()
            self._paused = False

    # What asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's have no such base

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:  # nobody asked
            self.abort()
            return
        sound = True
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            sound = False
        if self._parts:
            full = answer.add(b"".join(self._parts)) > HIGH_WATER
            self._parts.clear()
            self._barren_bytes = 0
        else:
            full = False
            self._barren_bytes += len(data)
            sound = sound and self._barren_bytes <= MAX_HEAD_BYTES
        if self._complete:
            self._end(reusable=sound and self._reusable)
        elif not sound:
            self._broke()
        else:
            if full:
                self._pause()
            answer.wake()

    def eof_received(self) -> None:
        if self._until_close:  # the one body that ends so; over TLS, uvloop asks for a goodbye
            self._end(reusable=False)
        else:
            self._broke()

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.forget(self)
        self._broke()

    # What the parser tells: an exception from here makes it stop for good

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("an answer nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD_BYTES or len(self._headers) > MAX_HEADERS:
            raise ValueError("too much of a head")
        if self._answer is not None and not self._answer.status:  # it is no trailer
            text = value.decode("latin-1").strip(" \t")
            lower = name.lower().decode("latin-1")
            if lower in _LISTS and lower in self._headers:
                text = f"{self._headers[lower]}, {text}"
            elif lower in self._headers:
                return
            self._headers[lower] = text

    def on_headers_complete(self) -> None:
        assert self._answer  # noqa: S101 - data_received looked
        status = self._parser.get_status_code()
        headers = self._headers
        if status in _INFORMATIONAL:
            self._headers = {}
            return
        coding = headers.get("transfer-encoding", "").lower()
        if status < 200 or coding not in {"", "chunked"}:
            raise ValueError("nothing that we asked for")
        self._until_close = not (coding or "content-length" in headers or status in _BODILESS)
        self._answer.begin(status, headers)

    def on_message_complete(self) -> None:
        if self._answer is not None and self._answer.status:
            self._complete = True
            self._reusable = self._parser.should_keep_alive()

    # How an answer ends

    def _broke(self) -> None:
        begun = self._answer is not None and self._answer.status
        self._fail(
            Verdict.UNREACHABLE, "the answer was cut off" if begun else "the connection broke"
        )

    def _fail(self, verdict: Verdict, message: str) -> None:
        if self._answer is not None:
            self._answer.fault = (verdict, message)
        self._end(reusable=False)

    def _end(self, *, reusable: bool) -> None:
        """The one way by which a call and its connection part, and they part only once."""
        answer, self._answer = self._answer, None
        transport = self._transport
        if answer is None or transport is None:
            return
        answer.end()
        # An answer may come before all of its question has left.
        reusable = (
            reusable and self.is_open and not self._paused and not transport.get_write_buffer_size()
        )
        self._owner.take_back(self, reusable=reusable)


class Answer:
    """A Response, filled in by its connection, of which it knows only until its last byte."""

    def __init__(self, connection: Connection, idle: float) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.fault: tuple[Verdict, str] | None = None
        self._connection: Connection | None = connection
        self._idle = idle
        self._parts: list[bytes] = []
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None

    # The connection's side

    def begin(self, status: int, headers: dict[str, str]) -> None:
        self.status, self.headers = status, headers

    def add(self, part: bytes) -> int:
        """How much waits to be read, in bytes."""
        self._parts.append(part)
        self._size += len(part)
        return self._size

    def end(self) -> None:
        self._connection = None
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # The caller's side

    async def head(self) -> None:
        """Raises TransportFault when the connection ends before the answer begins."""
        while not self.status:
            self._raise_fault()
            await self._news()

    async def read(self) -> bytes:
        refuse_compressed(self.headers)
        parts: list[bytes] = []
        size = 0
        while True:
            ended = self._connection is None
            size += self._size
            parts += self._take()
            if size > interface.MAX_BODY_BYTES:
                raise too_large()
            if ended:
                self._raise_fault()
                return parts[0] if len(parts) == 1 else b"".join(parts)
            await self._news(self._idle)

    async def chunks(self) -> AsyncIterator[bytes]:
        refuse_compressed(self.headers)
        while True:
            if self._parts:
                yield b"".join(self._take())
            elif self._connection is None:
                self._raise_fault()
                return
            else:
                await self._news(self._idle)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.let_go()

    def _take(self) -> list[bytes]:
        parts = self._parts
        self._parts, self._size = [], 0
        if self._connection is not None:
            self._connection.resume()
        return parts

    def _raise_fault(self) -> None:
        if self.fault is not None:
            raise TransportFault(*self.fault)

    async def _news(self, idle: float | None = None) -> None:
        """Until something came, or the answer ended, or `idle` seconds went by without."""
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(idle, self._stalled) if idle is not None else None
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _stalled(self) -> None:
        if self._connection is not None and self._waiter is not None and not self._waiter.done():
            self._connection.stall()
