"""Children of `manage.py run` are never left behind, whatever ends the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from config.supervisor import ChildDied, Supervisor
from tests.services.process import until

ROOT = Path(__file__).parents[2]
SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
PARENT = """
import sys
from config.supervisor import Supervisor
supervisor = Supervisor()
supervisor.watch_signals()
supervisor.start("sleeper", {sleeper!r}, {{}})
print(supervisor._children["sleeper"].pid, flush=True)
try:
    supervisor.wait()
finally:
    supervisor.stop()
"""


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_to_the_parent_ends_the_child(number: signal.Signals) -> None:
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux tells a child that its parent was killed")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(sleeper=SLEEPER)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": ".:platform"},
    )
    assert parent.stdout
    child = int(parent.stdout.readline())
    assert lives(child)
    parent.send_signal(number)
    assert parent.wait(timeout=10) == (-number if number == signal.SIGKILL else 0)
    until(lambda: not lives(child))


def test_a_child_that_dies_is_told() -> None:
    supervisor = Supervisor()
    supervisor.start("short one", [sys.executable, "-c", "raise SystemExit(3)"], {})
    with pytest.raises(ChildDied, match="short one ended with code 3"):
        supervisor.wait()
    supervisor.stop()


def test_waiting_ends_with_what_comes_first() -> None:
    supervisor = Supervisor()
    supervisor.start("sleeper", SLEEPER, {})
    try:
        assert supervisor.wait_until(lambda: True, 1)
        assert not supervisor.wait_until(lambda: False, 0.05)
        supervisor.stopping = True
        assert not supervisor.wait_until(lambda: True, 60)
    finally:
        supervisor.stop()


def test_a_child_that_will_not_end_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("config.supervisor.STOP_SECONDS", 0.2)
    ready = tmp_path / "ready"
    stubborn = (
        "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
    )
    supervisor = Supervisor()
    supervisor.start("stubborn", [sys.executable, "-c", stubborn, str(ready)], {})
    until(ready.exists)
    began = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - began < 5
    assert supervisor._children["stubborn"].returncode == -signal.SIGKILL
