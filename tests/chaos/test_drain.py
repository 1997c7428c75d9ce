"""SIGTERM under load: `/readyz` turns first, what runs comes to its end, to its ledger row and
to its counters, and then the process ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

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
from tests.services.process import until
from tests.services.system import System

pytestmark = pytest.mark.chaos

CLIENTS = 12
DRAIN_SECONDS = 0.6
LAST_MOMENT = 0.05  # seconds


@dataclass
class Load:
    """Clients that call without a pause until nobody listens any more."""

    system: System
    seen: list[Seen] = field(default_factory=list)
    stopped_at: float = 0.0
    """When the signal was sent, on the loop's clock."""
    last_word: int = 200
    """What `/readyz` said then, as soon as it was not 200."""

    async def run_into_sigterm(self) -> None:
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                tasks.create_task(self._client(number))
            tasks.create_task(self._terminate())

    async def _client(self, number: int) -> None:
        key = self.system.keys["acme/test"]
        with contextlib.suppress(OSError):
            while True:
                ask = prompt(20, number, stream=number % 2 == 0)
                pace = f"delay_ms={100 + 10 * number};pace_ms=20"  # in step with no other
                self.seen.append(await call(self.system.port, key, ask, x_sandbox_fault=pace))

    async def _terminate(self) -> None:
        while len(self.seen) < 5 * CLIENTS:
            await asyncio.sleep(0.001)
        self.stopped_at = asyncio.get_running_loop().time()
        terminate(self.system)
        while self.last_word == 200:
            self.last_word, _ = await asyncio.to_thread(System.get, f"{self.system.url}/readyz")


def terminate(system: System) -> None:
    assert system.gateway.process
    system.gateway.process.send_signal(signal.SIGTERM)


def ends_by_itself(system: System, seconds: float) -> bool:
    assert system.gateway.process
    return system.gateway.process.wait(timeout=seconds) in (0, -signal.SIGTERM)


@contextlib.contextmanager
def idle_connection(port: int) -> Iterator[None]:
    """A client that asked once and keeps its connection for later."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: patchbay.test\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        yield


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, system_template: Path) -> Iterator[System]:
    """One for this file; each test starts the gateway its own way, and ends it."""
    system = System(tmp_path_factory.mktemp("drained"), DRAIN_SECONDS=str(DRAIN_SECONDS))
    try:
        system.start(system_template)
        system.leave_out_catalogue()
        yield system
    finally:
        system.stop()


def serve(system: System, command: list[str]) -> None:
    system.gateway.stop()
    system.gateway.command = [sys.executable, "-m", *command]
    system.start_gateway()


def uvicorn(system: System, *, grace: int = 10) -> list[str]:
    """As `make run` does."""
    options = ["--port", str(system.port), "--http", "config.http:Protocol", "--no-access-log"]
    options += ["--timeout-graceful-shutdown", str(grace)]
    return ["uvicorn", "config.asgi:application", *options]


def gunicorn(system: System) -> list[str]:
    """As production does."""
    options = ["-c", "deploy/gunicorn.conf.py", "--bind", f"127.0.0.1:{system.port}"]
    return ["gunicorn", *options, "config.asgi:application"]


@pytest.mark.parametrize("server", [uvicorn, gunicorn])
def test_what_runs_when_sigterm_comes_ends_well(
    system: System, server: Callable[[System], list[str]]
) -> None:
    serve(system, server(system))
    load = Load(system)
    with idle_connection(system.port):
        asyncio.run(load.run_into_sigterm())
        assert ends_by_itself(system, 10)
    assert load.last_word == 503, "it was gone before it said so"
    books = read(system, load.seen)
    in_flight = [seen for seen in load.seen if seen.begun < load.stopped_at < seen.ended]
    assert {seen.streamed for seen in in_flight} == {True, False}
    assert [seen for seen in load.seen if seen.begun < load.stopped_at and not seen.whole] == []
    assert [seen for seen in load.seen if seen.raw and not seen.whole] == []
    assert books.lost == books.duplicates == books.phantoms == books.unseen == []
    assert {*books.estimated} & {seen.request_id for seen in load.seen} == set()
    assert books.open_calls == 0


def test_what_outlasts_the_grace_period_is_cut_and_billed(system: System) -> None:
    serve(system, uvicorn(system, grace=1))
    seen = asyncio.run(_endless(system))
    assert ends_by_itself(system, 10)
    books = read(system, seen)
    assert all(each.body and not each.done for each in seen)
    assert books.lost == books.duplicates == books.phantoms == books.unseen == []
    assert {each.request_id for each in seen} <= {*books.estimated}
    assert books.open_calls == 0


async def _endless(system: System) -> list[Seen]:
    """Streams without an end, and SIGTERM when all of them run."""
    key, fault = system.keys["acme/test"], "endless;pace_ms=20"
    calls = [
        asyncio.create_task(
            call(system.port, key, prompt(5, number, stream=True), x_sandbox_fault=fault)
        )
        for number in range(CLIENTS)
    ]
    await asyncio.to_thread(until, lambda: _open_calls(system) == CLIENTS)
    terminate(system)
    return await asyncio.gather(*calls)


def _open_calls(system: System) -> int:
    return len(system.rows("SELECT request_id FROM usage_opencall"))


TENANTS = [f"caller-{number}" for number in range(CLIENTS // 2)]


@dataclass
class Ends:
    """A gateway with shared counters that is ended under load and started again, many times.

    All moments are the loop's clock's.
    """

    cluster: Cluster
    chance: random.Random
    seen: list[Seen] = field(default_factory=list)
    in_flight: int = 0
    begun_late: int = 0
    refused: int = 0
    turned: list[float] = field(default_factory=list)  # seconds from the signal to `/readyz` 503

    async def end_once(self) -> int:
        """Clients that call without a pause, and SIGTERM somewhere in their second of work. How
        many calls were refused, since a busy machine kept the counters waiting."""
        loop = asyncio.get_running_loop()
        here: list[Seen] = []
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                tasks.create_task(self._client(number, here))
            await asyncio.sleep(0.3 + self.chance.random() * 0.7)
            stopped = loop.time()
            probes = tasks.create_task(self._probe())
            process = self.cluster.gateways[0].process
            assert process
            process.send_signal(signal.SIGTERM)
        turned, closed = probes.result()
        await asyncio.to_thread(process.wait, 20)
        served = [seen for seen in here if b'"store_unavailable"' not in seen.body]
        self._judge(served, stopped, turned, closed)
        self.refused += len(here) - len(served)
        return len(here) - len(served)

    async def _client(self, number: int, here: list[Seen]) -> None:
        key = self.cluster.keys[f"{TENANTS[number % len(TENANTS)]}/live"]
        with contextlib.suppress(OSError):
            while True:
                ask = prompt(20, number, stream=number % 2 == 0)
                here.append(await call(self.cluster.ports[0], key, ask))

    async def _probe(self) -> tuple[float, float]:
        """When `/readyz` turned, and when nobody listened any more."""
        loop = asyncio.get_running_loop()
        turned = 0.0
        while True:
            status, _ = await asyncio.to_thread(Cluster.get, f"{self.cluster.urls[0]}/readyz")
            if not status:
                return turned, loop.time()
            assert status == (503 if turned else status), "it was ready again"
            turned = turned or (loop.time() if status == 503 else 0.0)
            await asyncio.sleep(0.005)

    def _judge(self, here: list[Seen], stopped: float, turned: float, closed: float) -> None:
        assert stopped < turned < closed, "it did not say that it ends before it took no calls"
        assert closed - stopped > DRAIN_SECONDS, "it took no calls while it drained"
        # A connection made in the last moment may wait to be taken when the listener closes.
        drained = stopped + DRAIN_SECONDS - LAST_MOMENT
        failed = [seen for seen in here if seen.begun < drained and not seen.whole]
        assert failed == [], [f"{drained - seen.begun:.3f} s before" for seen in failed]
        assert [seen for seen in here if seen.raw and not seen.whole] == []
        self.in_flight += sum(seen.begun < stopped < seen.ended for seen in here)
        self.begun_late += sum(turned < seen.begun < drained for seen in here)
        self.turned.append(turned - stopped)
        self.seen += here


def test_every_sigterm_is_told_first_and_leaves_no_call_unfinished_and_nothing_reserved(
    new_cluster: Callable[..., Cluster],
    is_long: bool,
    record_property: Callable[[str, object], None],
) -> None:
    assert CLIENTS // len(TENANTS) <= SLOTS
    seed = secrets.randbelow(10**6)
    held = HELD_PROVIDER + HELD_PLAN + held_tenants(*TENANTS)
    cluster = new_cluster(gateways=1, applied=held, DRAIN_SECONDS=str(DRAIN_SECONDS))
    cluster.leave_out_catalogue()
    store, ends = Store(cluster.valkey.client()), Ends(cluster, random.Random(seed))
    until(lambda: is_counted(ends, store))
    slow_down(cluster, delay_ms=60, pace_ms=20)
    rounds = 50 if is_long else 2
    began = time.monotonic()
    for number in range(rounds):
        refused = asyncio.run(ends.end_once())
        assert cluster.rows("SELECT name FROM usage_process") == [], (number, seed)
        if not refused:  # else something may have been granted unheard, which the next one settles
            assert store.unsettled() == {}, (number, seed)
            assert store.used("lab") == provider_by_ledger(cluster, "lab"), (number, seed)
        cluster.start_gateway(0)
    eventually(lambda: not store.unsettled(), 30)
    books = read(cluster, ends.seen)
    line = figures(ends, books, rounds, seed=seed, seconds=time.monotonic() - began)
    record_property(FIGURES, line)
    assert ends.in_flight >= rounds and ends.begun_late >= rounds, line
    assert books.faults == {} and books.estimated == [] and books.unseen == [], line
    assert store.used("lab") == provider_by_ledger(cluster, "lab"), line
    for tenant in TENANTS:
        key = cluster.keys[f"{tenant}/live"]
        assert told(cluster, cluster.urls[0], key) == by_ledger(cluster, tenant), line


def is_counted(ends: Ends, store: Store) -> bool:
    """Whether the gateway has heard of the provider's quotas."""
    key = ends.cluster.keys[f"{TENANTS[0]}/live"]
    ends.seen.append(asyncio.run(call(ends.cluster.ports[0], key, prompt(1, 0, stream=False))))
    return "requests" in store.used("lab")


def slow_down(cluster: Cluster, **fault: int) -> None:
    """Script the sandbox for the live provider's calls."""
    url = f"{cluster.sandbox_url}/_sandbox/faults/lab"
    request = urllib.request.Request(url, data=json.dumps(fault).encode(), method="PUT")
    urllib.request.urlopen(request, timeout=10).close()


def figures(ends: Ends, books: Books, rounds: int, *, seed: int, seconds: float) -> str:
    facts = {
        "ends": rounds,
        "calls": len(ends.seen),
        "in_flight_at_sigterm": ends.in_flight,
        "begun_while_draining": ends.begun_late,
        "refused_for_a_slow_store": ends.refused,
        "failed": sum(bool(seen.raw) and not seen.whole for seen in ends.seen),
        "rows": len(books.rows),
        "lost": len(books.lost),
        "duplicates": len(books.duplicates),
        "readyz_turned_after_ms_at_most": round(max(ends.turned) * 1000),
        "seed": seed,
        "seconds": round(seconds),
    }
    return "SIGTERM: " + " ".join(f"{name}={value}" for name, value in facts.items())
