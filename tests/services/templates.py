"""Databases to begin with: copies of these, which are made once for all test processes.
Migrations and the catalogue take seconds, a copy takes milliseconds."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.postgres import SYSTEM, TABLES, Postgres, postgres_folder

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = Path(__file__).with_name("system.yaml")
NOWHERE = "http://127.0.0.1:1"  # for which each system puts its own sandbox's address
VISITORS = 50  # that a database begins with
MadeOnce = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """`made_once(name, make)`: the folder that `make(folder)` filled, in the first process
    that asked for it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # of all processes

    def once(name: str, make: Callable[[Path], None]) -> Path:
        folder, unfinished = shared / name, shared / f"unfinished-{name}"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                unfinished.mkdir()
                make(unfinished)
                unfinished.rename(folder)
        return folder

    return once


@pytest.fixture(scope="session")
def sqlite_tables(made_once: MadeOnce) -> Path:
    """A SQLite file with our tables, empty."""

    def make(folder: Path) -> None:
        manage(_sqlite(folder / "tables.sqlite3"), "migrate", "--skip-checks")

    return made_once("sqlite-tables", make) / "tables.sqlite3"


@pytest.fixture(scope="session")
def system_template(made_once: MadeOnce, sqlite_tables: Path) -> Path:
    """`system.sqlite3`, with all that is in `system.yaml`, and `keys.json`."""

    def make(folder: Path) -> None:
        database = shutil.copy(sqlite_tables, folder / "system.sqlite3")
        fill(_sqlite(database), folder)

    return made_once("sqlite", make)


@pytest.fixture(scope="session")
def postgres_template(made_once: MadeOnce) -> Path:
    """`data` of a stopped server with the databases TABLES and SYSTEM, and `keys.json`."""

    def make(folder: Path) -> None:
        with postgres_folder() as its_own:
            server = Postgres(its_own)
            server.create()
            server.start()
            try:
                server.create_database(name=TABLES)
                manage(server.url(TABLES), "migrate", "--skip-checks")
                server.create_database(TABLES, name=SYSTEM)
                fill(server.url(SYSTEM), folder)
            finally:
                server.stop()
            shutil.move(server.data, folder / "data")

    return made_once("postgres", make)


@pytest.fixture(scope="session")
def cluster_template(postgres_template: Path) -> Path:
    """What systems and clusters on PostgreSQL begin as."""
    return postgres_template


def fill(database_url: str, folder: Path) -> None:
    """The catalogue, and what the tests' system serves; the keys are written into `folder`."""
    manage(database_url, "load_catalogue", "--skip-checks")
    file = folder / "system.yaml"
    file.write_text(CONFIGURATION.read_text().replace("{sandbox}", NOWHERE) + visitors(0))
    manage(database_url, "apply", str(file), "--keys-out", str(folder / "keys.json"))


def manage(database_url: str, *command: str) -> None:
    """A management command on a database."""
    environment = {"DATABASE_URL": database_url, "DJANGO_SETTINGS_MODULE": "config.settings"}
    subprocess.run(
        [sys.executable, ROOT / "manage.py", *command],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | environment,
    )


def _sqlite(file: Path) -> str:
    return f"sqlite:///{file}"


def visitors(first: int) -> str:
    """Tenants that tests take one by one (`Site.visitor`), as lines of a configuration's
    `tenants`, numbered from `first`."""
    return "".join(
        f"  - {{slug: visitor-{number}, plan: unlimited, projects: [{{slug: default}}],"
        " keys: [{name: test, mode: test, scopes: ['*']}]}\n"
        for number in range(first, first + VISITORS)
    )
