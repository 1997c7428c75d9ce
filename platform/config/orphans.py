"""At its start, the only gateway of an SQLite database closes what the one before it left open.

Only alone can it be sure that no living process will still end those calls. Beside another
gateway, or with PostgreSQL, they wait for their expiry and for the worker (config/jobs.py).
"""

from __future__ import annotations

import fcntl
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import structlog
from django.db import DatabaseError, connections
from django.utils import timezone

from usage.reaper import reap

log = structlog.get_logger("patchbay.gateway")


def reap_if_alone(database: dict[str, Any]) -> AbstractContextManager[object]:
    """Blocking; before the first call is taken. What it returns is to be held as long as calls
    are served: the shared lock of a gateway that lives. It dies with the process."""
    if "sqlite3" not in database["ENGINE"]:
        return nullcontext()
    path = Path(database["NAME"])
    mark = path.with_name(f"{path.name}.gateways").open("ab")
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("orphans_left_to_worker", reason="another gateway uses this database")
    else:
        _reap()
    fcntl.flock(mark, fcntl.LOCK_SH)
    return mark


def _reap() -> None:
    try:
        reap(opened_before=timezone.now())
    except DatabaseError as error:  # the gateway must start all the same; the worker does it later
        log.warning("orphans_left_to_worker", reason=type(error).__name__)
    finally:
        connections.close_all()
