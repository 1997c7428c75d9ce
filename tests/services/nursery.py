"""Python processes begun as forks of one that has everything imported which they all import: that
is half of a gateway's start, and the tests start hundreds of them.

What reads the environment when it is imported, such as the settings, is left to each of them. That
a process also starts from nothing is told by tests/config/test_run.py.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 128 * 1024  # bytes that a process is asked for with, its environment included
IMPORTED = (
    "uvicorn.main",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
    "django.core.management",
    "django.db.backends.sqlite3.base",
    "django.db.backends.postgresql.base",
    "django.contrib.admin",
    "redis.asyncio",
    "cryptography.fernet",
    "jwt",
    "config.environment",
    "providers.surfaces",
    "providers.transport",
    "gateway.paths",
    "cache.cache",
    "usage.counters.shared",
    "usage.counters.memory",
)


class Child:
    """One of its processes: as much of `subprocess.Popen` as the tests use."""

    def __init__(self, nursery: Nursery, command: Sequence[str], pid: int) -> None:
        self._nursery = nursery
        self._ended = select.poll()
        self._handle = os.pidfd_open(pid)
        self._ended.register(self._handle, select.POLLIN)
        self.args = command
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended, as Popen says it; None while it runs."""
        if self.returncode is None and self._ended.poll(0):
            self._bury()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not self._ended.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
            self._bury()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _bury(self) -> None:
        self.returncode = self._nursery.end_of(self.pid)
        os.close(self._handle)


class Nursery:
    """The process that forks. It ends with the process that made it."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._socket, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        paths = f"{ROOT}{os.pathsep}{ROOT / 'platform'}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.services.nursery", str(its.fileno())],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            pass_fds=[its.fileno()],
        )
        its.close()
        atexit.register(self._close)

    def start(
        self, command: Sequence[str], out: int, err: int, *, cwd: Path, env: Mapping[str, str]
    ) -> Child:
        """`command` without the interpreter: `-m module …` or `script.py …`. What it says goes to
        the files `out` and `err`."""
        wanted = {"command": command, "cwd": str(cwd), "env": {**env}}
        return Child(self, command, self._ask(wanted, [out, err]))

    def run(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """What became of it, with what it said."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            child = self.start(command, out.fileno(), err.fileno(), cwd=cwd, env=env)
            ended = child.wait()
            texts = [_all_of(file) for file in (out, err)]
        return subprocess.CompletedProcess(command, ended, *texts)

    def end_of(self, pid: int) -> int:
        """The return code of one that has ended."""
        return self._ask({"ended": pid}, [])

    def _close(self) -> None:
        self._socket.close()
        self._process.wait()

    def _ask(self, what: Mapping[str, Any], files: Sequence[int]) -> int:
        with self._asking:
            socket.send_fds(self._socket, [json.dumps(what).encode()], files)
            return int(self._socket.recv(32))


def _all_of(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def _live(asked: socket.socket) -> dict[str, Any]:
    """Begin what is asked for. Returns in each child, with what it is to become."""
    while True:
        text, files, _, _ = socket.recv_fds(asked, LARGEST, 2)
        if not text:
            sys.exit()
        what: dict[str, Any] = json.loads(text)
        if "ended" in what:
            answer = os.waitstatus_to_exitcode(os.waitpid(what["ended"], 0)[1])
        else:
            answer = _forked(files)
            if answer == 0:
                asked.close()
                return what
        asked.send(str(answer).encode())


def _forked(files: Sequence[int]) -> int:
    """A child's process id; 0 in the child, which speaks to `files`."""
    pid = os.fork()
    if pid == 0:
        for number, file in enumerate(files, 1):
            os.dup2(file, number)
    for file in files:
        os.close(file)
    return pid


def _become(what: Mapping[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(what["env"])
    os.chdir(what["cwd"])
    first, *others = what["command"]
    if first == "-m":
        sys.argv = others
        runpy.run_module(others[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *others]
        runpy.run_path(first, run_name="__main__")


def _prepare() -> None:
    """Have at hand what all need: modules, and the shipped definitions compiled."""
    for name in IMPORTED:
        importlib.import_module(name)
    from providers.catalogue import load_documents
    from providers.dialects import adapter_for

    for shipped in load_documents():
        adapter_for(shipped.adapter, {**shipped.document})
    gc.freeze()


if __name__ == "__main__":
    _prepare()
    _become(_live(socket.socket(fileno=int(sys.argv[1]))))
