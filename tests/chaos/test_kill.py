"""G1 and G2: the gateway is killed with -9 under load, and nobody's bill is lost or doubled."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import secrets
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.chaos.books import Books, read
from tests.chaos.client import Seen, call, prompt
from tests.chaos.reporting import FIGURES
from tests.services.system import Site, System

pytestmark = pytest.mark.chaos

CLIENTS = 16
LONGEST = 900.0  # seconds for a whole storm; it is stuck after that
PACE_MS = 4  # between the events of a stream, so that kills meet them half-way
START_SECONDS = 1.5  # about what a start takes: some kills come within it


@dataclass
class Storm:
    """So many calls, half of them streamed, and so many kills among them."""

    system: System
    calls: int
    kills: int
    seed: int
    seen: list[Seen] = field(default_factory=list)
    streamed: int = 0
    killed: int = 0
    _begun: int = 0

    async def rage(self) -> None:
        self._chance = random.Random(self.seed)
        self._numbers = itertools.count()
        self._up = asyncio.Event()
        self._up.set()
        async with asyncio.timeout(LONGEST), asyncio.TaskGroup() as tasks:
            tasks.create_task(self._kill())
            for _ in range(CLIENTS):
                tasks.create_task(self._client())

    async def _client(self) -> None:
        while self._begun < self.calls:
            await self._up.wait()
            self._begun += 1
            try:
                await self._call(next(self._numbers))
            except OSError:  # nobody listened, so this was no call
                self._begun -= 1
                await asyncio.sleep(0.01)

    async def _call(self, number: int) -> None:
        ask = prompt(number % 13, number, stream=number % 2 == 0)
        seen = await call(self.system.port, self.system.keys["acme/live"], ask)
        self.streamed += seen.streamed
        self.seen.append(seen)

    async def _kill(self) -> None:
        """Every moment is one of the calls', so that each kill has company; every fourth kill
        comes while the gateway is still starting, and closing what the last one left open."""
        strikes = self.kills - self.kills // 4
        moments = sorted(self._chance.sample(range(1, self.calls), strikes))
        for moment in moments:
            while self._begun < moment:
                await asyncio.sleep(0.001)
            await asyncio.sleep(self._chance.random() * 0.05)
            self._up.clear()
            await asyncio.to_thread(self._strike)
            self._up.set()

    def _strike(self) -> None:
        self.system.gateway.kill()
        self.killed += 1
        if self.killed % 4 == 3 and self.killed < self.kills:
            end = time.monotonic() + self._chance.random() * START_SECONDS
            self.system.gateway.start(lambda: time.monotonic() > end)
            self.system.gateway.kill()
            self.killed += 1
        self.system.start_gateway()


def slow_down(system: Site, **fault: int) -> None:
    """Script the sandbox for the live provider's calls."""
    url = f"{system.sandbox_url}/_sandbox/faults/lab"
    request = urllib.request.Request(url, data=json.dumps(fault).encode(), method="PUT")
    urllib.request.urlopen(request, timeout=10).close()


def figures(storm: Storm, books: Books, seconds: float) -> str:
    told = {
        "calls": len(storm.seen),
        "streamed": storm.streamed,
        "kills": storm.killed,
        "whole": len(books.whole),
        "partial": len(books.partial),
        "nothing": len(books.seen) - len(books.whole) - len(books.partial),
        "rows": len(books.rows),
        "estimated": len(books.estimated),
        "lost": len(books.lost),
        "duplicates": len(books.duplicates),
        "unseen_upstream": len(books.unseen),
        "seed": storm.seed,
        "seconds": round(seconds),
    }
    return "kill -9: " + " ".join(f"{name}={value}" for name, value in told.items())


def test_killing_the_gateway_loses_and_doubles_no_bill(
    new_system: Callable[..., System],
    is_long: bool,
    record_property: Callable[[str, object], None],
) -> None:
    calls, kills = (5000, 20) if is_long else (600, 4)
    system = new_system()
    system.leave_out_catalogue()
    slow_down(system, pace_ms=PACE_MS)
    storm = Storm(system, calls, kills, seed=secrets.randbelow(10**6))
    began = time.monotonic()
    asyncio.run(storm.rage())
    books = read(system, storm.seen)
    line = figures(storm, books, time.monotonic() - began)
    record_property(FIGURES, line)

    assert len(storm.seen) >= calls, line  # clients go on until the last kill has come
    assert storm.killed == kills, line
    assert books.faults == {}, line
    assert len(books.unseen) <= kills * CLIENTS, line
    assert books.partial and books.estimated, f"no kill met a stream half-way: {line}"
