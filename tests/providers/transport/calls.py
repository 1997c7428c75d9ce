"""Calls through whichever transport is being tested."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
import uvloop

from providers.call import UpstreamRequest, Verdict
from providers.timeouts import Timeouts
from providers.transport import (
    Http1Transport,
    Response,
    Transport,
    TransportFault,
)
from tests.providers.transport.with_aiohttp import AiohttpTransport
from tests.providers.upstreams import Handler, Server, serving

TIMES = Timeouts(connect=1.0, idle=0.3)
PATIENT = Timeouts(connect=10.0, idle=10.0)  # where a busy machine is not what is tested
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Subject:
    """Which transport is being tested."""

    make: type[AiohttpTransport | Http1Transport] = Http1Transport


# Once is enough to see what is covered.
AGAIN = pytest.mark.unmeasured
AIOHTTP = pytest.param(
    (AiohttpTransport, asyncio.DefaultEventLoopPolicy), id="aiohttp", marks=AGAIN
)
ON_ASYNCIO = pytest.param((Http1Transport, asyncio.DefaultEventLoopPolicy), id="http1")
ON_UVLOOP = pytest.param((Http1Transport, uvloop.EventLoopPolicy), id="http1-uvloop", marks=AGAIN)

ours_only = pytest.mark.parametrize("subject", [ON_ASYNCIO, ON_UVLOOP], indirect=True)


@contextlib.asynccontextmanager
async def meeting(handler: Handler) -> AsyncIterator[tuple[Transport, Server]]:
    """A transport and a server that it may call."""
    transport = Subject.make()
    try:
        async with serving(handler) as server:
            yield transport, server
            await transport.close()
    finally:
        await transport.close()


async def send(
    transport: Transport, request: UpstreamRequest, timeouts: Timeouts = TIMES
) -> Response:
    return await transport.send(request, timeouts, allow_private=True)


async def fault_of(doing: Coroutine[Any, Any, object]) -> Verdict:
    with pytest.raises(TransportFault) as fault:
        await doing
    assert fault.value.outcome.message
    return fault.value.outcome.verdict


async def read(transport: Transport, request: UpstreamRequest, timeouts: Timeouts = TIMES) -> bytes:
    response = await send(transport, request, timeouts)
    try:
        return await response.read()
    finally:
        response.close()
