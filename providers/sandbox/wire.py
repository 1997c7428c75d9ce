"""Sends one response, and knows whether it was handed over whole.

ASGI can neither break a connection nor tell at the moment of sending that it is gone, so the
server's protocol (server.py) puts the transport into the scope; without one, a cut is an
exception, at which servers close the connection without the closing chunk.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

Send = Callable[[dict[str, Any]], Awaitable[None]]
TRANSPORT = "patchbay.sandbox.transport"

_HEAD_PIECES = 10
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class BrokenOff(ConnectionError):
    """The connection was broken on purpose."""


class Wire:
    """`finished`: every byte was handed over. `is_cut`: broken by us. `is_closed`: closed by us,
    so that the server must be given time to see it before the call returns."""

    def __init__(self, send: Send, transport: asyncio.Transport | None) -> None:
        self._send = send
        self._transport = transport
        self.finished = False
        self.is_cut = False
        self.is_closed = False

    async def start(
        self, status: int, headers: Mapping[str, str], *, length: int | None = None
    ) -> None:
        """`length` None: the body's end is told by a closing chunk."""
        told = dict(headers) if length is None else {**headers, "content-length": str(length)}
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in told.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        """The last bytes. A connection that is already gone takes none: not finished then."""
        # Waits while the client is slow to take what is queued, so that the last send cannot wait:
        # a client lost during that wait would go unnoticed.
        await self.write(b"")
        if self._transport and self._transport.is_closing():
            return
        await self._send({"type": "http.response.body", "body": data, "more_body": False})
        self.finished = True

    def cut(self, *, reset: bool = False) -> None:
        """Breaks the connection: what was written goes out, then FIN, or RST with `reset`.

        Raises BrokenOff when there is no transport to do it with.
        """
        self.is_cut = self.is_closed = True
        if self._transport is None:
            raise BrokenOff
        if reset:
            _close_with_reset(self._transport)
        self._transport.close()

    async def dribble(
        self, status: int, headers: Mapping[str, str], body: bytes, *, seconds: float
    ) -> None:
        """A whole answer whose head takes so long, past the server, which could only send it at
        once; then the connection is closed."""
        if self._transport is None:
            raise BrokenOff
        told = {**headers, "content-length": str(len(body)), "connection": "close"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        head = f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n{lines}\r\n".encode("latin-1")
        step = -(-len(head) // _HEAD_PIECES)
        for at in range(0, len(head), step):
            self._transport.write(head[at : at + step])
            await asyncio.sleep(seconds / _HEAD_PIECES)
        self.finished = not self._transport.is_closing()
        self._transport.write(body)
        self._transport.close()
        self.is_closed = True


def _close_with_reset(transport: asyncio.Transport) -> None:
    # SO_LINGER of zero seconds makes the kernel send RST instead of FIN (socket(7)). The option
    # belongs to the socket, not to the descriptor, so it can be set through a duplicate.
    number = os.dup(transport.get_extra_info("socket").fileno())
    with socket.socket(fileno=number) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
