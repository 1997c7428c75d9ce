"""A Valkey at one address, behind which it can be lost in four ways."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import redis

from tests.patience import eventually
from tests.services.process import accepts
from tests.services.proxy import Proxy
from tests.services.valkey import Valkey


class FallibleStore:
    """At `url` is whichever server has the role now. Each fault ends when it answers again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Valkey] = []
        self._server = self._new()
        self._replica: Valkey | None = None
        self._replication = Proxy(self._server.port)
        self._proxy = Proxy(self._server.port)
        self.url = f"redis://127.0.0.1:{self._proxy.port}/0"

    def start(self) -> None:
        self._replication.start()
        self._proxy.start()

    def stop(self) -> None:
        self._replication.stop()
        self._proxy.stop()
        for server in self._made:
            server.stop()

    def client(self) -> redis.Redis:
        return self._server.client()

    def emptied(self, seconds: float) -> None:
        with self.client() as client:
            client.flushall()

    def stopped(self, seconds: float) -> None:
        """It does nothing for so long, and keeps what it knows."""
        with self._server.frozen():
            time.sleep(seconds)

    def restarted_empty(self, seconds: float) -> None:
        self._server.kill()
        for kept in self._folder.glob("valkey-*/dump.rdb"):  # of one that was a replica
            kept.unlink()
        self._server.start()

    def failed_over(self, seconds: float) -> None:
        """To the replica that `falls_behind` left with what it knew then."""
        assert self._replica is not None, "nobody fell behind"
        self._server.kill()
        with self._replica.client() as client:
            client.replicaof("NO", "ONE")
        self._replication.heal()
        self._server, self._replica = self._replica, None
        self._proxy.target = self._server.port

    def falls_behind(self) -> None:
        """A replica has all that is known now, and nothing of what comes."""
        self._replication.target = self._server.port
        self._replica = self._new()
        with self._replica.client() as client:
            client.replicaof("127.0.0.1", str(self._replication.port))
            eventually(lambda: client.info("replication")["master_link_status"] == "up", 30)
        self._replication.swallows = True

    def _new(self) -> Valkey:
        folder = self._folder / f"valkey-{len(self._made)}"
        folder.mkdir()
        server = Valkey(folder)
        self._made.append(server)
        server.start()
        assert accepts(server.port)
        return server


@contextlib.contextmanager
def fallible_store(folder: Path) -> Iterator[FallibleStore]:
    store = FallibleStore(folder)
    try:
        store.start()
        yield store
    finally:
        store.stop()
