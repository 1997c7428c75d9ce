"""The data path's own HTTP/1.1 client: pools of connections, and no more than providers need.

It exists for its speed alone (docs/adr/0007); all it promises is in tests/providers/transport.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Hashable

from aiohappyeyeballs import AddrInfoType

from providers.call import UpstreamRequest, Verdict
from providers.timeouts import Timeouts
from providers.transport.destination import Destination, Lookups, connected, destination_of
from providers.transport.interface import PRIVATE, PrivateAddress, Response, TransportFault
from providers.transport.wire import Answer, Connection, request_bytes

KEPT = 15.0  # seconds for which a connection that nobody uses stays open
CONNECTIONS = 2048  # a pool's; a stream may well be idle for minutes, and has one to itself


class Http1Transport:
    """A pool for each bulkhead, host and port: a provider that hangs fills its own and no other.
    Those that may be private share none with those that may not, so an open connection into a
    network is no door for another provider."""

    def __init__(self, *, connections_per_pool: int = CONNECTIONS) -> None:
        self._limit = connections_per_pool
        self._pools: dict[Hashable, _Pool] = {}
        self._lookups = Lookups()
        self._tls: ssl.SSLContext | None = None
        self._sweep: asyncio.TimerHandle | None = None

    async def send(
        self, request: UpstreamRequest, timeouts: Timeouts, *, allow_private: bool
    ) -> Response:
        try:
            destination = destination_of(request.url)
            payload = request_bytes(request, destination)
        except ValueError:
            raise TransportFault(
                Verdict.UNREACHABLE, "the URL or a header is none that can be sent"
            ) from None
        pool = self._pool(request.bulkhead, destination, allow_private)
        # Before `first_byte` ends: waiting for one another is no slowness of the provider's.
        await pool.enter(min(timeouts.connect, timeouts.first_byte / 2))
        try:
            connection = pool.idle_connection() or await self._connect(
                pool, destination, timeouts.connect, allow_private=allow_private
            )
        except BaseException:
            pool.leave()
            raise
        answer = Answer(connection, timeouts.idle)
        connection.ask(answer, payload)
        try:
            await answer.head()
        except BaseException:
            answer.close()
            raise
        return answer

    async def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        await asyncio.sleep(0)  # the loop closes sockets on its next turn

    def _pool(self, bulkhead: str, destination: Destination, allow_private: bool) -> _Pool:
        key = (bulkhead, destination.secure, destination.host, destination.port, allow_private)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = _Pool(self._limit)
            if self._sweep is None:
                self._sweep = asyncio.get_running_loop().call_later(KEPT / 3, self._tidy)
        return pool

    def _tidy(self) -> None:
        """Close what nobody used for long, and forget the pools that are left empty."""
        for key, pool in list(self._pools.items()):
            if pool.tidy():
                del self._pools[key]
        loop = asyncio.get_running_loop()
        self._sweep = loop.call_later(KEPT / 3, self._tidy) if self._pools else None

    async def _connect(
        self, pool: _Pool, destination: Destination, seconds: float, *, allow_private: bool
    ) -> Connection:
        """Raises TransportFault. The time is for all of it: name, connection and TLS."""
        try:
            async with asyncio.timeout(seconds):
                infos = await self._lookups.addresses(
                    destination.host, destination.port, allow_private=allow_private
                )
                tls = await self._context() if destination.secure else None
                return await pool.connect(infos, destination, tls)
        except PrivateAddress:
            raise TransportFault(Verdict.UNREACHABLE, PRIVATE) from None
        except TimeoutError:
            raise TransportFault(Verdict.UNREACHABLE, "connecting took too long") from None
        except ssl.SSLError:
            raise TransportFault(
                Verdict.UNREACHABLE, "its TLS handshake failed or its certificate is not valid"
            ) from None
        except (OSError, ValueError):
            raise TransportFault(
                Verdict.UNREACHABLE, "the connection was refused or the name is unknown"
            ) from None

    async def _context(self) -> ssl.SSLContext:
        """Reading the system's authorities takes 50 ms, for which the loop is not held up."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(_tls_context)
        return self._tls


def _tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Pool:
    """The connections to one place. A call holds a slot from before it has a connection until
    the two part; what is open is then never more than there are slots."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._slots = asyncio.Semaphore(limit)
        self._calls = 0  # that have a slot or wait for one
        self._connections: set[Connection] = set()
        self._idle: dict[Connection, float] = {}  # since when; the last used is the last
        self._closed = False

    async def enter(self, seconds: float) -> None:
        """Take a slot. Raises TransportFault when none was free within so long."""
        self._calls += 1
        try:
            if self._calls <= self._limit:
                await self._slots.acquire()
            else:
                await self._wait(seconds)
        except BaseException:
            self._calls -= 1
            raise

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise TransportFault(
                Verdict.SATURATED, "all connections to this provider were in use"
            ) from None

    def leave(self) -> None:
        self._calls -= 1
        self._slots.release()

    def idle_connection(self) -> Connection | None:
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.is_open:
                return connection
        return None

    async def connect(
        self,
        infos: list[AddrInfoType],
        destination: Destination,
        tls: ssl.SSLContext | None,
    ) -> Connection:
        """Raises OSError, of which ssl.SSLError is one."""
        sock = await connected(infos)
        connection = Connection(self)
        self._connections.add(connection)
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                sock=sock,
                ssl=tls,
                server_hostname=destination.host.rstrip(".") if tls else None,
            )
        except BaseException:
            self.forget(connection)
            connection.abort()
            sock.close()
            raise
        return connection

    def take_back(self, connection: Connection, *, reusable: bool) -> None:
        self.leave()
        if reusable and not self._closed:
            self._idle[connection] = asyncio.get_running_loop().time()
        else:
            connection.abort()

    def forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._idle.pop(connection, None)

    def tidy(self) -> bool:
        """Whether nothing is left."""
        oldest = asyncio.get_running_loop().time() - KEPT
        for connection, since in list(self._idle.items()):
            if since < oldest:
                del self._idle[connection]
                connection.abort()
        return not (self._connections or self._calls)

    def close(self) -> None:
        self._closed = True
        for connection in list(self._connections):
            connection.abort()
