"""The ledger's SQLite file while others use, lock, lose or spoil it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.problems import Unavailable
from tests.loops import eventually, on_loop, ticking
from tests.usage.conftest import Store
from tests.usage.entries import final
from usage import ledger as ledger_module
from usage import sqlite as sqlite_module
from usage.ledger import Ledger, StoreLost
from usage.sqlite import SqliteJournal

LONGEST_BLOCK = 0.1  # seconds for which nothing may hold the loop up


def count(path: str) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM usage_usagerecord").fetchone()[0])


def log_size(path: str) -> int:
    return Path(f"{path}-wal").stat().st_size


class Holder:
    """Another thread with its own connection that holds a lock until told to let go."""

    def __init__(self, path: str, begin: str) -> None:
        self._release = threading.Event()
        self._held = threading.Event()
        self._thread = threading.Thread(target=self._hold, args=(path, begin))
        self._thread.start()
        assert self._held.wait(5)

    def _hold(self, path: str, begin: str) -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(begin)
            self._held.set()
            self._release.wait(20)
            connection.execute("ROLLBACK")

    def let_go(self) -> None:
        self._release.set()
        self._thread.join()


@contextlib.contextmanager
def held(path: str, begin: str = "BEGIN IMMEDIATE") -> Iterator[Holder]:
    holder = Holder(path, begin)
    try:
        yield holder
    finally:
        holder.let_go()


@on_loop
async def test_a_lock_is_waited_for_off_the_loop_and_then_written(sqlite_store: Store) -> None:
    ledger = Ledger(sqlite_store.journal())
    await ledger.commit(final())
    with held(sqlite_store.path) as holder:
        async with ticking() as ticker:
            waiting = [asyncio.create_task(ledger.commit(final())) for _ in range(50)]
            await asyncio.sleep(0.4)
            later = asyncio.create_task(ledger.commit(final()))
            await asyncio.sleep(0.1)
            assert not any(task.done() for task in (*waiting, later))
            assert count(sqlite_store.path) == 1
            await asyncio.to_thread(holder.let_go)
            await asyncio.gather(*waiting, later)
        assert ticker.longest < LONGEST_BLOCK
    assert count(sqlite_store.path) == 52
    await ledger.close()


@on_loop
async def test_a_lock_longer_than_its_patience_is_told_to_every_call(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "PATIENCE", 0.3)
    monkeypatch.setattr(sqlite_module, "LOCK_MS", 100)
    ledger = Ledger(sqlite_store.journal())
    with held(sqlite_store.path):
        async with ticking() as ticker:
            started = time.monotonic()
            results = await asyncio.gather(
                *(ledger.commit(final()) for _ in range(40)), return_exceptions=True
            )
            assert time.monotonic() - started < 1
        assert ticker.longest < LONGEST_BLOCK
    assert all(isinstance(result, Unavailable) for result in results)
    assert {result.code for result in results if isinstance(result, Unavailable)} == {
        "store_unavailable"
    }
    await ledger.commit(final())
    assert count(sqlite_store.path) == 1
    await ledger.close()


@on_loop
async def test_a_try_that_outlasts_the_patience_never_meets_the_next_one(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that waits for the lock cannot be stopped; nobody may use its connection
    before it ends, or the loop would wait with it."""
    monkeypatch.setattr(ledger_module, "PATIENCE", 0.1)
    monkeypatch.setattr(sqlite_module, "LOCK_MS", 700)
    ledger = Ledger(sqlite_store.journal())
    await ledger.commit(final())
    with held(sqlite_store.path):
        async with ticking() as ticker:
            first = asyncio.create_task(ledger.commit(final()))
            await asyncio.sleep(0.3)
            second = asyncio.create_task(ledger.commit(final()))
            results = await asyncio.gather(first, second, return_exceptions=True)
        assert ticker.longest < LONGEST_BLOCK
    assert all(isinstance(result, Unavailable) for result in results)
    await ledger.commit(final())
    assert count(sqlite_store.path) == 2
    await ledger.close()


@on_loop
async def test_what_was_written_at_the_last_moment_is_told_as_written(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock goes after the patience ended but while its last try still waits."""
    monkeypatch.setattr(ledger_module, "PATIENCE", 0.1)
    monkeypatch.setattr(sqlite_module, "LOCK_MS", 5000)
    ledger = Ledger(sqlite_store.journal())
    with held(sqlite_store.path) as holder:
        waiting = asyncio.create_task(ledger.commit(final()))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(holder.let_go)
        await waiting
    assert count(sqlite_store.path) == 1
    await ledger.close()


@on_loop
async def test_a_lock_held_at_the_very_first_commit_is_waited_out(sqlite_store: Store) -> None:
    """The connection itself cannot be set up while the file is locked as a whole."""
    with contextlib.closing(sqlite3.connect(sqlite_store.path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    journal = SqliteJournal(sqlite_store.path)
    ledger = Ledger(journal)
    with held(sqlite_store.path, "BEGIN EXCLUSIVE") as holder:
        waiting = asyncio.create_task(ledger.commit(final()))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(holder.let_go)
        await waiting
    assert count(sqlite_store.path) == 1
    assert journal._connection is not None
    settings = {
        name: journal._connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "wal_autocheckpoint")
    }
    assert settings == {"journal_mode": "wal", "synchronous": 1, "wal_autocheckpoint": 0}
    await ledger.close()


@on_loop
async def test_a_file_that_comes_late_is_waited_for(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = tmp_path / "volume"
    ledger = Ledger(SqliteJournal(str(late / "ledger.sqlite3")))
    waiting = asyncio.create_task(ledger.commit(final()))
    await asyncio.sleep(0.1)
    late.mkdir()
    shutil.move(sqlite_store.path, late / "ledger.sqlite3")
    await waiting
    await ledger.close()
    assert count(str(late / "ledger.sqlite3")) == 1


@on_loop
async def test_a_spoilt_file_is_told_and_hangs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "PATIENCE", 0.2)
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"not a database" * 500)
    ledger = Ledger(SqliteJournal(str(path)))
    results = await asyncio.gather(
        *(ledger.commit(final()) for _ in range(5)), return_exceptions=True
    )
    assert all(isinstance(result, Unavailable) for result in results)
    await ledger.close()


@on_loop
async def test_a_missing_table_is_a_store_that_is_away(tmp_path: Path) -> None:
    journal = SqliteJournal(str(tmp_path / "empty.sqlite3"))
    with pytest.raises(StoreLost):
        journal.write_at_once([final()])
    with pytest.raises(StoreLost):
        await journal.write([final()])
    await journal.close()


@on_loop
async def test_two_processes_share_the_file(sqlite_store: Store) -> None:
    one, two = Ledger(sqlite_store.journal()), Ledger(sqlite_store.journal())

    async def load(ledger: Ledger) -> None:
        for _ in range(40):
            await asyncio.gather(*(ledger.commit(final()) for _ in range(5)))

    await asyncio.gather(load(one), load(two))
    assert count(sqlite_store.path) == 400
    await asyncio.gather(one.close(), two.close())


@on_loop
async def test_checkpoints_let_the_write_ahead_log_begin_anew(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_module, "CHECKPOINT_SECONDS", 0.02)
    rounds: list[str] = []
    real = sqlite_module._checkpoint

    def counted(path: str) -> None:
        real(path)
        rounds.append(path)

    monkeypatch.setattr(sqlite_module, "_checkpoint", counted)
    ledger = Ledger(sqlite_store.journal())
    sizes = []
    for _ in range(6):
        await asyncio.gather(*(ledger.commit(final()) for _ in range(200)))
        sizes.append(log_size(sqlite_store.path))
        done = len(rounds)
        await eventually(lambda done=done: len(rounds) >= done + 2)  # type: ignore[misc]
    assert sizes[-1] < 3 * sizes[0]
    await ledger.close()


@on_loop
async def test_checkpoints_outlive_a_file_they_cannot_open(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_module, "CHECKPOINT_SECONDS", 0.01)
    rounds: list[str] = []
    real = sqlite_module._checkpoint

    def away_at_first(path: str) -> None:
        rounds.append(path)
        real("/nowhere/at/all.sqlite3" if len(rounds) < 3 else path)

    monkeypatch.setattr(sqlite_module, "_checkpoint", away_at_first)
    journal = sqlite_store.journal()
    await journal.write([final()])
    await eventually(lambda: len(rounds) >= 5)
    await journal.close()


@on_loop
async def test_a_rolled_back_batch_leaves_nothing_behind(sqlite_store: Store) -> None:
    journal = sqlite_store.journal()
    with pytest.raises(OverflowError):
        await journal.write([final(), final(charge=2**70)])
    assert count(sqlite_store.path) == 0
    await journal.write([final()])
    assert count(sqlite_store.path) == 1
    await journal.close()
