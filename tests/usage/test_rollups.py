"""Roll-ups tell the ledger exactly, whoever writes, folds, reaps and rebuilds at once."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.utils import timezone

from tests.usage.conftest import ALIAS, Store
from tests.usage.entries import NOON, attempt, final, record
from tests.usage.test_sums import NOW, TABLES, some_call, write
from usage import rollups
from usage.deltas import ATTEMPTS, BUCKETS, CALLS
from usage.ledger import Final, Ledger, Opened
from usage.models import OpenCall, UsageRecord
from usage.reaper import reap
from usage.rollup_models import (
    AttemptDay,
    AttemptDelta,
    AttemptMinute,
    UsageDay,
    UsageDelta,
    UsageHour,
    UsageMinute,
)

Rows = dict[str, list[tuple[Any, ...]]]


def content(using: str = ALIAS) -> Rows:
    """All roll-ups without their ids, in an order of their own."""
    found: Rows = {}
    with connections[using].cursor() as cursor:
        for family in (CALLS, ATTEMPTS):
            for grain in rollups.GRAINS:
                table = f"usage_{family.name}{grain}"
                cursor.execute(f"SELECT {', '.join(family.columns)} FROM {table}")
                found[table] = sorted(cursor.fetchall(), key=repr)
    return found


def left() -> int:
    return UsageDelta.objects.using(ALIAS).count() + AttemptDelta.objects.using(ALIAS).count()


def in_threads(*work: Callable[[], object]) -> list[object]:
    results: list[object] = []

    def run(one: Callable[[], object]) -> None:
        try:
            results.append(one())
        except BaseException as error:
            results.append(error)
        finally:
            connections[ALIAS].close()

    threads = [threading.Thread(target=run, args=[one]) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_call_is_one_row_of_each(store: Store) -> None:
    row = record(
        created_at=NOON, attempts=1, provider="lab", model="m", code="cut", cache="", estimate="cut",
        input_tokens=3, output_tokens=4, cached_tokens=1, reasoning_tokens=2, units=5, bytes=6,
        charge=9, cost=8, latency_ms=51, key_id=None,
    )  # fmt: skip
    write(store, [Final(row)])
    delta = UsageDelta.objects.using(ALIAS).get()
    assert delta.single and not AttemptDelta.objects.using(ALIAS).exists()
    assert rollups.fold(using=ALIAS) == 1
    for model in (UsageMinute, UsageHour, UsageDay):
        kept = model.objects.using(ALIAS).values().get()
        buckets = {name: int(name == "le_100") for name in BUCKETS}
        assert {name: kept[name] for name in BUCKETS} == buckets
        assert (kept["calls"], kept["errors"], kept["hits"], kept["estimated"]) == (1, 1, 0, 1)
        assert (kept["tenant_id"], kept["key_id"], kept["charge"], kept["cost"]) == (7, 0, 9, 8)
        assert kept["latency_ms"] == 51
    day = AttemptDay.objects.using(ALIAS).get()
    assert day.starts == NOON.replace(hour=0, minute=0, second=0, microsecond=0)
    assert (day.attempts, day.failures, day.tokens, day.units, day.cost) == (1, 0, 7, 5, 8)
    assert (day.provider, day.verdict, day.le_100) == ("lab", "ok", 1)
    assert left() == 0


def test_attempts_of_their_own_are_told_once(store: Store) -> None:
    row = record(created_at=NOON, attempts=3, provider="b")
    tries = [
        attempt(row.request_id, 1, verdict="timeout", provider="lab", cost=1),
        attempt(row.request_id, 2, verdict="skipped_circuit_open", provider="c"),
        attempt(row.request_id, 3, verdict="ok", provider="b", cost=5, tokens=2),
    ]
    hit = record(created_at=NOON, attempts=0, cache="hit")
    write(store, [Final(row, tries), Final(hit)])
    rollups.fold(using=ALIAS)
    kept = AttemptMinute.objects.using(ALIAS).order_by("provider")
    told = [(one.provider, one.attempts, one.failures, one.cost, one.tokens) for one in kept]
    assert told == [("b", 1, 0, 5, 2), ("lab", 1, 1, 1, 0)]
    assert sum(one.hits for one in UsageDay.objects.using(ALIAS).all()) == 1


def test_hits_are_what_the_cache_served_and_not_what_kept_it_warm(store: Store) -> None:
    found = ("hit", "stale", "warm", "")
    write(store, [Final(record(created_at=NOON, cache=each)) for each in found])
    rollups.fold(using=ALIAS)
    days = UsageDay.objects.using(ALIAS).all()
    assert (sum(day.calls for day in days), sum(day.hits for day in days)) == (4, 2)


def test_a_second_final_row_adds_nothing_and_closes_its_call(store: Store) -> None:
    first = final(created_at=NOON, charge=5, attempts=2)
    write(store, [first])
    again = Final(record(request_id=first.record.request_id, charge=9), [], was_open=True)
    late = attempt(first.record.request_id, 3)
    other = final(created_at=NOON, charge=7)
    write(
        store,
        [
            Opened(again.record, 1_900_000_000.0),
            again,
            Final(again.record, [late]),
            other,
            other,
        ],
    )
    rollups.fold(using=ALIAS)
    days = UsageDay.objects.using(ALIAS).all()
    assert (sum(day.calls for day in days), sum(day.charge for day in days)) == (2, 12)
    assert len(store.attempts) == 2
    assert store.open_calls == []
    before = content()
    rollups.rebuild(using=ALIAS)
    assert content() == before


def test_rebuilt_is_the_same_as_folded(store: Store) -> None:
    rng = random.Random(5)
    for _ in range(3):
        write(store, [some_call(rng) for _ in range(60)])
        rollups.fold(using=ALIAS)
    folded = content()
    assert all(folded.values())
    with connections[ALIAS].cursor() as cursor:  # damage of every kind
        cursor.execute("DELETE FROM usage_usageminute WHERE id % 3 = 0")
        cursor.execute("UPDATE usage_attemptday SET cost = cost + 1")
        cursor.execute("UPDATE usage_usagehour SET model = 'x' WHERE id % 2 = 0 AND model = 'm'")
    write(store, [some_call(rng) for _ in range(20)])
    assert rollups.rebuild(using=ALIAS) >= 3
    assert left() == 0
    rebuilt = content()
    with connections[ALIAS].cursor() as cursor:
        for table in TABLES:
            if not table.endswith("delta"):
                cursor.execute(f"DELETE FROM {table}")
    rollups.rebuild(using=ALIAS)
    assert content() == rebuilt
    assert sum(row[CALLS.columns.index("calls")] for row in rebuilt["usage_usageday"]) == 200


def test_rebuilt_since_a_day_leaves_those_before(store: Store) -> None:
    rows = [record(created_at=NOON - dt.timedelta(days=days)) for days in (2, 1, 0)]
    write(store, [Final(row) for row in rows])
    rollups.fold(using=ALIAS)
    UsageDay.objects.using(ALIAS).update(calls=50)
    days: list[dt.date] = []
    rollups.rebuild((NOON - dt.timedelta(days=1)).date(), tell=days.append, using=ALIAS)
    assert days[0] == (NOON - dt.timedelta(days=1)).date()
    kept = UsageDay.objects.using(ALIAS).order_by("starts")
    assert [day.calls for day in kept] == [50, 1, 1]


def test_an_empty_ledger_has_nothing_to_rebuild(store: Store) -> None:
    assert rollups.rebuild(using=ALIAS) == 0
    assert rollups.fold(using=ALIAS) == 0


def test_exact_while_calls_are_written_folded_and_rebuilt_at_once(store: Store) -> None:
    rng = random.Random(6)
    batches = [[some_call(rng, days=1) for _ in range(8)] for _ in range(40)]
    write(store, [some_call(rng, days=1)])  # so that there is a day to rebuild
    done = threading.Event()

    def writing() -> None:
        async def run() -> None:
            ledger = Ledger(store.journal())
            for batch in batches:
                await asyncio.gather(*(ledger.commit(entry) for entry in batch))
                await asyncio.sleep(0.002)
            await ledger.close()

        try:
            asyncio.run(run())
        finally:
            done.set()

    def folding() -> int:
        folded = 0
        while not done.is_set():
            folded += rollups.fold(using=ALIAS)
            done.wait(0.005)
        return folded

    def rebuilding() -> int:
        rounds = 0
        while not done.is_set():
            rounds += rollups.rebuild(using=ALIAS)
            done.wait(0.01)
        return rounds

    results = in_threads(writing, folding, folding, rebuilding)
    assert not [result for result in results if isinstance(result, BaseException)], results
    rollups.fold(using=ALIAS)
    assert left() == 0
    folded = content()
    calls = sum(row[CALLS.columns.index("calls")] for row in folded["usage_usageday"])
    assert calls == UsageRecord.objects.using(ALIAS).count() == 321
    rollups.rebuild(using=ALIAS)
    assert content() == folded


def test_many_deltas_are_folded_in_several_transactions(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups, "FOLD_LIMIT", 4)
    rng = random.Random(7)
    for _ in range(11):
        write(store, [some_call(rng)])
    waiting = left()
    assert rollups.fold(using=ALIAS) == waiting >= 11
    assert left() == 0


@pytest.mark.django_db
def test_a_reaped_call_is_summed_once() -> None:
    row = record(streamed=True, charge=123, cost=99, attempts=2, provider="lab")
    for _ in range(2):
        OpenCall.objects.create(
            request_id=row.request_id,
            opened_at=row.created_at,
            expires_at=timezone.now() - dt.timedelta(hours=1),
            record=row.as_document(),
        )
        reap()
    rollups.fold()
    day = UsageDay.objects.get()
    assert (day.calls, day.charge, day.estimated) == (1, 123, 1)
    assert (AttemptDay.objects.get().attempts, AttemptDay.objects.get().cost) == (1, 99)
    before = content("default")
    rollups.rebuild()
    assert content("default") == before
    assert connection.vendor == "sqlite"


@pytest.mark.parametrize(
    ("days", "kept"),
    [(1, (1, 1, 1)), (45, (1, 1, 1)), (47, (0, 1, 1)), (400, (0, 1, 1)), (402, (0, 0, 1))],
)
def test_minutes_and_hours_go_days_stay(
    sqlite_store: Store, days: int, kept: tuple[int, int, int]
) -> None:
    write(sqlite_store, [final(created_at=NOW - dt.timedelta(days=days), attempts=1)])
    rollups.fold(using=ALIAS)
    rollups.prune(using=ALIAS)
    for family in ("usage", "attempt"):
        counts = [len(content()[f"usage_{family}{grain}"]) for grain in ("minute", "hour", "day")]
        assert tuple(counts) == kept


@pytest.mark.django_db
def test_the_command_tells_the_days(capsys: pytest.CaptureFixture[str]) -> None:
    UsageRecord.objects.create(**dataclasses.asdict(record(created_at=NOW)))
    call_command("rebuild_rollups", "--since", str(NOW.date()))
    assert f"{NOW.date()} done" in capsys.readouterr().out
    assert UsageDay.objects.get().calls == 1
