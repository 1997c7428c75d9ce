"""Blocking look-ups for code that lives on an event loop: a few threads, each with its own
database connection, and no more than that many connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django import db

from lib.stores import StoreAway

T = TypeVar("T")


class LookUps:
    """`await run(function, …)` calls a function that may use the ORM. Raises StoreAway."""

    def __init__(self, threads: int = 4) -> None:
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="look-up")

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _with_fresh_connection, function, args)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _with_fresh_connection(function: Callable[..., T], args: tuple[Any, ...]) -> T:
    """A connection that died with its server is put away, not used again."""
    try:
        db.close_old_connections()
        return function(*args)
    except _faults() as error:
        db.connections.close_all()
        raise StoreAway(type(error).__name__) from None
    finally:
        db.close_old_connections()  # one that idles here is missing from PostgreSQL's pool


def _faults() -> tuple[type[Exception], ...]:
    """Django's, and what drivers raise themselves: a cursor that the server holds is closed without
    a translation."""
    mine: Any = db.connections.all(initialized_only=True)
    return (db.Error, *(each.Database.Error for each in mine))
