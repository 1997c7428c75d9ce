"""Who is dead is buried, with all that was left open; nobody else is."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator

import pytest
from django.utils import timezone

from lib.threads import LookUps
from tests.usage.counters.stage import OneClock
from tests.usage.entries import record
from usage import processes
from usage.counters.claims import MICROSECONDS
from usage.models import OpenCall, Process, UsageRecord
from usage.truth import LedgerTruth

pytestmark = pytest.mark.django_db(transaction=True)  # look-ups have connections of their own


@pytest.fixture
def look_ups() -> Iterator[LookUps]:
    look_ups = LookUps(threads=1)
    yield look_ups
    look_ups.close()


def last_seen(name: str, ago: dt.timedelta = dt.timedelta(0)) -> None:
    Process.objects.create(name=name, seen_at=timezone.now() - ago)


def leave_open(gateway: str) -> None:
    row, now = record(streamed=True), timezone.now()
    OpenCall.objects.create(
        request_id=row.request_id,
        opened_at=now,
        expires_at=now + dt.timedelta(minutes=1),
        gateway=gateway,
        record=row.as_document(),
    )


def test_whoever_may_have_something_to_settle_is_known_until_it_is_settled() -> None:
    last_seen("alive")
    last_seen("dead", dt.timedelta(hours=1))
    assert sorted(processes.known()) == ["alive", "dead"]
    processes.forget("alive")  # it was taken for dead, and came back
    processes.forget("dead")
    assert processes.known() == ["alive"]
    processes.leave("alive")
    assert processes.known() == []


def test_what_the_dead_left_open_becomes_their_rows() -> None:
    last_seen("alive")
    last_seen("dead", dt.timedelta(hours=1))
    leave_open("alive")
    leave_open("dead")
    assert not processes.bury("alive")
    assert processes.bury("dead")
    assert [row.estimate for row in UsageRecord.objects.all()] == ["crashed"]
    assert [call.gateway for call in OpenCall.objects.all()] == ["alive"]
    assert "dead" in processes.known()  # there may still be holds


def test_nobody_is_taken_for_dead_by_one_that_was_not_seen_itself(look_ups: LookUps) -> None:
    """While the database is away nobody is seen; the first who comes back must not bury the
    others, whose calls still run."""
    clock = OneClock()
    truth = LedgerTruth("own", look_ups, clock)
    last_seen("other", dt.timedelta(hours=1))

    async def beat(times: int) -> bool:
        for _ in range(times):
            clock.advance(MICROSECONDS)
            await truth.beat()
        return await truth.dead("other")

    async def watch() -> list[bool]:
        started = [await truth.dead("other"), await beat(5), await beat(6)]
        clock.advance(20 * MICROSECONDS)  # the database is away
        return [*started, await truth.dead("other"), await beat(1), await beat(9), await beat(2)]

    assert asyncio.run(watch()) == [False, False, True, False, False, False, True]
