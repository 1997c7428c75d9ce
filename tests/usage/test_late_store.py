"""A store that is there and late: what it said last still binds, nobody waits, and what was let in
without asking it is counted by it all the same."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from lib.clock import SystemClock
from lib.problems import Unavailable
from tests.loops import eventually, on_loop
from tests.services.valkey import Valkey
from tests.usage.counters.stage import Book, quota, rate, slots
from usage.admission import Admissions
from usage.counters.claims import Amounts, Claim, Part
from usage.counters.shared import SharedCounters

ONE = Amounts(requests=1, tokens=7)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, the connection is not given up within a test."""
    monkeypatch.setattr("lib.resp.SILENCE", 20.0)
    monkeypatch.setattr("lib.resp.LONGEST", 20.0)


@contextlib.asynccontextmanager
async def gateways(server: Valkey, number: int) -> AsyncIterator[list[Admissions]]:
    """As in production: 40 ms, and nobody's clock but the machine's."""
    names = [f"g{place}" for place in range(number)]
    book, clock = Book(*names), SystemClock()
    counters = [SharedCounters(server.url, name, book) for name in names]
    for one in counters:
        await one.start()
    await eventually(lambda: all(one.ready for one in counters))
    yield [Admissions(one, book, clock, name) for one, name in zip(counters, names, strict=True)]
    for one in counters:
        await one.close()


async def let_in(gateway: Admissions, calls: int, *claims: Claim) -> int:
    """How many of so many calls are, one after another."""
    grants = [await gateway.admit(f"c{n}", Part(claims, ONE), ()) for n in range(calls)]
    return sum(grant.refusal is None for grant in grants)


async def in_time(gateway: Admissions, *claims: Claim) -> int:
    """One call that the store decides, sooner or later."""
    while True:
        await eventually(lambda: gateway.counters.ready)
        grant = await gateway.admit("c", Part(claims, ONE), ())
        if not grant.away:
            return grant.refusal is None


@on_loop
async def test_a_full_limit_stays_full(valkey: Valkey) -> None:
    limit = rate(10)
    async with gateways(valkey, 1) as [gateway]:
        while await in_time(gateway, limit):
            pass
        with valkey.frozen():
            assert await let_in(gateway, 30, limit) == 0


@on_loop
async def test_each_gateway_gives_out_its_share_of_what_was_left(valkey: Valkey) -> None:
    """And what they let in is counted: together it is the limit, and not one call more."""
    limit = rate(10)
    async with gateways(valkey, 2) as both:
        assert [await in_time(each, limit) for each in (*both, *both)] == [True] * 4
        with valkey.frozen():
            assert [await let_in(each, 20, limit) for each in both] == [3, 3]  # of 7 and of 6
        assert not await in_time(both[0], limit)
        assert not await in_time(both[1], limit)


@on_loop
async def test_what_was_not_asked_is_counted_beside_what_is_settled(valkey: Valkey) -> None:
    """Tokens and slots are settled, so that nobody claims of them unheard; requests are counted."""
    limit, others = rate(10), [rate(1000, metric="tokens"), slots(9)]
    async with gateways(valkey, 1) as [gateway]:
        assert await in_time(gateway, limit, *others)
        with valkey.frozen():
            assert await let_in(gateway, 20, limit, *others) == 9
        assert not await in_time(gateway, limit)
        with valkey.client() as client:
            assert int(client.get("{patchbay}:slots:a") or 0) <= 2  # the first, and one unheard


@on_loop
async def test_a_limit_that_it_never_spoke_of_is_kept_alone(valkey: Valkey) -> None:
    async with gateways(valkey, 1) as [gateway]:
        assert await in_time(gateway, rate(5, whose="b"))
        with valkey.frozen():
            assert await let_in(gateway, 20, rate(5, whose="a")) == 5
            assert await let_in(gateway, 20, rate(5, whose="b")) == 4


@on_loop
async def test_an_old_word_does_not_bind(valkey: Valkey) -> None:
    """What it said a whole span ago is past."""
    limit = rate(5, per_seconds=1)
    async with gateways(valkey, 1) as [gateway]:
        while await in_time(gateway, limit):
            pass
        said = time.monotonic()
        with valkey.frozen():
            await eventually(lambda: time.monotonic() > said + 1.1)
            assert await let_in(gateway, 20, limit) == 5


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@on_loop
async def test_it_is_told_while_it_is_late(valkey: Valkey) -> None:
    def unasked() -> list[float]:
        name = "patchbay_calls_without_counters_total"
        outcomes = ("admitted", "refused", "store_unavailable")
        return [sample(name, outcome=outcome) for outcome in outcomes]

    async with gateways(valkey, 1) as [gateway]:
        assert await in_time(gateway, rate(4))
        before = unasked()
        with valkey.frozen():
            assert await let_in(gateway, 5, rate(4)) == 3
            with pytest.raises(Unavailable):
                await let_in(gateway, 1, quota(4, time.time()))
            assert not gateway.counters.ready
            await eventually(lambda: sample("patchbay_counters_degraded"))
        assert [now - then for now, then in zip(unasked(), before, strict=True)] == [3, 2, 1]
        await eventually(lambda: gateway.counters.ready)
        await eventually(lambda: not sample("patchbay_counters_degraded"))
