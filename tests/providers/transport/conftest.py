"""Every test here is run with both transports, and with ours on the loop that serves, too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import uvloop

from providers.transport import Http1Transport
from tests.providers.transport.calls import Subject
from tests.providers.transport.with_aiohttp import AiohttpTransport


@pytest.fixture(
    autouse=True,
    params=[
        (AiohttpTransport, asyncio.DefaultEventLoopPolicy),
        (Http1Transport, asyncio.DefaultEventLoopPolicy),
        (Http1Transport, uvloop.EventLoopPolicy),
    ],
    ids=["aiohttp", "http1", "http1-uvloop"],
)
def subject(request: pytest.FixtureRequest) -> Iterator[None]:
    Subject.make, policy = request.param
    asyncio.set_event_loop_policy(policy())
    yield
    asyncio.set_event_loop_policy(None)
