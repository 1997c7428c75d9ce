"""DATABASE_URL to Django's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


def database(url: str, root: Path) -> dict[str, Any]:
    """SQLite in WAL mode, or PostgreSQL with psycopg's pool."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        # As others read it: three slashes and a relative path, or four and an absolute one.
        return _sqlite(root / unquote(parts.path.removeprefix("/")))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.removeprefix("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "OPTIONS": {
            # The pool waits twice as long before each try of a reconnection: begin anew soon,
            # so that a gateway is seen again soon after the database is back.
            "pool": {"min_size": 1, "max_size": 8, "timeout": 5, "reconnect_timeout": 3},
            **dict(parse_qsl(parts.query)),
        },
    }


def _sqlite(path: Path) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": {
            # A writer takes the lock when it begins, so two never fail half-way (SQLITE_BUSY).
            "transaction_mode": "IMMEDIATE",
            "timeout": 10,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
        "TEST": {"NAME": str(path.with_name("test.sqlite3"))},
    }
