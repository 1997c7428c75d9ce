"""The ledger's PostgreSQL while it is killed, restarted, or refuses."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import psutil
import psycopg
import pytest
from psycopg.rows import tuple_row

from lib.problems import Unavailable
from lib.stores import StoreAway
from lib.threads import LookUps
from tests.chaos.fault_proxy import BlackHole, FaultProxy
from tests.loops import eventually, on_loop, ticking
from tests.services.postgres import Postgres
from tests.usage.conftest import ALIAS, Store
from tests.usage.entries import final, opened
from usage import ledger as ledger_module
from usage import postgres as postgres_module
from usage.ledger import Final, Ledger, Opened, StoreLost
from usage.models import UsageRecord
from usage.postgres import PostgresJournal


def restart(server: Postgres) -> None:
    """It refuses to start while a process of its former life still holds shared memory."""
    for _ in range(20):
        with contextlib.suppress(RuntimeError):
            return server.start()
    raise AssertionError("PostgreSQL did not come back")


def ask(store: Store, statement: str) -> list[tuple[object, ...]]:
    settings = store.settings
    with psycopg.connect(
        host=settings["HOST"],
        port=settings["PORT"],
        user=settings["USER"],
        dbname=settings["NAME"],
        autocommit=True,
        row_factory=tuple_row,
    ) as connection:
        cursor = connection.execute(statement)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


@on_loop
async def test_killed_and_restarted_in_the_middle_every_entry_is_written_exactly_once(
    postgres_store: Store, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "PATIENCE", 25.0)
    ledger = Ledger(postgres_store.journal())
    entries = [final(attempts=2, was_open=True) for _ in range(600)]
    done = 0

    async def call(entry: Final) -> None:
        nonlocal done
        await ledger.commit(Opened(entry.record, 1_900_000_000.0))
        await ledger.commit(entry)
        done += 1
        await asyncio.sleep(0)

    async def trickle(some: list[Final]) -> None:
        tasks = []
        for entry in some:
            tasks.append(asyncio.create_task(call(entry)))
            await asyncio.sleep(0.001)
        await asyncio.gather(*tasks)

    before = asyncio.create_task(trickle(entries[:300]))
    await eventually(lambda: done >= 50)
    async with ticking() as ticker:
        await asyncio.to_thread(server.kill)
        after = asyncio.create_task(trickle(entries[300:]))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(restart, server)
        await asyncio.gather(before, after)
    assert ticker.longest < 0.2
    await ledger.close()
    expected = sorted(entry.record.request_id for entry in entries)
    assert sorted(await asyncio.to_thread(lambda: postgres_store.request_ids)) == expected
    assert await asyncio.to_thread(ask, postgres_store, "SELECT count(*) FROM usage_attempt") == [
        (1200,)
    ]
    assert await asyncio.to_thread(lambda: postgres_store.open_calls) == []


@on_loop
async def test_a_network_that_swallows_everything_holds_the_writer_for_no_longer_than_said(
    postgres_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Called off, the driver would wait for the server's word, which never comes."""
    monkeypatch.setattr(postgres_module, "ANSWER_SECONDS", 0.2)
    proxy = FaultProxy(int(postgres_store.settings["PORT"]))
    proxy.start()
    journal = PostgresJournal({**postgres_store.settings, "HOST": "127.0.0.1", "PORT": proxy.port})
    loop = asyncio.get_running_loop()
    try:
        await journal.write([final()])
        with proxy.toxic(BlackHole()):
            begun = loop.time()
            with pytest.raises(StoreLost):
                await journal.write([final()])
            assert loop.time() - begun < 2
        await journal.write([final()])
    finally:
        await journal.close()
        proxy.stop()
    assert len(await asyncio.to_thread(lambda: postgres_store.request_ids)) >= 2


@on_loop
async def test_a_server_that_stays_away_is_told_to_every_call(
    postgres_store: Store, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "PATIENCE", 0.5)
    ledger = Ledger(postgres_store.journal())
    await ledger.commit(final())
    assert isinstance(ledger.journal, PostgresJournal) and ledger.journal._connection
    backend = ledger.journal._connection.info.backend_pid
    await asyncio.to_thread(server.kill)
    await eventually(lambda: not psutil.pid_exists(backend))  # it outlives its parent a little
    results = await asyncio.gather(
        *(ledger.commit(final()) for _ in range(20)), return_exceptions=True
    )
    assert all(isinstance(result, Unavailable) for result in results)
    await asyncio.to_thread(restart, server)
    await ledger.commit(final())
    await ledger.close()
    assert ask(postgres_store, "SELECT count(*) FROM usage_usagerecord") == [(2,)]


@on_loop
async def test_a_closed_connection_is_opened_again(postgres_store: Store) -> None:
    ledger = Ledger(postgres_store.journal())
    for _ in range(3):
        await ledger.commit(final())
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        where = " WHERE application_name = 'patchbay-ledger' AND datname = current_database()"
        assert ask(postgres_store, cut + where) == [(True,)]
    await ledger.commit(final())
    await ledger.close()
    assert len(await asyncio.to_thread(lambda: postgres_store.records)) == 4


@on_loop
async def test_a_commit_blocked_by_a_lock_blocks_nobody_else(
    postgres_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off for good at the end of its patience, and the connection is still good."""
    monkeypatch.setattr(ledger_module, "PATIENCE", 0.4)
    ledger = Ledger(postgres_store.journal())
    await ledger.commit(final())
    settings = postgres_store.settings
    async with await psycopg.AsyncConnection.connect(
        host=settings["HOST"], port=settings["PORT"], user=settings["USER"], dbname=settings["NAME"]
    ) as other:
        await other.execute("LOCK TABLE usage_usagerecord IN ACCESS EXCLUSIVE MODE")
        async with ticking() as ticker:
            results = await asyncio.gather(
                *(ledger.commit(final()) for _ in range(10)), return_exceptions=True
            )
        assert ticker.longest < 0.1
        await other.rollback()
    assert all(isinstance(result, Unavailable) for result in results)
    await ledger.commit(final())
    await ledger.close()
    assert len(await asyncio.to_thread(lambda: postgres_store.records)) == 2


@on_loop
async def test_a_read_only_server_is_one_that_is_away(
    postgres_store: Store, server: Postgres
) -> None:
    """After a fail-over, say: worth another try, on another connection."""
    journal, name = postgres_store.journal(), postgres_store.settings["NAME"]
    with psycopg.connect(server.url("postgres"), autocommit=True) as other:
        other.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        with pytest.raises(StoreLost):
            await journal.write([final()])
        other.execute(f"ALTER DATABASE {name} RESET ALL")
    await journal.write([final()])
    await journal.close()


@on_loop
async def test_a_host_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as hole:
        settings = {"NAME": "x", "USER": "x", "PASSWORD": "", "HOST": "127.0.0.1"}
        ledger = Ledger(PostgresJournal(settings | {"PORT": hole.getsockname()[1]}))
        async with ticking() as ticker:
            with pytest.raises(Unavailable):
                await ledger.commit(final())
        assert ticker.longest < 0.1
        await ledger.close()


@on_loop
async def test_the_urls_options_reach_the_driver(postgres_store: Store) -> None:
    """Without them a ledger that must use TLS would not."""
    journal = postgres_store.journal()
    assert isinstance(journal, PostgresJournal)
    await journal.write([final()])
    assert journal._connection is not None
    (value,) = await (await journal._connection.execute("SHOW synchronous_commit")).fetchone()  # type: ignore[misc]
    assert value == "on"
    await journal.close()
    options = {"sslmode": "verify-full", "pool": True}
    strict = PostgresJournal(postgres_store.settings | {"OPTIONS": options})
    with pytest.raises(StoreLost):
        await strict.write([final()])
    await strict.close()


@on_loop
async def test_a_poisoned_batch_leaves_nothing_behind(postgres_store: Store) -> None:
    journal = postgres_store.journal()
    with pytest.raises(psycopg.DataError):
        await journal.write([opened(), final(), final(charge=2**63), Final(final().record)])
    assert await asyncio.to_thread(lambda: (postgres_store.records, postgres_store.open_calls)) == (
        [],
        [],
    )
    await journal.write([final()])
    await journal.close()


@on_loop
async def test_a_batch_is_written_whole_or_not_at_all(postgres_store: Store) -> None:
    """Its statements are one transaction, though nobody says BEGIN."""
    journal = postgres_store.journal()
    first, closed = opened(), final(was_open=True)
    with pytest.raises(psycopg.DataError):
        await journal.write([first, closed, final(status=10**6)])
    assert await asyncio.to_thread(lambda: postgres_store.open_calls) == []
    assert await asyncio.to_thread(lambda: postgres_store.records) == []
    await journal.write([first, closed])
    assert len(await asyncio.to_thread(lambda: postgres_store.records)) == 1
    await journal.close()


@on_loop
async def test_what_only_the_driver_says_is_a_store_that_is_away_too(
    postgres_store: Store,
) -> None:
    """As when a cursor that the server holds is to be closed and its connection has just died:
    Django does not translate that."""

    def read() -> None:
        list(UsageRecord.objects.using(ALIAS).iterator())
        raise psycopg.OperationalError("server closed the connection: pw-canary")

    look_ups = LookUps(threads=1)
    with pytest.raises(StoreAway) as told:
        await look_ups.run(read)
    assert str(told.value) == "OperationalError"
    assert await look_ups.run(lambda: postgres_store.records) == []
    look_ups.close()
