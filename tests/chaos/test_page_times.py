"""Every page over a thousand calls and over a million: as many queries, and none is slow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.reporting import FIGURES
from tests.services.postgres import SYSTEM, Postgres
from tests.services.system import ENVIRONMENT, ROOT

pytestmark = [pytest.mark.chaos, pytest.mark.only_long]
FEW, MANY, TURNS = 1_000, 1_000_000, 20
MOST_QUERIES, MOST_MS = 15, 300
Pages = dict[str, dict[str, Any]]


def visited(database_url: str, rows: int) -> Pages:
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "ENV_FILE": str(ENVIRONMENT),
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}",
    }
    command = [sys.executable, "-m", "tests.chaos.page_times", str(rows), str(TURNS)]
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert told.returncode == 0, told.stderr.decode()
    pages: Pages = json.loads(told.stdout)["pages"]
    return pages


def p(share: float, times: list[float]) -> float:
    return times[min(len(times) - 1, int(share * len(times)))]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes a database with the catalogue."""

    def on_sqlite() -> str:
        template: Path = request.getfixturevalue("system_template")
        name = f"{len(list(tmp_path.iterdir()))}.sqlite3"
        return f"sqlite:///{shutil.copy(template / 'system.sqlite3', tmp_path / name)}"

    def on_postgres() -> str:
        server: Postgres = request.getfixturevalue("postgres")
        return server.url(server.create_database(SYSTEM))

    return on_sqlite if request.param == "sqlite" else on_postgres


def test_pages_do_not_notice_how_many_calls_there_were(
    url: Callable[[], str],
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    few, many = visited(url(), FEW), visited(url(), MANY)
    lines = [f"{'queries':>9}  ms, p50 and p95, of {FEW:,} calls and of {MANY:,}; at work (p95)"]
    for page, told in sorted(many.items(), key=lambda each: -p(0.95, each[1]["ms"])):
        times = [p(share, of[page]["ms"]) for of in (few, many) for share in (0.5, 0.95)]
        shown = "".join(f"{ms:9.1f}" for ms in (*times, p(0.95, told["cpu"])))
        lines.append(f"{few[page]['queries']:4} {told['queries']:4}{shown}  {page}")
    figures = "\n".join(lines)
    record_property(FIGURES, figures)
    assert few.keys() == many.keys()
    for page, told in many.items():
        assert told["queries"] == few[page]["queries"] <= MOST_QUERIES, page
    # SQLite works in our process: what else runs on the machine is not in its time at work.
    measure = "cpu" if request.node.callspec.params["url"] == "sqlite" else "ms"
    slow = {page for page, told in many.items() if p(0.95, told[measure]) >= MOST_MS}
    assert not slow, figures
