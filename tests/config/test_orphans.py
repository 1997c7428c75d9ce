"""Only a gateway that is alone closes what it finds open, and it starts whatever happens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError

from config import orphans
from config.orphans import reap_if_alone

HOLDER = """
import fcntl, sys, time
mark = open(sys.argv[1], "ab")
fcntl.flock(mark, fcntl.LOCK_SH)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def reaped(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One entry for every time that it was reaped."""
    calls: list[Any] = []
    monkeypatch.setattr(orphans, "reap", lambda *, opened_before: calls.append(opened_before))
    return calls


@pytest.fixture
def database(tmp_path: Path) -> dict[str, Any]:
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "patchbay.sqlite3")}


@pytest.fixture
def neighbour(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another gateway's process on the same database."""
    mark = str(tmp_path / "patchbay.sqlite3.gateways")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, mark], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_only_gateway_reaps_at_its_start(database: dict[str, Any], reaped: list[Any]) -> None:
    with reap_if_alone(database):
        assert len(reaped) == 1


def test_beside_a_living_gateway_nothing_is_touched(
    database: dict[str, Any], reaped: list[Any], neighbour: subprocess.Popen[str]
) -> None:
    with reap_if_alone(database):
        assert reaped == []


def test_a_killed_gateway_is_no_company(
    database: dict[str, Any], reaped: list[Any], neighbour: subprocess.Popen[str]
) -> None:
    neighbour.kill()
    neighbour.wait()
    with reap_if_alone(database):
        assert len(reaped) == 1


def test_one_that_came_second_is_company_for_the_third(
    database: dict[str, Any], reaped: list[Any], neighbour: subprocess.Popen[str]
) -> None:
    with reap_if_alone(database):
        neighbour.kill()
        neighbour.wait()
        with reap_if_alone(database):
            assert reaped == []


def test_other_databases_are_left_to_the_worker(reaped: list[Any]) -> None:
    with reap_if_alone({"ENGINE": "django.db.backends.postgresql", "NAME": "patchbay"}):
        assert reaped == []


def test_a_gateway_starts_though_its_database_is_away(
    database: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_: Any) -> int:
        raise OperationalError("database is locked")

    monkeypatch.setattr(orphans, "reap", away)
    with reap_if_alone(database):
        pass
