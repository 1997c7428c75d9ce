"""Child processes of one command: started, waited for, and never left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

STOP_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1


class ChildDied(Exception):
    """A child ended though nobody asked it to."""


@dataclass(slots=True)
class Supervisor:
    """`stopping` is set by SIGINT and SIGTERM (a plain flag: a handler must not meet a lock)."""

    stopping: bool = False
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def watch_signals(self) -> None:
        def stop(*_: object) -> None:
            self.stopping = True

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, stop)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """A child in our own process group, so that what ends the group ends it too."""
        self._children[name] = subprocess.Popen(  # noqa: S603 - our own commands
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads yet
        )

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Whether `ready` came true in time. Raises ChildDied."""
        end = time.monotonic() + seconds
        while not self.stopping:
            if ready():
                return True
            self._check()
            if time.monotonic() > end:
                return False
            time.sleep(0.03)
        return False

    def wait(self) -> None:
        """Until a signal comes. Raises ChildDied."""
        while not self.stopping:
            self._check()
            time.sleep(0.1)

    def stop(self) -> None:
        """End every child, the last one first, so that none loses what it stands on while it
        finishes: gently, and, when STOP_SECONDS are over, by force."""
        end = time.monotonic() + STOP_SECONDS
        for child in reversed(self._children.values()):
            if child.poll() is None:
                child.terminate()
            try:
                child.wait(timeout=max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _check(self) -> None:
        for name, child in self._children.items():
            if child.poll() is not None:
                raise ChildDied(f"The {name} ended with code {child.returncode}; see above why.")


def _end_with_parent() -> None:
    """The kernel ends the child when its parent is killed and cannot (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
