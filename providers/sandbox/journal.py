"""One JSON line for every AI and data call, when it ends: the oracle of the kill tests.

A line is one write to a file opened for appending, so lines of several processes never mix;
with `fsync` it is on the disk before the call is over.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson


class Journal:
    """Keeps nothing when `path` is None."""

    def __init__(self, path: Path | None = None, *, fsync: bool = True) -> None:
        self._fsync = fsync
        self._file: int | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def append(self, line: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        os.write(self._file, orjson.dumps(line) + b"\n")
        if self._fsync:
            os.fsync(self._file)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
