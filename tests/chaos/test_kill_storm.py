"""G1 to G3: gateways, Valkey and PostgreSQL are killed with -9 in turn under load. Nobody's bill
is lost or doubled, and when all has come to rest the counters are what the ledger says."""

from __future__ import annotations

import asyncio
import json
import random
import re
import secrets
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from tests.chaos import standing
from tests.chaos.books import Books, read
from tests.chaos.client import Seen, prompt
from tests.chaos.reporting import FIGURES
from tests.services.cluster import Client, Cluster
from tests.services.process import ServerProcess
from tests.services.system import Site, System

pytestmark = pytest.mark.chaos

CLIENTS = 24
LONGEST = 240.0, 900.0  # seconds for a whole storm, short and long; it is stuck after that
REST_SECONDS = 60.0  # within which all that the dead left behind is settled
PACE_MS = 4  # between the events of a stream, so that kills meet them half-way
START_SECONDS = 1.5  # about what a gateway's start takes: some kills come within it
DOWN_SECONDS = 0.3  # for which what was killed stays away, at most
KEY = "acme/storm"

QUOTAS = """
providers:
  - slug: lab
    rate_limits: [{{metric: concurrency, limit: {slots}}}]
    quotas: [{{metric: requests, window: day, limit: 10000000}}]
tenants:
  - slug: acme
    keys: [{{name: storm, mode: live, scopes: ["*"]}}, {{name: auditor, mode: live, scopes: ["internal:read"]}}]
    rate_limits: [{{scope: tenant, metric: concurrency, limit: {slots}}}]
    quotas:
      - {{scope: tenant, metric: requests, window: day, limit: 10000000}}
      - {{scope: tenant, metric: tokens, window: day, limit: 100000000000}}
      - {{scope: tenant, metric: cost, window: month, limit_usd: "1000000"}}
"""


@dataclass(frozen=True)
class Target:
    """What can be killed, and how much oftener than others. `gateway` is one's process: it is
    killed also while it starts."""

    name: str
    start: Callable[[], None]
    kill: Callable[[], None]
    weight: int = 1
    gateway: ServerProcess | None = None


@dataclass
class Storm:
    """So many answered calls, half of them streamed, and so many kills among them."""

    site: Site
    targets: Sequence[Target]
    client: Callable[[], Client]
    calls: int
    kills: int
    seed: int
    seen: list[Seen] = field(default_factory=list)
    refused: list[Seen] = field(default_factory=list)
    killed: Counter[str] = field(default_factory=Counter)
    _begun: int = 0

    async def rage(self) -> None:
        self._killed_enough = False
        self._chance = random.Random(self.seed)
        self._down: set[str] = set()
        async with asyncio.timeout(LONGEST[self.kills > 20]), asyncio.TaskGroup() as tasks:
            tasks.create_task(self._kill(tasks))
            for _ in range(CLIENTS):
                tasks.create_task(self._client())

    @property
    def _is_over(self) -> bool:
        return len(self.seen) >= self.calls and self._killed_enough

    async def _client(self) -> None:
        client = self.client()
        while not self._is_over:
            self._begun += 1
            ask = prompt(self._begun % 13, self._begun, stream=self._begun % 2 == 0)
            try:
                seen = await client.call(self.site.keys[KEY], ask)
            except TimeoutError:
                raise
            except OSError:  # nobody listened, so this was no call
                await asyncio.sleep(0.02)
                continue
            if seen.status in (0, 200):
                self.seen.append(seen)
            else:
                self.refused.append(seen)
                await asyncio.sleep(0.1)

    async def _kill(self, tasks: asyncio.TaskGroup) -> None:
        """Each kill has calls for company, and one at least meets a stream half-way; every
        fourth comes while the system is still busy with the last one."""
        gap = self.calls / self.kills
        while self.killed.total() < self.kills or not any(map(_is_partial, self.seen)):
            moment = len(self.seen) + self._chance.random() * gap * 2
            while len(self.seen) < moment:
                await asyncio.sleep(0.002)
            await self._strike(tasks)
            if self._chance.random() < 0.25:
                await asyncio.sleep(self._chance.random() * START_SECONDS)
                await self._strike(tasks)
        self._killed_enough = True

    async def _strike(self, tasks: asyncio.TaskGroup) -> None:
        while not (up := [each for each in self.targets if each.name not in self._down]):
            await asyncio.sleep(0.01)
        [target] = self._chance.choices(up, [each.weight for each in up])
        self._down.add(target.name)
        pauses = [self._chance.random() for _ in range(3)]
        await asyncio.to_thread(self._end, target)
        tasks.create_task(self._bring_back(target, *pauses))

    async def _bring_back(
        self, target: Target, down: float, stillborn: float, moment: float
    ) -> None:
        await asyncio.sleep(down * DOWN_SECONDS)
        if target.gateway is not None and stillborn < 0.2:
            end = time.monotonic() + moment * START_SECONDS
            await asyncio.to_thread(target.gateway.start, lambda: time.monotonic() > end)
            await asyncio.to_thread(self._end, target)
        await asyncio.to_thread(target.start)
        self._down.discard(target.name)

    def _end(self, target: Target) -> None:
        target.kill()
        self.killed[target.name.partition("-")[0]] += 1


def _is_partial(seen: Seen) -> bool:
    return seen.streamed and bool(seen.body) and not seen.whole


def gateway_of(system: System) -> list[Target]:
    gateway = system.gateway
    return [Target("gateway", system.start_gateway, gateway.kill, gateway=gateway)]


def all_of(cluster: Cluster) -> list[Target]:
    gateways = [
        Target(
            f"gateway-{number}", partial(cluster.start_gateway, number), process.kill, 2, process
        )
        for number, process in enumerate(cluster.gateways)
    ]
    valkey, postgres = cluster.valkey, cluster.postgres
    return [
        *gateways,
        Target("valkey", valkey.start, valkey.kill),
        Target("postgres", postgres.start, postgres.kill, weight=2),
    ]


Standing = dict[tuple[str, str], tuple[int, int]]
"""Used and reserved, by owner and metric."""


def told(site: Site, url: str) -> Standing:
    """A gateway's word on the quotas."""
    found: Standing = {}
    for query in ("tenant=acme&mode=live", "mode=live"):
        headers = {"Authorization": f"Bearer {site.keys['acme/auditor']}"}
        status, body = site.get(f"{url}/internal/v1/quotas?{query}", **headers)
        assert status == 200, body
        for each in json.loads(body)["data"]:
            found[each["of"], each["metric"]] = (each["used"], each["reserved"])
    return found


def expected(site: Site) -> Standing:
    """What that must be at rest, by the ledger."""
    acme = {("acme", metric): used for metric, used in standing.by_ledger(site, "acme").items()}
    lab = standing.provider_by_ledger(site, "lab")
    return acme | {("lab", "requests"): (lab["requests"], 0)}


def unrest(site: Site, urls: Sequence[str]) -> dict[str, Any]:
    """All that is not yet as it must be at rest."""
    ledger = expected(site)
    counters = {url: found for url in urls if (found := told(site, url)) != ledger}
    disorder: dict[str, Any] = {"open": site.rows("SELECT request_id FROM usage_opencall")}
    if isinstance(site, Cluster):
        with site.valkey.client() as client:
            disorder["unsettled"] = standing.Store(client).unsettled()
    if counters:
        disorder |= {"counters": counters, "ledger": ledger}
    return {name: what for name, what in disorder.items() if what}


def comes_to_rest(site: Site, urls: Sequence[str]) -> tuple[dict[str, Any], float]:
    """What is still in disorder after REST_SECONDS, and the seconds that it took."""
    began = time.monotonic()
    while (found := unrest(site, urls)) and time.monotonic() - began < REST_SECONDS:
        time.sleep(0.2)
    return found, time.monotonic() - began


def refusals(refused: Sequence[Seen]) -> Counter[str]:
    """By status and code; without a code where a kill cut them."""
    found: Counter[str] = Counter()
    for seen in refused:
        code = re.search(rb'"code":"(\w+)"', seen.body)
        found[f"{seen.status} {code[1].decode() if code else ''}".strip()] += 1
    return found


def figures(mode: str, storm: Storm, books: Books, rest: float, seconds: float) -> str:
    shown: Mapping[str, object] = {
        "calls": len(storm.seen),
        "streamed": sum(seen.streamed for seen in storm.seen),
        "kills": storm.killed.total(),
        **{f"killed_{name}": times for name, times in sorted(storm.killed.items())},
        "whole": len(books.whole),
        "partial": len(books.partial),
        "refused": len(storm.refused),
        "rows": len(books.rows),
        "estimated": len(books.estimated),
        "lost": len(books.lost),
        "duplicates": len(books.duplicates),
        "unseen_upstream": len(books.unseen),
        "rest_s": round(rest, 1),
        "seed": storm.seed,
        "seconds": round(seconds),
    }
    return f"kill storm, {mode}: " + " ".join(f"{name}={value}" for name, value in shown.items())


def weather(
    mode: str, storm: Storm, urls: Sequence[str], note: Callable[[str, object], None]
) -> None:
    """The storm, and what must hold after it."""
    site, began = storm.site, time.monotonic()
    asyncio.run(storm.rage())
    asyncio.run(all_serve(storm))
    disorder, rest = comes_to_rest(site, urls)
    books = read(site, storm.seen)
    line = figures(mode, storm, books, rest, time.monotonic() - began)
    note(FIGURES, line)

    assert books.faults == {}, line
    assert disorder == {}, line
    refused = refusals(storm.refused)
    assert {*refused} <= {"503 store_unavailable", "503"}, f"{refused}; {line}"
    assert len(books.unseen) <= storm.kills * CLIENTS, line
    assert storm.killed.total() >= storm.kills, line
    assert books.partial, f"no kill met a stream half-way: {line}"


async def all_serve(storm: Storm) -> None:
    """After the storm each of as many clients as there are slots for is answered."""
    deadline = time.monotonic() + REST_SECONDS
    while time.monotonic() < deadline:
        clients = [storm.client() for _ in range(CLIENTS)]
        ask = prompt(3, 0, stream=False)
        seen = await asyncio.gather(*(each.call(storm.site.keys[KEY], ask) for each in clients))
        storm.seen += [each for each in seen if each.status == 200]
        if all(each.whole and each.status == 200 for each in seen):
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"not served again: {refusals(seen)}")


def slow_down(system: Site, **fault: int) -> None:
    """Script the sandbox for the live provider's calls."""
    url = f"{system.sandbox_url}/_sandbox/faults/lab"
    request = urllib.request.Request(url, data=json.dumps(fault).encode(), method="PUT")
    urllib.request.urlopen(request, timeout=10).close()


def test_embedded(
    new_system: Callable[..., System],
    is_long: bool,
    record_property: Callable[[str, object], None],
) -> None:
    calls, kills = (20_000, 100) if is_long else (400, 4)
    system = new_system(applied=QUOTAS.format(slots=CLIENTS))
    system.leave_out_catalogue()
    slow_down(system, pace_ms=PACE_MS)
    storm = Storm(
        system,
        gateway_of(system),
        lambda: Client([system.port]),
        calls,
        kills,
        seed=secrets.randbelow(10**6),
    )
    weather("embedded", storm, [system.url], record_property)


def test_cluster(
    new_cluster: Callable[..., Cluster],
    is_long: bool,
    record_property: Callable[[str, object], None],
) -> None:
    calls, kills = (30_000, 200) if is_long else (400, 6)
    cluster = new_cluster(gateways=3, applied=QUOTAS.format(slots=100 * CLIENTS))
    cluster.leave_out_catalogue()
    slow_down(cluster, pace_ms=PACE_MS)
    storm = Storm(
        cluster, all_of(cluster), cluster.client, calls, kills, seed=secrets.randbelow(10**6)
    )
    weather("Valkey + PostgreSQL", storm, cluster.urls, record_property)
