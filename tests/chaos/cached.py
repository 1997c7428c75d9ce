"""Gateways whose answers are kept, a provider whose answers change, and a store to be lost.

What is true of a name is a number that only grows. Whoever asks for it hears the number that was
true when the provider was asked; so an answer that is too old is found out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx2

from tests.chaos.client import CHAT, Seen, call
from tests.patience import eventually
from tests.services.cluster import Cluster
from tests.services.postgres import postgres_folder
from tests.services.process import free_port
from tests.services.proxy import Proxy

TENANT = "acme/live"  # without a hard quota, which would refuse calls while its store is away
STAFF = "acme/operator"
PAUSE = 0.01  # seconds between two calls of a reader
COHERENT = 1.0  # seconds after which all gateways know of an invalidation
TOLD_LATER = 1.0  # by when they are told where the store was only late
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"


class Truth:
    """The provider. `takes` seconds for an answer."""

    def __init__(self) -> None:
        self.port = free_port()
        self.numbers: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.takes = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()
        serving = asyncio.start_server(self._connected, "127.0.0.1", self.port, backlog=1000)
        asyncio.run_coroutine_threadsafe(serving, self._loop).result(10)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._cancel(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _cancel(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                (length,) = [
                    int(line.partition(b":")[2])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                ]
                name = json.loads(await reader.readexactly(length))["messages"][0]["content"]
                self.asked[name] += 1
                body = json.dumps(_completion(f"{name} {self.numbers[name]}")).encode()
                await asyncio.sleep(self.takes)
                writer.write(_ANSWER % (len(body), body))
                await writer.drain()


def _completion(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def ask(name: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": name}]
    return {"model": "lab-plain", "temperature": 0, "messages": messages}


class Stage:
    """Two gateways, and the store they share behind a proxy."""

    def __init__(self, cluster: Cluster, truth: Truth, proxy: Proxy) -> None:
        self.cluster, self.truth, self.proxy = cluster, truth, proxy
        self._names = 0

    def new_name(self) -> str:
        self._names += 1
        return f"name-{self._names}"

    async def ask(self, gateway: int, name: str, **headers: str) -> Seen:
        headers = {"X_Patchbay_Cache_Tags": name, **headers}
        key = self.cluster.keys[TENANT]
        return await call(self.cluster.ports[gateway], key, ask(name), **headers)

    def timed(self, gateway: int, names: Sequence[str]) -> tuple[list[float], list[float]]:
        """Milliseconds of each kept answer over one connection: in the gateway, and for its client
        in all. Where a busy machine makes the store late it is none."""
        within, took = [], []
        headers = {"Authorization": f"Bearer {self.cluster.keys[TENANT]}"}
        wire = HTTPConnection("127.0.0.1", self.cluster.ports[gateway], timeout=20)
        with contextlib.closing(wire):
            for name in names:
                body = json.dumps(ask(name))
                begun = time.perf_counter()
                wire.request("POST", CHAT, body, headers)
                answer = wire.getresponse()
                answer.read()
                if answer.headers["x-patchbay-cache"] == "hit":
                    took.append((time.perf_counter() - begun) * 1000)
                    timing = re.search(r"gateway;dur=([\d.]+)", answer.headers["server-timing"])
                    assert timing
                    within.append(float(timing[1]))
        return within, took

    def staff(self, gateway: int) -> httpx2.AsyncClient:
        bearer = {"Authorization": f"Bearer {self.cluster.keys[STAFF]}"}
        url = f"{self.cluster.urls[gateway]}/internal/v1/cache"
        return httpx2.AsyncClient(base_url=url, headers=bearer, timeout=20)

    def shares(self) -> bool:
        """Whether all gateways can use the store."""
        bearer = {"Authorization": f"Bearer {self.cluster.keys[STAFF]}"}
        for url in self.cluster.urls:
            status, told = self.cluster.get(f"{url}/internal/v1/cache/status", **bearer)
            assert status == 200, told
            if not json.loads(told)["shared"]["usable"]:
                return False
        return True


class _Cluster(Cluster):
    """One in which `provider` is the address of the lab."""

    provider = ""

    def configure(self, template: Path, applied: str) -> None:
        super().configure(template, applied)
        self.leave_out_catalogue()
        statement = "UPDATE providers_provider SET base_url = ? WHERE slug = 'lab' RETURNING slug"
        self.rows(statement, f"{self.provider}/v1")


@contextlib.contextmanager
def staged(folder: Path, template: Path) -> Iterator[Stage]:
    truth, proxy = Truth(), Proxy(0)
    with postgres_folder() as its_own:
        cluster = _Cluster(folder, its_own, 2, REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0")
        cluster.provider, proxy.target = truth.url, cluster.valkey.port
        try:
            truth.start()
            proxy.start()
            cluster.start(template)
            stage = Stage(cluster, truth, proxy)
            eventually(stage.shares, 20)
            yield stage
        finally:
            cluster.stop()
            proxy.stop()
            truth.stop()


@dataclass
class Floors:
    """What each gateway must know of each name at least."""

    known: list[Counter[str]] = field(default_factory=lambda: [Counter(), Counter()])
    _told: list[tuple[float, str, int]] = field(default_factory=list)

    def invalidated(self, gateway: int, name: str, number: int, told: float) -> None:
        """The gateway that was asked knows at once, the others in time. `told`: when they were."""
        self._raise(gateway, name, number)
        self._told.append((told, name, number))

    def catch_up(self, now: float, healthy_since: float) -> None:
        """What was told while the store was away is known a second after that is over."""
        due = [each for each in self._told if max(each[0], healthy_since) + COHERENT <= now]
        self._told = [each for each in self._told if each not in due]
        for _, name, number in due:
            for gateway in range(len(self.known)):
                self._raise(gateway, name, number)

    def _raise(self, gateway: int, name: str, number: int) -> None:
        self.known[gateway][name] = max(self.known[gateway][name], number)


@dataclass
class Load:
    """Readers of a few names at both gateways, and a writer that changes what is true of them
    and says so. `healthy_since`: the loop's time from which the store can be used."""

    stage: Stage
    chance: random.Random
    names: list[str]
    floors: Floors = field(default_factory=Floors)
    statuses: Counter[int] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    invalidations: int = 0
    untold: int = 0
    healthy_since: float = 0.0
    over: bool = False

    async def run(self, readers: int) -> None:
        work = [self._read(number % 2) for number in range(readers)]
        await asyncio.gather(*work, self._write())

    async def _read(self, gateway: int) -> None:
        stage, loop = self.stage, asyncio.get_running_loop()
        while not self.over:
            name = self.chance.choice(self.names)
            self.floors.catch_up(loop.time(), self.healthy_since)
            least = self.floors.known[gateway][name]
            seen = await stage.ask(gateway, name)
            await asyncio.sleep(PAUSE)
            self.statuses[seen.status] += 1
            if seen.status == 200:
                self._check(seen, gateway, name, least)

    def _check(self, seen: Seen, gateway: int, name: str, least: int) -> None:
        self.found[seen.headers["x-patchbay-cache"]] += 1
        said = json.loads(seen.body)["choices"][0]["message"]["content"]
        told, _, number = said.partition(" ")
        most = self.stage.truth.numbers[name]
        if told != name or not least <= int(number) <= most:
            self.wrong.append(f"gateway {gateway}, {name}: {said}, not {least} to {most}")

    async def _write(self) -> None:
        loop, truth = asyncio.get_running_loop(), self.stage.truth
        async with self.stage.staff(0) as first, self.stage.staff(1) as second:
            while not self.over:
                gateway, name = self.chance.randrange(2), self.chance.choice(self.names)
                truth.numbers[name] += 1
                number = truth.numbers[name]
                tag = f"client:acme:{name}"
                client = second if gateway else first
                told = await client.post("/invalidate", json={"tag": tag, "reason": "changed"})
                assert told.status_code == 200, told.text
                everywhere = told.json()["everywhere"]
                at = loop.time() if everywhere else loop.time() + TOLD_LATER
                self.floors.invalidated(gateway, name, number, at)
                self.invalidations += 1
                self.untold += not everywhere
                await asyncio.sleep(0.03)
