"""Small real servers on the loopback that speak HTTP exactly as well as a test tells them to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from providers.call import UpstreamRequest

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Handler = Callable[["Connection"], Awaitable[None]]


@dataclass
class Server:
    """What came in: one entry a connection, and the whole of each request's bytes."""

    port: int = 0
    connections: list[Connection] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str = "/", **headers: str) -> UpstreamRequest:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return UpstreamRequest("GET", self.url + path, named)

    def post(self, body: bytes, path: str = "/") -> UpstreamRequest:
        return UpstreamRequest("POST", self.url + path, {"content-type": "x/y"}, body)


@dataclass
class Connection:
    server: Server
    reader: Reader
    writer: Writer
    hung_up_at: float = 0.0

    async def request(self) -> bytes:
        """The next request's head and body; empty when the client left."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            body = await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up_at = time.perf_counter()
            return b""
        self.server.requests.append(head + body)
        return head + body

    async def send(self, *parts: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                self.writer.write(part)
            await self.writer.drain()

    async def until_hang_up(self) -> None:
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        self.hung_up_at = time.perf_counter()

    def reset(self) -> None:
        """End it as a crash would: RST, not FIN."""
        connected = self.writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server that runs `handler` once for each connection."""
    server = Server()
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: Reader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        connection = Connection(server, reader, writer)
        server.connections.append(connection)
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await handler(connection)

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in server.connections:
            connection.writer.transport.abort()
        await asyncio.sleep(0)


def answer(body: bytes = b"", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole answer with its length."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)


def chunked(*chunks: bytes, end: bool = True) -> bytes:
    """A whole answer in chunks; without `end`, one that is cut cleanly before the last."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head + body + (b"0\r\n\r\n" if end else b"")


def always(*parts: bytes) -> Handler:
    """Answers every request of every connection with the same bytes."""

    async def handle(connection: Connection) -> None:
        while await connection.request():
            await connection.send(*parts)

    return handle


def once(*parts: bytes, reset: bool = False) -> Handler:
    """Answers one request with these bytes and ends the connection."""

    async def handle(connection: Connection) -> None:
        await connection.request()
        await connection.send(*parts)
        if reset:
            await asyncio.sleep(0.02)
            connection.reset()
        else:
            connection.close()

    return handle
