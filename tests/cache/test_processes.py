"""Workers in processes of their own, on one real store."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import eventually
from tests.services.valkey import Valkey

ROOT = Path(__file__).resolve().parents[2]


class Worker:
    def __init__(self, url: str, calls: int, takes: float, journal: Path) -> None:
        command = [sys.executable, "-m", "tests.cache.cache_worker", url, str(calls), str(takes)]
        self.process = subprocess.Popen(
            [*command, str(journal)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> None:
        assert self.process.stdout
        assert any(line == "ready\n" for line in self.process.stdout)

    def go(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def heard(self) -> list[str]:
        return self.process.communicate(timeout=30)[0].split()


@contextlib.contextmanager
def workers(*made: Worker) -> Iterator[None]:
    try:
        for worker in made:
            worker.ready()
        yield
    finally:
        for worker in made:
            worker.process.kill()
            worker.process.wait()


@pytest.mark.chaos
@pytest.mark.only_long  # tests/chaos/test_cached.py asks whole gateways in either form
def test_equal_calls_of_two_processes_ask_once_and_a_killed_leader_is_replaced(
    valkey: Valkey, tmp_path: Path
) -> None:
    journal = tmp_path / "asked"
    journal.touch()
    one = Worker(valkey.url, 500, 60.0, journal)
    two = Worker(valkey.url, 500, 0.05, journal)
    three = Worker(valkey.url, 500, 0.05, journal)
    with workers(one, two, three):
        one.go()
        eventually(journal.read_text)
        two.go()
        three.go()
        time.sleep(0.3)  # in which they must not ask
        assert journal.read_text().split() == [str(one.process.pid)]
        begun = time.monotonic()
        one.process.kill()
        heard = [two.heard(), three.heard()]
        assert time.monotonic() - begun < 5
    asked = journal.read_text().split()
    assert len(asked) == 2 and heard == [[asked[1]], [asked[1]]]
