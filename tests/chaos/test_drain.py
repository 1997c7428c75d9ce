"""SIGTERM under load: what runs comes to its end and to its ledger row, then the process ends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.chaos.books import read
from tests.chaos.client import Seen, call, prompt
from tests.services.process import until
from tests.services.system import System

pytestmark = pytest.mark.chaos

CLIENTS = 12


@dataclass
class Load:
    """Clients that call without a pause until nobody listens any more."""

    system: System
    seen: list[Seen] = field(default_factory=list)
    stopped_at: float = 0.0
    """When the signal was sent, on the loop's clock."""

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
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One for this file; each test starts the gateway its own way, and ends it."""
    system = System(tmp_path_factory.mktemp("drained"))
    try:
        system.start()
        yield system
    finally:
        system.stop()


def serve(system: System, command: list[str]) -> None:
    system.gateway.stop()
    system.gateway.command = [sys.executable, "-m", *command]
    system.start_gateway()


def uvicorn(system: System, *, grace: int = 10) -> list[str]:
    """As `make run` does."""
    bind = ["--port", str(system.port), "--no-access-log", "--timeout-graceful-shutdown"]
    return ["uvicorn", "config.asgi:application", *bind, str(grace)]


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
