"""What the ledger promises of a database, on a real SQLite file and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import random
from typing import Any

import pytest

from lib.ids import uuid7
from lib.problems import Unavailable
from tests.loops import on_loop, ticking
from tests.usage.conftest import Store
from tests.usage.entries import NOON, attempt, final, opened
from usage.ledger import Entry, Final, Ledger
from usage.models import UsageRecord
from usage.record import RECORD_COLUMNS, Record


def commit_all(store: Store, entries: list[Entry]) -> list[BaseException | None]:
    """All at once, on a loop of their own; what each commit came to."""

    async def commit() -> list[BaseException | None]:
        ledger = Ledger(store.journal())
        waiting = (ledger.commit(entry) for entry in entries)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        await ledger.close()
        return results

    return asyncio.run(commit())


def as_record(row: UsageRecord) -> Record:
    return Record(**{name: getattr(row, name) for name in RECORD_COLUMNS})


def test_a_thousand_concurrent_commits_are_a_thousand_exact_rows(store: Store) -> None:
    pick = random.Random(1)
    entries = [
        final(
            attempts=pick.randrange(4),
            charge=pick.randrange(2**40),
            input_tokens=pick.randrange(2**33),
            route="rüttä-🙂",
            user_id=pick.choice([None, 2**40]),
            streamed=pick.random() < 0.5,
        )
        for _ in range(1000)
    ]
    assert commit_all(store, list(entries)) == [None] * 1000
    expected = {entry.record.request_id: entry.record for entry in entries}
    assert {row.request_id: as_record(row) for row in store.records} == expected
    assert len(store.records) == 1000
    notes = {(note.request_id, note.number) for note in store.attempts}
    assert notes == {(n.request_id, n.number) for entry in entries for n in entry.attempts}


def test_every_column_comes_back_as_django_would_have_written_it(store: Store) -> None:
    """Each field a value of its own, so that no two columns can be swapped."""
    kinds: dict[str, Any] = {
        field.name: number + 100 if "int" in str(field.type) else f"{field.name}"[:12]
        for number, field in enumerate(dataclasses.fields(Record))
    }
    kinds |= {"request_id": uuid7(), "created_at": NOON, "streamed": True, "mode": "live"}
    note = attempt(kinds["request_id"], 3, cost=7, verdict="v", provider="p", model="m")
    assert commit_all(store, [Final(Record(**kinds), [note])]) == [None]
    (row,) = store.records
    assert as_record(row) == Record(**kinds)
    (kept,) = store.attempts
    assert {name: getattr(kept, name) for name in note.__slots__} == dataclasses.asdict(note)


@pytest.mark.parametrize(
    "moment",
    [
        NOON,
        NOON.replace(microsecond=0),
        dt.datetime(2026, 3, 29, 1, 30, tzinfo=dt.timezone(dt.timedelta(hours=-9, minutes=-30))),
        dt.datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=dt.timezone(dt.timedelta(hours=14))),
    ],
)
def test_moments_are_the_same_instant_in_utc(store: Store, moment: dt.datetime) -> None:
    entries: list[Entry] = [
        final(created_at=moment),
        opened(created_at=moment, expires_at=1_900_000_000.25),
    ]
    commit_all(store, entries)
    (row,), (waiting,) = store.records, store.open_calls
    for kept in (row.created_at, waiting.opened_at):
        assert kept == moment and kept.utcoffset() == dt.timedelta(0)
    assert waiting.expires_at == dt.datetime.fromtimestamp(1_900_000_000.25, dt.UTC)
    assert Record.from_document(waiting.record).created_at == moment


def test_django_finds_rows_by_time_on_both(store: Store) -> None:
    """Text that only looks like a moment would sort or compare wrongly."""
    commit_all(store, [final(created_at=NOON + dt.timedelta(hours=h)) for h in range(-3, 4)])
    found = UsageRecord.objects.using("ledger").filter(created_at__gte=NOON)
    assert found.count() == 4
    assert found.filter(created_at__date=NOON.date(), created_at__hour=13).count() == 1


def test_a_request_id_has_one_row_for_ever(store: Store) -> None:
    """Twice in one commit, in two commits, and from two processes: the first one stays."""
    first = final(attempts=2, charge=1)
    again = Final(dataclasses.replace(first.record, charge=2), list(first.attempts))
    assert commit_all(store, [first, again]) == [None, None]
    assert commit_all(store, [again, final()]) == [None, None]
    rows = [row for row in store.records if row.request_id == first.record.request_id]
    assert [row.charge for row in rows] == [1]
    assert len(store.attempts) == 2


def test_an_open_row_vanishes_with_the_final_one(store: Store) -> None:
    one, other = opened(charge=9), opened()
    assert commit_all(store, [one, other, one]) == [None] * 3
    assert len(store.open_calls) == 2
    commit_all(store, [Final(one.record, [], was_open=True)])
    assert [row.request_id for row in store.open_calls] == [other.record.request_id]
    assert store.request_ids == [one.record.request_id]


def test_an_open_row_and_its_final_one_in_one_commit_leave_nothing_open(store: Store) -> None:
    one = opened()
    commit_all(store, [one, Final(one.record, [], was_open=True)])
    assert store.open_calls == [] and len(store.records) == 1


def test_what_an_open_row_keeps_can_be_billed(store: Store) -> None:
    one = opened(charge=123, route="låt", input_tokens=5)
    commit_all(store, [one])
    assert Record.from_document(store.open_calls[0].record) == one.record


@pytest.mark.parametrize(
    "faulty",
    [
        {"charge": 2**63},
        {"input_tokens": 10**30},
        {"tenant_id": None},
        {"created_at": None},
    ],
    ids=str,
)
def test_a_row_the_database_refuses_costs_nobody_else_theirs(
    store: Store, faulty: dict[str, Any]
) -> None:
    entries: list[Entry] = [final(attempts=1) for _ in range(20)]
    entries[7] = final(**faulty)
    results = commit_all(store, entries)
    assert [place for place, result in enumerate(results) if result] == [7]
    assert isinstance(results[7], Unavailable)
    good = {entry.record.request_id for entry in entries if entry is not entries[7]}
    assert set(store.request_ids) == good
    assert len(store.records) == len(store.attempts) == 19


def test_callers_who_give_up_spoil_nobodys_row(store: Store) -> None:
    entries = [final() for _ in range(300)]

    async def commit_and_cancel() -> None:
        ledger, pick = Ledger(store.journal()), random.Random(3)
        tasks = []
        for entry in entries:
            tasks.append(asyncio.create_task(ledger.commit(entry)))
            if pick.random() < 0.2:
                await asyncio.sleep(0.0005)
            if pick.random() < 0.3:
                pick.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await ledger.close()
        kept = [t for t in tasks if not t.cancelled()]
        assert 50 < len(kept) < 300
        assert all(task.exception() is None for task in kept)

    asyncio.run(commit_and_cancel())
    # A task cancelled before its first step never handed its entry in; all others did.
    ids = store.request_ids
    assert len(ids) == len(set(ids)) >= 200


def test_what_waits_is_written_before_closing(store: Store) -> None:
    entries = [final() for _ in range(700)]

    async def leave() -> None:
        ledger = Ledger(store.journal())
        tasks = [asyncio.create_task(ledger.commit(entry)) for entry in entries]
        await asyncio.sleep(0)
        await ledger.close()
        await asyncio.gather(*tasks)

    asyncio.run(leave())
    assert len(store.records) == 700


def test_a_busy_ledger_never_holds_the_loop_up(store: Store) -> None:
    async def load() -> float:
        ledger = Ledger(store.journal())
        async with ticking() as ticker:
            for _ in range(5):
                await asyncio.gather(*(ledger.commit(final(attempts=1)) for _ in range(400)))
        await ledger.close()
        return ticker.longest

    assert asyncio.run(load()) < 0.5  # a wait for the database would be a second and more
    assert len(store.records) == 2000


@on_loop
async def test_a_journal_nobody_used_closes(store: Store) -> None:
    await store.journal().close()
