"""Two to three times as many calls as one gateway can carry, at their own pace: it answers all
that it can, refuses the rest at once, and is itself again when they are gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from tests.chaos.open_loop import Ended, Load, told
from tests.chaos.reporting import FIGURES
from tests.loops import eventually
from tests.services.system import System

pytestmark = pytest.mark.chaos

CONNECTIONS = 2000
OVER = 2.5  # times what it can carry
REQUEST = (
    "GET /api/v1/models HTTP/1.1\r\nHost: patchbay.test\r\nAuthorization: Bearer {key}\r\n\r\n"
)


async def overload(load: Load, seconds: float) -> tuple[list[Ended], list[str]]:
    """Until some calls are refused; a neighbour's load may have made the measure too small."""
    await load.connect(CONNECTIONS)
    peak = await load.saturate(32, 1.0)
    told_of = [f"at its best {peak:.0f}/s"]
    rate, ended = OVER * peak, list[Ended]()
    for _ in range(5):
        ended += (latest := await load.offer(rate, seconds))
        told_of.append(told(latest, seconds))
        if any(each.status == 503 for each in latest):
            break
        rate *= 1.5
    return ended, told_of


def test_what_is_too_much_is_refused_and_the_rest_is_answered(
    new_system: Callable[..., System], is_long: bool, record_property: Callable[[str, object], None]
) -> None:
    """Its models are listed: that is work for the gateway, and for nobody beside it."""
    system = new_system(MAX_LAG_MS="100")
    load = Load(system.port, REQUEST.format(key=system.visitor()).encode())
    log = Path(system.folder / "gateway.log")
    written = log.stat().st_size

    def is_over() -> bool:
        return b"overload_over" in log.read_bytes()[written:]

    async def run() -> tuple[list[Ended], list[str]]:
        ended, told_of = await overload(load, 10.0 if is_long else 1.5)
        async with asyncio.timeout(10):
            await eventually(is_over)
        assert {each.status for each in await load.offer(20, 0.5)} == {200}
        return ended, told_of

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        ended, told_of = runner.run(run())
    record_property(FIGURES, "overload: " + "; ".join(told_of))
    refused = [each for each in ended if each.status == 503]
    assert refused and load.broken == 0
    assert {each.status for each in ended} == {200, 503}
    for each in refused:
        assert b"\r\nretry-after: 1\r\n" in each.head
        assert json.loads(each.body)["error"]["code"] == "overloaded"
