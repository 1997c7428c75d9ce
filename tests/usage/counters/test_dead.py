"""What one gateway does for those that died, and where the database is away when it starts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lib.stores import StoreAway
from tests.loops import eventually, on_loop
from tests.services.valkey import Valkey
from tests.usage.counters.stage import Book, OneClock, quota, shared
from usage.counters import shared as module
from usage.counters.claims import Amounts, Hold, Part
from usage.counters.shared import SharedCounters

CLOCK = OneClock()
REQUESTS = quota(7, CLOCK.now())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TEND_SECONDS", 0.01)
    monkeypatch.setattr(module, "AUDIT_TURNS", 2)


class Away(Book):
    """A database that cannot be asked yet."""

    away = True

    async def beat(self) -> None:
        if self.away:
            raise StoreAway("OperationalError")

    async def processes(self) -> Sequence[str]:
        if self.away:
            raise StoreAway("OperationalError")
        return await super().processes()


async def dies(counters: SharedCounters) -> None:
    """As with -9: it says nothing to anybody any more."""
    for task in counters._tasks:
        task.cancel()
    await counters._store.close()


async def reserved(counters: SharedCounters) -> int:
    [used] = await counters.read([REQUESTS])
    assert used is not None
    return used.reserved


@on_loop
async def test_the_dead_are_forgotten_when_their_holds_are_settled(valkey: Valkey) -> None:
    book = Book("one", "two")
    one, two = (shared(valkey.url, book, name, CLOCK) for name in ("one", "two"))
    await one.start()
    await two.start()
    await eventually(lambda: one.ready and two.ready)
    number, _ = await two.begin_filling(REQUESTS)
    await two.fill(REQUESTS, number, 0, [])
    assert (await two.admit(Hold("h"), Part([REQUESTS], Amounts(requests=1)))).granted
    await dies(two)
    assert await reserved(one) == 1
    book.buried.add("two")
    await eventually(lambda: book.alive == ["one"])
    assert await reserved(one) == 0
    await one.close()


@on_loop
async def test_the_dead_are_buried_though_the_store_knows_nothing_of_them(valkey: Valkey) -> None:
    """It was emptied after they had died: what they left open is in the database alone."""
    book = Book("one", "dead")
    book.buried.add("dead")
    one = shared(valkey.url, book, "one", CLOCK)
    await one.start()
    await eventually(lambda: one.ready and book.alive == ["one"])
    await one.close()


@on_loop
async def test_it_joins_though_the_database_was_away_at_the_start(valkey: Valkey) -> None:
    book = Away("one")
    one = shared(valkey.url, book, "one", CLOCK)
    await one.start()
    assert not one.ready
    book.away = False
    await eventually(lambda: one.ready)
    await one.close()
