"""The group commit itself, over a journal that can be slow, lost, or refuse an entry."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from lib.problems import Unavailable
from tests.loops import eventually, on_loop
from tests.usage.entries import final, opened
from usage import ledger as ledger_module
from usage.journals import journal_for
from usage.ledger import MAX_BATCH, Entry, Ledger, StoreLost
from usage.postgres import PostgresJournal
from usage.sqlite import SqliteJournal


class ScriptedJournal:
    """Keeps what was written. `at_once` says whether writing never waits; `fault` may raise
    on any batch; `gate`, while clear, holds writes up."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.at_once = at_once
        self.batches: list[list[Entry]] = []
        self.tries = 0
        self.closed = False
        self.fault: Callable[[Sequence[Entry]], None] = lambda entries: None
        self.gate = asyncio.Event()
        self.gate.set()

    def write_at_once(self, entries: Sequence[Entry]) -> bool:
        if not self.at_once:
            return False
        self.tries += 1
        self.fault(entries)
        self.batches.append(list(entries))
        return True

    async def write(self, entries: Sequence[Entry]) -> None:
        self.tries += 1
        await self.gate.wait()
        self.fault(entries)
        self.batches.append(list(entries))

    async def close(self) -> None:
        self.closed = True

    @property
    def written(self) -> list[Entry]:
        return [entry for batch in self.batches for entry in batch]


def lost(entries: Sequence[Entry]) -> None:
    raise StoreLost("away")


both = pytest.mark.parametrize("at_once", [True, False])


@both
@on_loop
async def test_a_thousand_at_once_share_a_few_commits(at_once: bool) -> None:
    journal = ScriptedJournal(at_once=at_once)
    ledger, entries = Ledger(journal), [final() for _ in range(1300)]
    await asyncio.gather(*(ledger.commit(entry) for entry in entries))
    assert journal.written == entries
    assert [len(batch) for batch in journal.batches] == [MAX_BATCH, MAX_BATCH, 1300 - 2 * MAX_BATCH]


@both
@on_loop
async def test_a_commit_returns_only_when_its_entry_is_written(at_once: bool) -> None:
    journal = ScriptedJournal(at_once=at_once)
    ledger = Ledger(journal)

    async def one() -> None:
        entry = final()
        await ledger.commit(entry)
        assert any(entry is found for found in journal.written)
        await asyncio.sleep(random.random() / 100)

    await asyncio.gather(*(one() for _ in range(300)))
    assert len(journal.written) == 300


@on_loop
async def test_what_comes_during_a_slow_write_is_the_next_batch() -> None:
    journal = ScriptedJournal()
    ledger = Ledger(journal)
    journal.gate.clear()
    first = asyncio.create_task(ledger.commit(final()))
    await eventually(lambda: journal.tries)
    rest = [asyncio.create_task(ledger.commit(final())) for _ in range(40)]
    await asyncio.sleep(0.01)
    journal.gate.set()
    await asyncio.gather(first, *rest)
    assert [len(batch) for batch in journal.batches] == [1, 40]


@on_loop
async def test_who_may_wait_no_longer_is_told_and_the_others_wait_on() -> None:
    journal = ScriptedJournal()
    ledger, loop = Ledger(journal), asyncio.get_running_loop()
    journal.gate.clear()
    hasty = [asyncio.create_task(ledger.commit(final(), until=loop.time() + 0.05))]
    patient = asyncio.create_task(ledger.commit(final()))
    await eventually(lambda: journal.tries)
    hasty.append(asyncio.create_task(ledger.commit(final(), until=loop.time() + 0.05)))
    begun = loop.time()
    told = await asyncio.gather(*hasty, return_exceptions=True)
    assert [type(each) for each in told] == [Unavailable, Unavailable]
    assert loop.time() - begun < 1 and not patient.done()
    journal.gate.set()
    await patient
    await ledger.close()
    assert len(journal.written) == 3


@both
@on_loop
async def test_callers_who_give_up_lose_and_spoil_nothing(at_once: bool) -> None:
    journal = ScriptedJournal(at_once=at_once)
    ledger, entries = Ledger(journal), [final() for _ in range(200)]
    tasks = [asyncio.create_task(ledger.commit(entry)) for entry in entries]
    await asyncio.sleep(0)
    gone = random.Random(7).sample(tasks, 100)
    for task in gone:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 100
    assert all(result is None for result in results if not isinstance(result, BaseException))
    await ledger.close()
    assert journal.written == entries


@on_loop
async def test_giving_up_while_the_write_is_on_does_not_stop_it() -> None:
    journal = ScriptedJournal()
    ledger, entries = Ledger(journal), [final() for _ in range(3)]
    journal.gate.clear()
    tasks = [asyncio.create_task(ledger.commit(entry)) for entry in entries]
    await eventually(lambda: journal.tries)
    tasks[1].cancel()
    await asyncio.sleep(0)
    journal.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [
        type(None),
        asyncio.CancelledError,
        type(None),
    ]
    assert journal.batches == [entries]


@both
@on_loop
async def test_a_short_absence_is_waited_out(at_once: bool) -> None:
    journal = ScriptedJournal(at_once=at_once)

    def away_thrice(entries: Sequence[Entry]) -> None:
        if journal.tries <= 3:
            raise StoreLost("away")

    journal.fault = away_thrice
    ledger, entries = Ledger(journal), [final() for _ in range(20)]
    await asyncio.gather(*(ledger.commit(entry) for entry in entries))
    assert journal.batches == [entries]


@both
@on_loop
async def test_a_long_absence_is_told_to_every_waiting_call(
    at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "PATIENCE", 0.1)
    journal = ScriptedJournal(at_once=at_once)
    journal.fault = lost
    ledger = Ledger(journal)
    results = await asyncio.gather(
        *(ledger.commit(final()) for _ in range(50)), return_exceptions=True
    )
    for result in results:
        assert isinstance(result, Unavailable)
        assert (result.status, result.code) == (503, "store_unavailable")
        assert result.retry_after
    journal.fault = lambda entries: None
    await ledger.commit(after := final())
    assert journal.written == [after]


@on_loop
async def test_a_database_that_never_answers_is_not_waited_for_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger_module, "PATIENCE", 0.1)
    journal = ScriptedJournal()
    journal.gate.clear()
    ledger = Ledger(journal)
    with pytest.raises(Unavailable):
        await ledger.commit(final())
    journal.gate.set()
    await ledger.commit(final())


@both
@pytest.mark.parametrize("error", [OverflowError, ValueError, RuntimeError, KeyError])
@on_loop
async def test_an_entry_the_database_never_takes_costs_nobody_else_theirs(
    at_once: bool, error: type[Exception]
) -> None:
    journal = ScriptedJournal(at_once=at_once)
    entries = [final() for _ in range(100)]
    faulty = [entries[0], entries[37], entries[99]]

    def refuse(batch: Sequence[Entry]) -> None:
        if any(entry in faulty for entry in batch):
            raise error("canary")

    journal.fault = refuse
    ledger = Ledger(journal)
    results = await asyncio.gather(
        *(ledger.commit(entry) for entry in entries), return_exceptions=True
    )
    refused = [entry for entry, result in zip(entries, results, strict=True) if result]
    assert refused == faulty
    assert all("canary" not in str(result) for result in results)
    assert sorted(map(id, journal.written)) == sorted(id(e) for e in entries if e not in faulty)
    assert journal.tries < 60


@on_loop
async def test_closing_writes_what_waits_and_then_lets_go() -> None:
    journal = ScriptedJournal()
    ledger, entries = Ledger(journal), [final() for _ in range(700)]
    journal.gate.clear()
    tasks = [asyncio.create_task(ledger.commit(entry)) for entry in entries]
    closing = asyncio.create_task(ledger.close())
    await asyncio.sleep(0.03)
    assert not closing.done() and not journal.closed
    journal.gate.set()
    await closing
    assert journal.closed and journal.written == entries
    await asyncio.gather(*tasks)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "PATIENCE", 0.05)
    monkeypatch.setattr(ledger_module, "LATE_SECONDS", 0.02)


@pytest.mark.usefixtures("hurried")
@on_loop
async def test_what_a_stream_came_to_is_written_once_the_database_is_back() -> None:
    journal = ScriptedJournal()
    ledger, whole, last = Ledger(journal), final(), final(was_open=True)
    journal.fault = lost
    for entry in (whole, last):
        with pytest.raises(Unavailable):
            await ledger.commit(entry)
    tries = journal.tries
    await eventually(lambda: journal.tries > tries + 3)
    assert ledger.is_writing(last) and not ledger.is_writing(whole)
    journal.fault = lambda entries: None
    await eventually(lambda: journal.written)
    assert journal.written == [last] and not ledger.is_writing(last)
    await ledger.close()


@pytest.mark.usefixtures("hurried")
@on_loop
async def test_what_is_late_goes_with_what_comes_and_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger_module, "MOST_LATE", 3)
    journal = ScriptedJournal()
    ledger, late = Ledger(journal), [final(was_open=True) for _ in range(5)]
    journal.fault = lost
    told = await asyncio.gather(*map(ledger.commit, late), return_exceptions=True)
    assert all(isinstance(each, Unavailable) for each in told)
    assert sum(map(ledger.is_writing, late)) == 3
    journal.fault = lambda entries: None
    new = final()
    await ledger.commit(new)
    await eventually(lambda: len(journal.written) == 4)
    assert new in journal.written
    await ledger.close()


@pytest.mark.parametrize("is_back", [True, False])
@pytest.mark.usefixtures("hurried")
@on_loop
async def test_closing_tries_once_more_to_write_what_is_late(is_back: bool) -> None:
    journal = ScriptedJournal()
    ledger, last = Ledger(journal), final(was_open=True)
    journal.fault = lost
    with pytest.raises(Unavailable):
        await ledger.commit(last)
    if is_back:
        journal.fault = lambda entries: None
    await ledger.close()
    assert journal.written == ([last] if is_back else []) and journal.closed


@on_loop
async def test_a_ledger_nobody_used_closes() -> None:
    journal = ScriptedJournal()
    await Ledger(journal).close()
    assert journal.closed


@on_loop
async def test_an_open_entry_is_committed_like_any_other() -> None:
    journal = ScriptedJournal(at_once=True)
    await Ledger(journal).commit(entry := opened())
    assert journal.written == [entry]


def test_each_kind_of_database_has_its_journal() -> None:
    sqlite: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "NAME": "x"}
    assert isinstance(journal_for(sqlite), SqliteJournal)
    postgres = {"ENGINE": "django.db.backends.postgresql", "NAME": "x", "OPTIONS": {}}
    postgres |= {"USER": "", "PASSWORD": "", "HOST": "", "PORT": ""}
    assert isinstance(journal_for(postgres), PostgresJournal)
