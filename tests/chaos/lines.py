"""Patchbay with a bad line behind it: three gateways, each with a proxy before one of what a
gateway needs. What is bad for one is not for the others, so all three can be tried at once.

    upstream   the gateway calls `far`, the provider behind the proxy
    store      its counters are in Valkey behind the proxy
    database   its ledger and configuration are in PostgreSQL behind the proxy
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
from psycopg.rows import dict_row

from tests.chaos.client import Seen, call, prompt
from tests.chaos.fault_proxy import FaultProxy
from tests.chaos.words import CUT, OK, word_of
from tests.patience import eventually
from tests.services.process import ServerProcess, free_port
from tests.services.system import Site
from tests.services.valkey import Valkey

PACE_MS = 5  # between the events of a stream, so that troubles meet them half-way
LINES = ("upstream", "store", "database")
MB = 2**20
GRACE = 0.1  # seconds after its deadline by which a call must have ended
RIGHT = {
    "upstream": {
        OK,
        CUT,
        "circuit_open",
        "provider_unavailable",
        "upstream_timeout",
        "deadline_exceeded",
    },
    "store": {OK, "store_unavailable"},
    "database": {OK, CUT, "store_unavailable", "deadline_exceeded"},
}

CONFIGURATION = """
providers:
  - &near
    slug: near
    adapter: openai
    base_url: "{sandbox}/near/v1"
    allow_private_network: true
    credentials: [{name: main, secret: sk-lab-0123456789}]
    breaker: {consecutive_failures: 1000000, open_seconds: 1}
    models: [{id: gpt-x, context: 128000, max_output: 4096,
              input_usd_per_million: "1", output_usd_per_million: "2"}]
  - {<<: *near, slug: far, base_url: "http://127.0.0.1:{far}/far/v1"}
plans: [{slug: unlimited, rate_limits: []}]
tenants:
  - &tenant
    slug: strict
    plan: unlimited
    projects: [{slug: default}]
    keys: [{name: live, mode: live, scopes: ["*", "health:read"]}]
    quotas:
      - {scope: tenant, metric: requests, window: day, limit: 10000000}
      - {scope: tenant, metric: tokens, window: day, limit: 100000000000}
  - <<: *tenant
    slug: lenient
    quotas:
      - {scope: tenant, metric: requests, window: day, limit: 10000000, hard: false}
      - {scope: tenant, metric: tokens, window: day, limit: 100000000000, hard: false}
"""


@dataclass(frozen=True)
class Told:
    """One call, how it ended, and by how much it passed its deadline (seconds)."""

    seen: Seen
    word: str
    over: float


@dataclass(frozen=True)
class Size:
    """What a gateway holds: bytes resident, descriptors (sockets above all), threads, and calls
    that it is answering."""

    memory: int
    descriptors: int
    threads: int
    calls: int

    def is_within(self, other: Size) -> bool:
        """Whether it is back to what it was; pools of idle connections breathe."""
        return (
            self.memory <= other.memory + 16 * MB
            and self.descriptors <= other.descriptors + 4
            and self.threads <= other.threads + 4
            and self.calls == 0
        )


@dataclass
class Line:
    """A gateway and the proxy in its way."""

    name: str
    proxy: FaultProxy
    gateway: ServerProcess
    port: int
    key: str = ""
    told: list[Told] = field(default_factory=list)
    _number: int = 0

    async def call(self, stream: bool, deadline_ms: int) -> Told:
        self._number += 1
        ask = prompt(6, self._number, stream=stream)
        ask["model"] = "far/gpt-x" if self.name == "upstream" else "near/gpt-x"
        seen = await call(self.port, self.key, ask, **{"x-patchbay-deadline-ms": str(deadline_ms)})
        over = seen.ended - seen.begun - deadline_ms / 1000 - GRACE
        self.told.append(Told(seen, word_of(seen, ask), over))
        return self.told[-1]

    async def calls(self, each: int, deadline_ms: int) -> list[Told]:
        """So many whole and so many streamed, at once."""
        made = [self.call(stream, deadline_ms) for stream in (False, True) for _ in range(each)]
        return await asyncio.gather(*made)

    async def recovers(self, seconds: float) -> float:
        """How long until both kinds are answered again (seconds)."""
        begun = time.monotonic()
        while words := {told.word for told in await self.calls(1, 2000)} - {OK}:
            assert time.monotonic() - begun < seconds, (self.name, words)
            await asyncio.sleep(0.02)
        return time.monotonic() - begun

    @property
    def tenant(self) -> str:
        """Whose calls it has: where the store is not what is bad, a busy one refuses nobody."""
        return "strict" if self.name == "store" else "lenient"

    @property
    def wrong(self) -> list[str]:
        return [told.word for told in self.told if told.word not in RIGHT[self.name]]

    @property
    def pid(self) -> int:
        assert self.gateway.process is not None
        return self.gateway.process.pid

    @property
    def size(self) -> Size:
        process = psutil.Process(self.pid)
        calls = eventually(self._health, 10)["calls"]["in_flight"]
        return Size(process.memory_info().rss, process.num_fds(), process.num_threads(), calls)

    def _health(self) -> dict[str, Any]:
        """Empty while the database's pool still finds out which connections are dead."""
        url = f"http://127.0.0.1:{self.port}/api/v1/health/detailed"
        told = json.loads(Site.get(url, Authorization=f"Bearer {self.key}")[1] or b"{}")
        return told if "calls" in told else {}


class BadLines(Site):
    """`lines` by name, on a database and a Valkey that are there."""

    def __init__(self, folder: Path, database_url: str, valkey: Valkey) -> None:
        super().__init__(folder, database_url, REDIS_URL=valkey.url)
        database_port = urlsplit(database_url).port
        assert database_port
        targets = zip(LINES, (self.sandbox_port, valkey.port, database_port), strict=True)
        self.proxies = {name: FaultProxy(target) for name, target in targets}
        self.lines = {name: self._line(name) for name in LINES}

    def start(self) -> None:
        for proxy in self.proxies.values():
            proxy.start()
        self.configure()
        with ThreadPoolExecutor() as threads:
            list(threads.map(self._start, self.lines.values()))

    def configure(self) -> None:
        self.sandbox.start(lambda: self.get(f"{self.sandbox_url}/_sandbox/calls")[0] == 200)
        pace = json.dumps({"pace_ms": PACE_MS}).encode()
        url = f"{self.sandbox_url}/_sandbox/faults/*"
        urllib.request.urlopen(urllib.request.Request(url, pace, method="PUT"), timeout=10).close()
        self.apply(CONFIGURATION.replace("{far}", str(self.proxies["upstream"].port)))
        for line in self.lines.values():
            line.key = self.keys[f"{line.tenant}/live"]

    def stop(self) -> None:
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda line: line.gateway.stop(), self.lines.values()))
        self.sandbox.stop()
        for proxy in self.proxies.values():
            proxy.stop()

    def rows(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        url = self.environment["DATABASE_URL"]
        with psycopg.connect(url, row_factory=dict_row) as connection:
            return connection.execute(statement.replace("?", "%s"), parameters or None).fetchall()

    def _line(self, name: str) -> Line:
        port, proxy = free_port(), self.proxies[name]
        gateway = self._gateway(f"gateway-{name}", port)
        gateway.options["env"] = {**self.environment, **self._detour(name, proxy.port)}
        return Line(name, proxy, gateway, port)

    def _detour(self, name: str, port: int) -> dict[str, str]:
        """The settings that lead through the proxy."""
        if name == "store":
            return {"REDIS_URL": f"redis://127.0.0.1:{port}/0"}
        if name == "upstream":
            return {}
        parts = urlsplit(self.environment["DATABASE_URL"])
        netloc = parts.netloc.replace(f":{parts.port}", f":{port}")
        return {"DATABASE_URL": urlunsplit(parts._replace(netloc=netloc))}

    def _start(self, line: Line) -> None:
        ready = f"http://127.0.0.1:{line.port}/readyz"
        line.gateway.start(lambda: self.get(ready)[0] == 200)
