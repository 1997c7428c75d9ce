"""The transport's promises kept by a well-known client. The tests hold both to them: what a
test asks of our own client is then what HTTP means, and not what we happen to do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from lib.egress import is_public
from providers.call import UpstreamRequest, Verdict
from providers.timeouts import Timeouts
from providers.transport import interface
from providers.transport.destination import provider_socket
from providers.transport.interface import (
    PRIVATE,
    PrivateAddress,
    Response,
    TransportFault,
    refuse_compressed,
    too_large,
)


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


class AiohttpTransport:
    """Two pools: one for public addresses only, one for upstreams that staff let be private."""

    def __init__(self, *, connections_per_pool: int = 256) -> None:
        self._limit = connections_per_pool
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
                socket_factory=provider_socket,
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
            raise TransportFault(Verdict.UNREACHABLE, PRIVATE) from None
        except aiohttp.ConnectionTimeoutError:
            raise TransportFault(Verdict.UNREACHABLE, "connecting took too long") from None
        except TimeoutError:
            raise TransportFault(Verdict.TIMEOUT, "no answer in time") from None
        except aiohttp.ClientConnectorError as error:
            private = isinstance(error.os_error, PrivateAddress)
            message = PRIVATE if private else "the connection was refused or the name is unknown"
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
        length = self._response.content_length
        if length is not None and length <= interface.MAX_BODY_BYTES:
            return await self._read_at_once()
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > interface.MAX_BODY_BYTES:
                raise too_large()
            parts.append(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _read_at_once(self) -> bytes:
        refuse_compressed(self.headers)
        try:
            return await self._response.read()
        except (aiohttp.ClientError, OSError):
            raise TransportFault(Verdict.UNREACHABLE, "the answer was cut off") from None

    async def chunks(self) -> AsyncIterator[bytes]:
        refuse_compressed(self.headers)
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
