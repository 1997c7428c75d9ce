"""How bytes reach a provider: a small interface, and aiohttp behind it.

What the data path needs and no more: one request, a status, headers, and the body as a whole
or chunk by chunk, each within its own time. Redirects are never followed, proxies from the
environment never used, compressed answers never asked for, and private addresses are refused
at the moment of connecting unless the provider's row allows them.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from typing import Any, Protocol

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from lib.egress import is_public
from providers.call import Outcome, UpstreamRequest, Verdict
from providers.timeouts import Timeouts

MAX_BODY_BYTES = 32 * 1024 * 1024
DEAF_MS = 30_000  # a provider that takes no byte of ours for so long has gone


class TransportFault(Exception):
    """The provider could not be reached, or broke off, or was too slow. `outcome` says which."""

    def __init__(self, verdict: Verdict, message: str) -> None:
        super().__init__(message)
        self.outcome = Outcome(verdict, message=message)


class Response(Protocol):
    """An answer whose head has come. `close` must be called on every path."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    async def read(self) -> bytes: ...

    def chunks(self) -> AsyncIterator[bytes]: ...

    def close(self) -> None: ...


class Transport(Protocol):
    async def send(
        self, request: UpstreamRequest, timeouts: Timeouts, *, allow_private: bool
    ) -> Response:
        """The answer's head. Raises TransportFault."""
        ...

    async def close(self) -> None: ...


class _PublicOnly(AbstractResolver):
    """Resolves a name, and refuses it when any of its addresses is not public. aiohttp then
    connects to just these addresses, so a second answer of the name server changes nothing."""

    def __init__(self) -> None:
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        results = await self._resolver.resolve(host, port, family)
        if not all(is_public(str(result["host"])) for result in results):
            raise PrivateAddress
        return results

    async def close(self) -> None:
        await self._resolver.close()


class PrivateAddress(OSError):
    """A provider's name or URL leads into a private network."""


_REFUSED = "The provider's address is private. Staff may set allow_private_network on the provider."


class AiohttpTransport:
    """Two pools: one for public addresses only, one for upstreams that staff let be private."""

    def __init__(self, *, connections_per_host: int = 256) -> None:
        self._limit = connections_per_host
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    def _session(self, allow_private: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(allow_private)
        if session is None:
            resolver = aiohttp.ThreadedResolver() if allow_private else _PublicOnly()
            connector = aiohttp.TCPConnector(
                limit=0,
                limit_per_host=self._limit,
                resolver=resolver,
                ttl_dns_cache=30,
                socket_factory=_socket,
            )
            session = self._sessions[allow_private] = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
                skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type"),
                read_bufsize=2**18,
            )
        return session

    async def send(
        self, request: UpstreamRequest, timeouts: Timeouts, *, allow_private: bool
    ) -> Response:
        try:
            url = _url(request.url)
            if not allow_private and _is_private_literal(url.host or ""):
                raise PrivateAddress
            response = await self._session(allow_private).request(
                request.method,
                url,
                data=request.body,
                headers=request.headers,
                allow_redirects=False,
                timeout=_client_timeout(timeouts),
            )
        except PrivateAddress:
            raise TransportFault(Verdict.UNREACHABLE, _REFUSED) from None
        except aiohttp.ConnectionTimeoutError:
            raise TransportFault(Verdict.UNREACHABLE, "connecting took too long") from None
        except TimeoutError:
            raise TransportFault(Verdict.TIMEOUT, "no answer in time") from None
        except aiohttp.ClientConnectorError as error:
            private = isinstance(error.os_error, PrivateAddress)
            message = _REFUSED if private else "the connection was refused or the name is unknown"
            raise TransportFault(Verdict.UNREACHABLE, message) from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise TransportFault(Verdict.UNREACHABLE, "the connection broke") from None
        return _AiohttpResponse(response, timeouts.idle)

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()


class _AiohttpResponse:
    def __init__(self, response: aiohttp.ClientResponse, idle: float) -> None:
        self._response = response
        self._idle = idle
        self.status = response.status
        self.headers = _Lowered(response.headers)

    async def read(self) -> bytes:
        """The whole body, at most MAX_BODY_BYTES. Raises TransportFault. The caller's own
        deadline bounds the time."""
        length = self._response.content_length
        if length is not None and length <= MAX_BODY_BYTES:
            return await self._read_at_once()
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise TransportFault(Verdict.BAD_PAYLOAD, "the answer is larger than 32 MiB")
            parts.append(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _read_at_once(self) -> bytes:
        self._refuse_compressed()
        try:
            return await self._response.read()
        except (aiohttp.ClientError, OSError):
            raise TransportFault(Verdict.UNREACHABLE, "the answer was cut off") from None

    def _refuse_compressed(self) -> None:
        if self.headers.get("content-encoding", "").lower() not in {"", "identity"}:
            raise TransportFault(Verdict.BAD_PAYLOAD, "the answer is compressed, unasked")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises TransportFault when it stalls or breaks off."""
        self._refuse_compressed()
        content = self._response.content
        try:
            while True:
                async with asyncio.timeout(self._idle):
                    chunk = await content.readany()
                if not chunk:
                    return
                yield chunk
        except TimeoutError:
            raise TransportFault(Verdict.TIMEOUT, "the answer stalled") from None
        except (aiohttp.ClientError, OSError):
            raise TransportFault(Verdict.UNREACHABLE, "the answer was cut off") from None

    def close(self) -> None:
        """Back to the pool when the body was read to its end; otherwise the connection ends,
        which is how the provider learns that nobody listens any more."""
        self._response.close()


class _Lowered(Mapping[str, str]):
    """Response headers looked up by lower-case name, with nothing copied."""

    def __init__(self, headers: Any) -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> str:
        return str(self._headers[name])

    def __iter__(self) -> Any:
        return (name.lower() for name in self._headers)

    def __len__(self) -> int:
        return len(self._headers)

    def get(self, name: str, default: Any = None) -> Any:  # without an exception's cost
        return self._headers.get(name, default)


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Ends by itself when the provider takes nothing any more. What we let go of with bytes
    still unsent would otherwise stay, with those bytes, for as long as the provider likes."""
    family, kind, protocol, *_ = address
    connection = socket.socket(family, kind, protocol)
    connection.setblocking(False)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAF_MS)
    return connection


@lru_cache(maxsize=1024)
def _url(text: str) -> URL:
    """Raises ValueError for what nothing can be sent to."""
    url = URL(text, encoded=True)
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("no http URL")
    return url


@lru_cache(maxsize=1024)
def _is_private_literal(host: str) -> bool:
    """Hosts in any spelling that the system reads as an address, such as 127.1 or 0x7f.1."""
    try:
        infos = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False  # a name: the resolver checks what it stands for
    return not all(is_public(str(info[4][0])) for info in infos)


@lru_cache(maxsize=256)
def _client_timeout(timeouts: Timeouts) -> aiohttp.ClientTimeout:
    """Only for making a connection: a place in the pool, the head and the body are waited for
    within the caller's own first-byte time and deadline."""
    return aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect, ceil_threshold=1e9)
