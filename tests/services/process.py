"""A server of the tests' own: started on a free port, waited for, killed and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

from tests.services.nursery import Child, Nursery

START_SECONDS = 60.0
LOWEST_PORT, HIGHEST_PORT, SHARES = 12_000, 32_000, 16
NOBODY = 65534


@cache
def nursery() -> Nursery | None:
    """None where the system cannot tell that a process of another one's has ended."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return None
    return Nursery()


def python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """What became of a program of ours that ends by itself; its `options` are `cwd` and `env`."""
    if forks := nursery():
        return forks.run(arguments, **options)
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, each one once, and no other test process's. It
    lies below those that the kernel gives to connections: one of these could be gone before the
    server that it is for takes it."""
    for port in _ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("No port of this process's is free any more.")


def _own_ports() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw15").removeprefix("gw")) % SHARES
    mine = list(range(LOWEST_PORT + worker, HIGHEST_PORT, SHARES))
    begin = os.getpid() % len(mine)  # two runs at the same time begin elsewhere
    yield from mine[begin:] + mine[:begin]


_ports = _own_ports()


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class ServerProcess:
    """One process and its log. `ready` says when it can be used."""

    def __init__(self, command: Sequence[str], log: Path, **options: Any) -> None:
        self.command = list(command)
        self.log = log
        self.options = options
        self.process: subprocess.Popen[bytes] | Child | None = None

    def start(self, ready: Callable[[], bool]) -> None:
        with self.log.open("ab") as log:
            self.process = self._begun(log)
        until(ready, alive=lambda: self.running, log=self.log)

    def _begun(self, log: IO[bytes]) -> subprocess.Popen[bytes] | Child:
        program, *arguments = self.command
        is_ours = program == sys.executable and self.options.keys() == {"cwd", "env"}
        if is_ours and (forks := nursery()):
            return forks.start(arguments, log.fileno(), log.fileno(), **self.options)
        return subprocess.Popen(
            self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **self.options
        )

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It is there, keeps what it knows, and does nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a crash would: SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        if self.running:
            self.process.send_signal(number)
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def until(
    ready: Callable[[], bool], *, alive: Callable[[], bool] = lambda: True, log: Path | None = None
) -> None:
    """Wait for `ready`, at most START_SECONDS; a server that ended meanwhile shows its log."""
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if not alive() or time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-2000:] if log else ""
            why = "was not ready in time" if alive() else "ended before it was ready"
            raise RuntimeError(f"{why}:\n{tail}")
        time.sleep(0.02)


def unprivileged() -> dict[str, Any]:
    """Popen's options to leave root behind, for servers that refuse to run as root."""
    if os.geteuid() != 0:
        return {}
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []}


def own(path: Path) -> None:
    """Give a file to the user that `unprivileged` stands for."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


def is_alive(pid: int) -> bool:
    """Whether a process, not ours to wait for, still runs (Linux)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
