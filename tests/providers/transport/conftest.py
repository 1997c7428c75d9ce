"""Every test here is run with both transports, and with ours on the loop that serves, too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.providers.transport.calls import AIOHTTP, ON_ASYNCIO, ON_UVLOOP, Subject


@pytest.fixture(autouse=True, params=[AIOHTTP, ON_ASYNCIO, ON_UVLOOP])
def subject(request: pytest.FixtureRequest) -> Iterator[None]:
    Subject.make, policy = request.param
    asyncio.set_event_loop_policy(policy())
    yield
    asyncio.set_event_loop_policy(None)
