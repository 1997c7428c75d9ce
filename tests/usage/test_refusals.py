"""Refused calls are counted by the hour, on either database, by any number of workers."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from lib.stores import StoreAway
from tests.clocks import ManualClock
from tests.usage.conftest import ALIAS, Store
from usage.refusal_models import Refusal
from usage.refusals import MOST, Counts, Kind, Refusals, add, expire

FULL = Kind(1, 2, "live", "chat.completions", "rate_limit_exceeded", "ip-minute")
OTHER = FULL._replace(code="quota_exceeded", limit_name="tenant requests day")


class Writing:
    """Keeps what would be written; `away`: the database is."""

    def __init__(self) -> None:
        self.away = False
        self.counts: list[Counts] = []

    async def run(self, function: Any, counts: Counts) -> None:
        if self.away:
            raise StoreAway("away")
        assert function is add
        self.counts.append(counts)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=1_793_200_000.0)


def one(clock: ManualClock) -> tuple[Refusals, Writing]:
    writing = Writing()
    return Refusals(clock, _look_ups=writing), writing  # type: ignore[arg-type]


def written(worker: Refusals, writing: Writing) -> Counts:
    """The last that was."""
    asyncio.run(worker.write())
    return writing.counts[-1] if writing.counts else {}


def told() -> dict[tuple[dt.datetime, Kind], tuple[int, str]]:
    rows = Refusal.objects.using(ALIAS).values_list(
        "starts", *Kind._fields, "calls", "last_request_id"
    )
    return {(row[0], Kind(*row[1:7])): (row[7], row[8]) for row in rows}


def test_workers_add_up_hour_by_hour(store: Store, clock: ManualClock) -> None:
    Refusal.objects.using(ALIAS).all().delete()
    hour = dt.datetime.fromtimestamp(clock.now() // 3600 * 3600, dt.UTC)
    (first, wrote), (second, wrote_too) = one(clock), one(clock)
    for n in range(3):
        first.note(FULL, f"a{n}")
    second.note(FULL, "b")
    second.note(OTHER, "c")
    add(written(first, wrote), using=ALIAS)
    add(written(second, wrote_too), using=ALIAS)
    assert told() == {(hour, FULL): (4, "b"), (hour, OTHER): (1, "c")}
    clock.advance(3600)
    first.note(FULL, "d")
    add(written(first, wrote), using=ALIAS)
    assert told()[hour + dt.timedelta(hours=1), FULL] == (1, "d") and len(told()) == 3


def test_where_nothing_was_refused_nothing_is_written(clock: ManualClock) -> None:
    worker, writing = one(clock)
    assert written(worker, writing) == {} and not writing.counts


def test_nothing_is_lost_while_the_database_is_away(clock: ManualClock) -> None:
    worker, writing = one(clock)
    worker.note(FULL, "a")
    writing.away = True
    written(worker, writing)
    clock.advance(1)
    worker.note(FULL, "b")
    written(worker, writing)
    writing.away = False
    ((_, count),) = written(worker, writing).items()
    assert (count.calls, count.request_id) == (2, "b")


def test_a_flood_of_kinds_takes_so_much_memory(clock: ManualClock) -> None:
    worker, writing = one(clock)
    kinds = [FULL._replace(key_id=n) for n in range(MOST + 50)]
    for kind in (*kinds, FULL._replace(key_id=0)):
        worker.note(kind, "a")
    counts = {kind: count.calls for (_, kind), count in written(worker, writing).items()}
    assert len(counts) == MOST and counts[FULL._replace(key_id=0)] == 2


@pytest.mark.django_db
def test_they_are_kept_for_a_month() -> None:
    for days in (29, 31):
        Refusal.objects.create(
            starts=timezone.now() - dt.timedelta(days=days),
            calls=1,
            last_at=timezone.now(),
            last_request_id="a",
            **FULL._asdict(),
        )
    assert expire() == 1 and Refusal.objects.count() == 1
