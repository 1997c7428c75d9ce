"""How Django reaches the cache: this process's own lives on the gateway's loop; a process that
serves no calls has the store that all gateways share, or nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Any, TypeVar

from django.conf import settings

from api.vitals import STARTED, WORKER
from cache.cache import Cache
from cache.figures import Figures
from lib.clock import rfc3339, utc
from lib.problems import Unavailable
from lib.stores import StoreAway

T = TypeVar("T")
Work = Callable[[Cache], Coroutine[Any, Any, T]]
PATIENCE = 1.0  # seconds for the store, where no call waits for it
NO_STORE = (
    "This process serves no calls, and without REDIS_URL the cache is in the gateway's memory "
    "alone. Ask the gateway: GET /internal/v1/cache/status, POST /internal/v1/cache/invalidate."
)
_FOUND = ("hits", "shared_hits", "waited", "stale", "on_error")


def reach(work: Work[T]) -> T:
    """Have it done with the cache. Raises Unavailable."""
    cache = WORKER.cache()
    if cache is None:
        return asyncio.run(_from_outside(work))
    try:
        done: T = WORKER.on_loop(work(cache))
    except TimeoutError:
        raise Unavailable(
            "The gateway is too busy to say whether that was done. Try again.",
            code="store_unavailable",
            retry_after=1,
        ) from None
    return done


def status() -> dict[str, Any]:
    """Both levels, and what this gateway's cache has done. Raises Unavailable."""
    cache = WORKER.cache()
    return {
        "memory": None if cache is None else _memory(cache),
        "shared": reach(_shared),
        "figures": None if cache is None else _figures(cache.figures),
        "since": None if cache is None else since(),
    }


def since() -> str:
    """When this process began."""
    return rfc3339(utc(int(time.time() - (time.monotonic() - STARTED))))


def _memory(cache: Cache) -> dict[str, int]:
    memory = cache.memory
    return {
        "bytes": memory.size,
        "limit_bytes": memory.limit,
        "entries": len(memory),
        "evictions": memory.evicted,
    }


async def _shared(cache: Cache) -> dict[str, Any]:
    """None of what it holds where it cannot be asked."""
    level = cache.shared
    try:
        filled = (await level.filled())._asdict()
    except StoreAway:
        filled = {"bytes": None, "entries": None}
    configured = {"configured": level.limit > 0, "usable": level.usable}
    return {**configured, **filled, "limit_bytes": level.limit or None}


def _figures(figures: Figures) -> dict[str, Any]:
    told = asdict(figures)
    found = sum(told[name] for name in _FOUND)
    return {**told, "hit_ratio": ratio(found, found + figures.misses)}


def ratio(part: float, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


async def _from_outside(work: Work[T]) -> T:
    env = settings.ENV
    if not env.REDIS_URL:
        raise Unavailable(NO_STORE, code="store_unavailable")
    cache = Cache(
        env.SECRET_KEY.encode(),
        url=env.REDIS_URL,
        memory_bytes=0,
        shared_bytes=env.CACHE_SHARED_BYTES,
        patience=PATIENCE,
    )
    await cache.start()
    try:
        return await work(cache)
    finally:
        await cache.close()
