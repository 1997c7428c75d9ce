"""`manage.py worker` as a process: several share the jobs, and SIGTERM ends it at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from tests.services.process import until

ROOT = Path(__file__).parents[2]


def start(url: str, heartbeat: Path) -> subprocess.Popen[str]:
    environment = os.environ | {
        "DATABASE_URL": url,
        "LOG_LEVEL": "info",
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    command = [sys.executable, "manage.py", "worker", "--heartbeat", str(heartbeat)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def test_two_workers_share_the_jobs_of_one_database(postgres_url: str, tmp_path: Path) -> None:
    workers = [start(postgres_url, tmp_path / name) for name in ("a", "b")]
    try:
        until(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists())
        with psycopg.connect(postgres_url) as connection:
            rows = connection.execute("SELECT job, runs FROM config_claim").fetchall()
        assert len(rows) >= 3
        assert {runs for _, runs in rows} == {1}
    finally:
        began = time.monotonic()
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        logs = [worker.communicate(timeout=20)[0] for worker in workers]
    assert time.monotonic() - began < 5
    assert [worker.returncode for worker in workers] == [0, 0]
    assert all('"event":"worker_stopped"' in log for log in logs)
