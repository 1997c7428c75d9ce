"""The gateway dies (`os._exit`) at every point of a call's way that makes a difference, and what
was reserved, taken and billed comes right without anybody's help."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.chaos.books import Books, read
from tests.chaos.client import Seen, call, prompt
from tests.chaos.reporting import FIGURES
from tests.chaos.standing import (
    HELD_PLAN,
    HELD_PROVIDER,
    SLOTS,
    Store,
    by_ledger,
    held_tenants,
    provider_by_ledger,
    told,
)
from tests.patience import eventually
from tests.services.cluster import Cluster
from tests.services.process import ServerProcess
from tests.services.system import Site, System

pytestmark = pytest.mark.chaos

# Each point (tests/chaos/failing_gateway.py), and which kinds of answers come to it.
POINTS = {
    "before_admission": "json sse",
    "filling": "json sse",  # a quota's counter, from the ledger: read, and not yet set
    "after_admission": "json sse",
    "request_sent": "json sse",
    "head_came": "json sse",
    "body_came": "json",
    "before_open": "sse",
    "after_open": "sse",  # what to bill if we die is durable, and no byte has left
    "first_event": "sse",
    "mid_stream": "sse",
    "before_final": "json sse",
    "within_final": "json sse",  # the row is written and not committed
    "after_final": "json sse",  # committed, and the counters do not know
    "after_settlement": "json sse",
    "head_sent": "json",  # the answer's head, and not its body
    "last_byte": "json sse",
}
COMPANY = 6  # calls at the same time; they die together
RARELY_PASSED = ("filling", "within_final")  # once for several calls
SOON_SECONDS = 0.5
COMING_SECONDS = 60.0  # within which a call comes to the point
REST_SECONDS = 60.0


class Case(NamedTuple):
    """One death: where, of which kind of answer, at how many passings."""

    point: str
    kind: str
    nth: int
    tenant: str


@dataclass
class World:
    """A site whose one gateway dies as told."""

    site: Site
    port: int
    gateway: ServerProcess
    armed: Path
    store: Store | None = None

    def start(self) -> None:
        self.gateway.command = [sys.executable, "-m", "tests.chaos.failing_gateway"]
        self.gateway.command += ["--port", str(self.port), "--armed", str(self.armed)]
        self.gateway.start(lambda: self.site.get(f"{self.url}/readyz")[0] == 200)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def pace(self, **fault: int) -> None:
        """Of the provider's answers."""
        url = f"{self.site.sandbox_url}/_sandbox/faults/lab"
        request = urllib.request.Request(url, data=json.dumps(fault).encode(), method="PUT")
        urllib.request.urlopen(request, timeout=10).close()

    def call(self, tenant: str, ask: dict[str, Any]) -> Any:
        return call(self.port, self.site.keys[f"{tenant}/live"], ask)

    @property
    def has_died(self) -> bool:
        return not self.armed.exists()

    def is_at_rest(self) -> bool:
        opened = self.site.rows("SELECT request_id FROM usage_opencall")
        return not opened and not (self.store and self.store.unsettled())


class Embedded(System):
    def start_gateway(self) -> None:
        """World starts one of its own kind."""


class Shared(Cluster):
    def start_gateway(self, number: int) -> None:
        """As above."""


@pytest.fixture
def embedded(tmp_path: Path, system_template: Path) -> Iterator[World]:
    system = Embedded(tmp_path)
    try:
        system.start(system_template)
        yield World(system, system.port, system.gateway, tmp_path / "armed")
    finally:
        system.stop()


@pytest.fixture
def shared(tmp_path: Path, cluster_template: Path) -> Iterator[World]:
    with Shared.made(tmp_path, cluster_template, gateways=1) as cluster:
        store = Store(cluster.valkey.client())
        yield World(cluster, cluster.ports[0], cluster.gateways[0], tmp_path / "armed", store)


@pytest.fixture(params=["embedded", "shared"])
def world(request: pytest.FixtureRequest) -> World:
    made: World = request.getfixturevalue(request.param)
    return made


def cases(chance: random.Random, rounds: int) -> list[Case]:
    found = []
    for turn in range(rounds):
        for point, kinds in POINTS.items():
            for kind in kinds.split():
                nth = 1 if point in RARELY_PASSED else chance.randint(1, COMPANY - 1)
                tenant = f"{kind}-{point.replace('_', '-')}-{turn}"
                found.append(Case(point, kind, nth, tenant))
    chance.shuffle(found)
    return found


async def die(world: World, case: Case) -> list[Seen]:
    """What the clients of that life saw. A busy machine may keep the counters waiting, so that
    calls are refused, or bring several events at once, so that few are half-way: then others are
    sent."""
    world.armed.write_text(f"{case.point} {case.nth}")
    served: list[Seen] = []
    deadline = time.monotonic() + COMING_SECONDS
    while not world.has_died:
        calls = (
            world.call(case.tenant, prompt(8, number, stream=case.kind == "sse"))
            for number in range(COMPANY)
        )
        seen = await asyncio.gather(*calls)
        assert time.monotonic() < deadline, f"nobody came to {case}: {seen[0].raw!r}"
        served += [each for each in seen if not is_refused_unheard(each)]
        await dies_soon(world)
    return served


async def dies_soon(world: World) -> None:
    """The last byte is out a moment before the end that comes after it."""
    until = time.monotonic() + SOON_SECONDS
    while not world.has_died and time.monotonic() < until:
        await asyncio.sleep(0.02)


def is_refused_unheard(seen: Seen) -> bool:
    """Also where the gateway died between such a refusal's head and its body."""
    cut = not seen.body and (seen.status, seen.headers.get("retry-after")) == (503, "2")
    return cut or b'"store_unavailable"' in seen.body


async def take_every_slot(world: World, tenants: list[str]) -> list[Seen]:
    """As many calls at once as each tenant may make, and one more."""
    calls = (
        world.call(tenant, prompt(1, number, stream=False))
        for tenant in tenants
        for number in range(SLOTS + 1)
    )
    return list(await asyncio.gather(*calls))


def test_a_death_anywhere_leaves_nothing_behind(
    world: World, is_long: bool, record_property: Callable[[str, object], None]
) -> None:
    seed = secrets.randbelow(10**6)
    ways = cases(random.Random(seed), rounds=10 if is_long else 1)
    tenants = [case.tenant for case in ways]
    world.site.apply(HELD_PROVIDER + HELD_PLAN + held_tenants(*tenants))
    world.site.leave_out_catalogue()
    world.pace(pace_ms=4)
    world.start()
    began = time.monotonic()
    seen: list[Seen] = []
    for case in ways:
        seen += asyncio.run(die(world, case))
    died = time.monotonic()
    eventually(world.is_at_rest, REST_SECONDS)
    rested = time.monotonic()

    world.pace(delay_ms=1500)
    admitted = []
    for few in (tenants[place : place + 13] for place in range(0, len(tenants), 13)):
        deadline = time.monotonic() + REST_SECONDS
        full: list[Seen] = []
        while not full or any(map(is_refused_unheard, full)):
            assert time.monotonic() < deadline, "the counters refuse somebody each time"
            full = asyncio.run(take_every_slot(world, few))
            admitted += [each for each in full if each.status == 200]
            eventually(world.is_at_rest, REST_SECONDS)
        answers = Counter(each.status for each in full)
        assert answers == {200: len(few) * SLOTS, 429: len(few)}, seed
    books = read(world.site, seen + admitted)
    line = figures(world, books, ways, seed=seed, died=died - began, rested=rested - died)
    record_property(FIGURES, line)

    assert books.faults == {}, line
    assert books.partial and books.estimated, f"no death met a stream half-way: {line}"
    for tenant in tenants:
        key = world.site.keys[f"{tenant}/live"]
        assert told(world.site, world.url, key) == by_ledger(world.site, tenant), (tenant, line)
    if world.store:
        assert world.store.used("lab") == provider_by_ledger(world.site, "lab"), line


def figures(
    world: World, books: Books, ways: list[Case], *, seed: int, died: float, rested: float
) -> str:
    facts = {
        "deaths": len(ways),
        "calls": len(books.seen),
        "whole": len(books.whole),
        "partial": len(books.partial),
        "rows": len(books.rows),
        "estimated": len(books.estimated),
        "lost": len(books.lost),
        "duplicates": len(books.duplicates),
        "wrong": len(books.wrong),
        "unseen_upstream": len(books.unseen),
        "seed": seed,
        "seconds_dying": round(died),
        "seconds_to_rest": round(rested, 1),
    }
    name = "Valkey and PostgreSQL" if world.store else "embedded"
    return f"failpoints, {name}: " + " ".join(f"{key}={value}" for key, value in facts.items())
