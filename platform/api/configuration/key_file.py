"""Where `apply --keys-out` puts new keys: a JSON file that only its owner can read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


def write_keys(path: Path, keys: Mapping[str, str]) -> None:
    """Add `keys` to the file; those of earlier runs stay. Raises OSError, ValueError.

    Written beside it and moved in place: at no instant is the file half written, or readable
    for others.
    """
    kept = json.loads(path.read_text()) if path.exists() else {}
    if path.exists() and not keys:
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({**kept, **keys}, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
