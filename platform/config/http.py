"""How the server writes to a client: all that one turn of the loop has to say in one write.

uvicorn writes an answer's head and its body apart. Each write is a system call that wakes the
client, and the second one costs as much as routing the call does.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HELD = 64 * 1024  # bytes; more than that is written at once


class Protocol(HttpToolsProtocol):
    """uvicorn's, over a transport that writes once a turn."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(OnceATurn(transport, self.loop))  # type: ignore[arg-type]


class OnceATurn:
    """A transport that holds what it is to write until the loop's turn is over. What is written
    before `close` still leaves; all else is the transport's own."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._call_soon = loop.call_soon
        self._held: list[bytes] = []
        self._size = 0
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._held:
            self._call_soon(self._flush)
        self._held.append(data)
        self._size += len(data)
        if self._size > MOST_HELD:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held, self._held, self._size = self._held, [], 0
        if held and not self.is_closing():
            self._transport.write(b"".join(held))
