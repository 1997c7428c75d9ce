"""A gateway's cache beside Django: on a loop in a thread of its own, as in production."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

import pytest

from api import vitals
from cache import naming
from cache.cache import Cache, Place
from cache.freshness import State
from lib.clock import SystemClock
from tests.cache.serving import SECRET, Provider, ask, serve, state_of

MOST_SECONDS = 10


class Beside:
    """`caches`, as many gateways have; the first is this process's."""

    def __init__(self, number: int, url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.caches = [Cache(SECRET, url=url) for _ in range(number)]
        for cache in self.caches:
            self.run(cache.start())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(MOST_SECONDS)

    def keep(
        self, tenant: int | None = 7, symbol: str = "AAPL", names: Sequence[str] = (), to: int = 0
    ) -> bytes:
        """A quote that the gateway `to` has from now on; its key's id."""
        cache, place = self.caches[to], _place(tenant)
        tags = [*naming.of_call(place), *naming.of_fields({"symbol": symbol})]
        provider = Provider(SystemClock())
        provider.tags = naming.of_answer("lab", "gpt-x")

        async def kept() -> bytes:
            asked = ask(
                cache, symbol, place=place, tags=tags + naming.of_client(tenant or 0, names)
            )
            await serve(cache, asked, provider)
            return asked.key[:16]

        key: bytes = self.run(kept())
        return key

    def has(self, tenant: int | None = 7, symbol: str = "AAPL", at: int = 0) -> bool:
        cache = self.caches[at]

        async def found() -> bool:
            return await state_of(cache, ask(cache, symbol, place=_place(tenant))) is State.FRESH

        return bool(self.run(found()))

    def close(self) -> None:
        for cache in self.caches:
            self.run(cache.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def _place(tenant: int | None) -> Place:
    return Place(tenant, "live", "finance.quote", route="finance.quote")


@contextlib.contextmanager
def beside(patch: pytest.MonkeyPatch, number: int = 1, url: str = "") -> Iterator[Beside]:
    made = Beside(number, url)
    patch.setattr(vitals.WORKER, "cache", lambda: made.caches[0])
    patch.setattr(vitals.WORKER, "on_loop", made.run)
    try:
        yield made
    finally:
        made.close()
