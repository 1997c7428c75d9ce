"""The whole system as its users meet it: gateway and sandbox as processes, over real sockets.

`system` is started once for all tests that ask for it, on a database of its own; what it
serves is in tests/services/system.yaml. Tests that kill or reconfigure use `new_system`.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sqlite3
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services.process import ServerProcess, free_port, python
from tests.services.templates import NOWHERE, visitors

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = Path(__file__).parents[1] / "test.env"


class Site:
    """What every way to run Patchbay has in common: a sandbox, settings, a database and what is
    configured in it; and gateways, as many as its kind starts."""

    def __init__(self, folder: Path, database_url: str, **settings: str) -> None:
        self.folder = folder
        self.journal = folder / "sandbox.journal"
        self.sandbox_port = free_port()
        self.sandbox_url = f"http://127.0.0.1:{self.sandbox_port}"
        self.keys: dict[str, str] = {}
        self._visitors = itertools.count()
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}",
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "ENV_FILE": str(ENVIRONMENT),
            "DATABASE_URL": database_url,
            "SANDBOX_URL": self.sandbox_url,
            "LOG_LEVEL": "info",
            **settings,
        }
        self.sandbox = self._process(
            "sandbox",
            ["-m", "providers.sandbox", "--port", str(self.sandbox_port)],
            "--journal",
            str(self.journal),
        )

    def configure(self, template: Path, applied: str) -> None:
        """Start the sandbox, lead the providers of the template's copy to it, and apply more."""
        self.sandbox.start(lambda: self.get(f"{self.sandbox_url}/_sandbox/calls")[0] == 200)
        self.keys |= json.loads((template / "keys.json").read_text())
        self.rows(
            "UPDATE providers_provider SET base_url = replace(base_url, ?, ?) RETURNING slug",
            NOWHERE,
            self.sandbox_url,
        )
        if applied:
            self.apply(applied)

    def apply(self, text: str) -> None:
        """Make the database match a configuration file; its new keys join `keys`."""
        file, keys = self.folder / "apply.yaml", self.folder / "keys.json"
        file.write_text(text.replace("{sandbox}", self.sandbox_url))
        keys.unlink(missing_ok=True)
        self.manage("apply", str(file), "--keys-out", str(keys))
        if keys.exists():
            self.keys |= json.loads(keys.read_text())

    def manage(self, *arguments: str) -> str:
        """A management command's output; its errors fail the test in its own words."""
        done = python("manage.py", *arguments, cwd=ROOT, env=self.environment)
        assert done.returncode == 0, f"manage.py {arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def leave_out_catalogue(self) -> None:
        """Gateways that start from now on know what `system.yaml` says, and nothing else: they
        are there the sooner."""
        self.rows(
            "UPDATE providers_provider SET enabled = ? WHERE source = 'builtin' RETURNING slug",
            False,
        )

    def visitor(self) -> str:
        """The test key of a tenant that nobody used before: its breakers are all closed."""
        number = next(self._visitors)
        if f"visitor-{number}/test" not in self.keys:
            self.apply("tenants:\n" + visitors(number))
        return self.keys[f"visitor-{number}/test"]

    def tenant_of(self, key: str) -> str:
        return next(name for name, its in self.keys.items() if its == key).partition("/")[0]

    def rows(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """What the database holds, read (or changed, with RETURNING) beside the running
        gateways. `?` stands for a parameter, whichever database it is."""
        raise NotImplementedError

    def record(self, request_id: str) -> dict[str, Any]:
        """The one ledger row of a call."""
        rows = self.rows("SELECT * FROM usage_usagerecord WHERE request_id = ?", request_id)
        assert len(rows) == 1, rows
        return rows[0]

    @staticmethod
    def get(url: str, **headers: str) -> tuple[int, bytes]:
        """Status and body of a plain GET; (0, b"") when nobody listens."""
        request = urllib.request.Request(url, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def _gateway(self, name: str, port: int) -> ServerProcess:
        return self._process(
            name,
            ["-m", "uvicorn", "config.asgi:application", "--port", str(port)],
            "--no-access-log",
            "--no-proxy-headers",
            "--loop=uvloop",
            "--http=config.http:Protocol",
            "--timeout-graceful-shutdown=10",
        )

    def _process(self, name: str, command: list[str], *options: str) -> ServerProcess:
        return ServerProcess(
            [sys.executable, *command, *options],
            self.folder / f"{name}.log",
            cwd=ROOT,
            env=self.environment,
        )


class System(Site):
    """One gateway worker, one sandbox, one database, in `folder`."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.database = folder / "system.sqlite3"
        super().__init__(folder, f"sqlite:///{self.database}", **settings)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.gateway = self._gateway("gateway", self.port)

    def start(self, template: Path, applied: str = "") -> None:
        """Begin as `template` is (tests/services/templates.py), with `applied` on top."""
        shutil.copy(template / "system.sqlite3", self.database)
        self.configure(template, applied)
        self.start_gateway()

    def start_gateway(self) -> None:
        self.gateway.start(lambda: self.get(f"{self.url}/readyz")[0] == 200)

    def stop(self) -> None:
        self.gateway.stop()
        self.sandbox.stop()

    def rows(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        connection = sqlite3.connect(self.database, timeout=10)
        connection.row_factory = sqlite3.Row
        try:
            with connection:
                return [dict(row) for row in connection.execute(statement, parameters)]
        finally:
            connection.close()


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory, system_template: Path) -> Iterator[System]:
    """The shared system. Leave no trace in it that another test could trip over."""
    system = System(tmp_path_factory.mktemp("system"))
    try:
        system.start(system_template)
        yield system
    finally:
        system.stop()


@pytest.fixture
def new_system(tmp_path: Path, system_template: Path) -> Iterator[Callable[..., System]]:
    """Makes systems of a test's own, with settings of its own; they end with the test."""
    made: list[System] = []

    def make(applied: str = "", **settings: str) -> System:
        system = System(tmp_path / str(len(made)), **settings)
        system.folder.mkdir()
        made.append(system)
        system.start(system_template, applied)
        return system

    yield make
    for system in made:
        system.stop()
