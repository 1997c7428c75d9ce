"""Patchbay as production runs it: several gateway processes that share PostgreSQL and Valkey, the
worker, and the sandbox that plays their upstreams.

    def test_one_limit_for_all(new_cluster):
        cluster = new_cluster(gateways=3)           # keyword arguments more: settings
        cluster.apply("tenants: [{slug: acme, …}]")     # `{sandbox}` is the sandbox's address
        client = cluster.client()
        seen = await client.call(cluster.keys["acme/live"], prompt(5, 1, stream=False))
        cluster.kill(0); cluster.start_gateway(0)       # -9; the same port again
        cluster.valkey.kill(); cluster.valkey.start()   # comes back empty
        cluster.postgres.kill(); cluster.postgres.start()   # what was committed is there
        cluster.rows("SELECT * FROM usage_usagerecord WHERE request_id = ?", seen.request_id)

What is served at first is in tests/services/system.yaml. A cluster takes some seconds to start:
share one among the tests of a file that leave it in order (`Cluster.made`).
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.chaos.client import Seen, call
from tests.services.postgres import DURABLE, SYSTEM, Postgres, postgres_folder
from tests.services.process import free_port, until
from tests.services.system import Site
from tests.services.valkey import Valkey


class Client:
    """Calls one gateway after the other, as a load balancer does; those where nobody listens
    are passed over."""

    def __init__(self, ports: list[int], first: int = 0) -> None:
        self._ports = ports
        self._turn = first

    async def call(self, key: str, ask: dict[str, Any], **headers: str) -> Seen:
        """As tests/chaos/client.py. Raises OSError when no gateway listens."""
        for _ in self._ports:
            self._turn = (self._turn + 1) % len(self._ports)
            with contextlib.suppress(ConnectionRefusedError):
                return await call(self._ports[self._turn], key, ask, **headers)
        raise ConnectionRefusedError("no gateway listens")


def _follows(url: str, topic: str, number: int) -> bool:
    """Whether a gateway has heard of a change."""
    _, metrics = Site.get(f"{url}/api/metrics")
    told = re.search(
        rf'^patchbay_configuration_revision{{topic="{topic}"}} (\S+)$',
        metrics.decode(),
        re.MULTILINE,
    )
    return told is not None and float(told[1]) >= number


class Cluster(Site):
    """`gateways` of them at `ports` and `urls`; in `folder` are all logs."""

    def __init__(self, folder: Path, postgres_folder: Path, gateways: int, **settings: str) -> None:
        self.postgres = Postgres(postgres_folder, DURABLE)
        self.valkey = Valkey(folder)
        shared = {"REDIS_URL": self.valkey.url, **settings}
        super().__init__(folder, self.postgres.url(SYSTEM), **shared)
        self.ports = [free_port() for _ in range(gateways)]
        self.urls = [f"http://127.0.0.1:{port}" for port in self.ports]
        self.gateways = [
            self._gateway(f"gateway-{number}", port) for number, port in enumerate(self.ports)
        ]
        self._heartbeat = folder / "worker.heartbeat"
        self.worker = self._process(
            "worker", ["manage.py", "worker"], "--heartbeat", str(self._heartbeat)
        )
        self._clients = itertools.count()

    def start(self, template: Path, applied: str = "") -> None:
        """Begin as `template` is (tests/services/templates.py), with `applied` on top."""
        self.postgres.create_like(template / "data")
        self.postgres.start()
        self.valkey.start()
        self.configure(template, applied)
        self.worker.start(self._heartbeat.exists)
        with ThreadPoolExecutor() as threads:
            list(threads.map(self.start_gateway, range(len(self.gateways))))

    def start_gateway(self, number: int) -> None:
        """Start it at its port, and wait until it is ready."""
        ready = f"{self.urls[number]}/readyz"
        self.gateways[number].start(lambda: self.get(ready)[0] == 200)

    def in_force(self) -> None:
        """Wait until every gateway works by what the database says now."""
        revisions = self.rows("SELECT topic, number FROM lib_revision")
        until(lambda: all(_follows(url, **each) for each in revisions for url in self.urls))

    def kill(self, number: int) -> None:
        """A gateway, with -9."""
        self.gateways[number].kill()

    def stop(self) -> None:
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda each: each.stop(), (*self.gateways, self.worker)))
        self.sandbox.stop()
        self.valkey.stop()
        self.postgres.stop()

    def client(self) -> Client:
        """Each begins at another gateway."""
        return Client(self.ports, next(self._clients) % len(self.ports))

    def rows(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        url = self.postgres.url(SYSTEM)
        with psycopg.connect(url, row_factory=dict_row) as connection:
            return connection.execute(statement.replace("?", "%s"), parameters or None).fetchall()

    @classmethod
    @contextlib.contextmanager
    def made(
        cls, folder: Path, template: Path, gateways: int = 3, applied: str = "", **settings: str
    ) -> Iterator[Cluster]:
        """A running one, ended with the scope."""
        with postgres_folder() as its_own:
            cluster = cls(folder, its_own, gateways, **settings)
            try:
                cluster.start(template, applied)
                yield cluster
            finally:
                cluster.stop()


@pytest.fixture
def new_cluster(tmp_path: Path, cluster_template: Path) -> Iterator[Callable[..., Cluster]]:
    """Makes clusters of a test's own: `new_cluster(gateways=3, applied="", **settings)`; they
    end with it."""
    numbers = itertools.count()
    with contextlib.ExitStack() as stack:

        def make(gateways: int = 3, **more: str) -> Cluster:
            folder = tmp_path / f"cluster-{next(numbers)}"
            folder.mkdir()
            return stack.enter_context(Cluster.made(folder, cluster_template, gateways, **more))

        yield make
