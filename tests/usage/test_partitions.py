"""The ledger's months on PostgreSQL: made ahead, found by the planner, and nothing is refused."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, connections, transaction
from hypothesis import given
from hypothesis import strategies as st

from lib.ids import first_uuid7, uuid7
from tests.loops import on_loop
from tests.usage.conftest import ALIAS, Store
from tests.usage.entries import attempt, final, record
from tests.usage.test_sums import some_call, write
from usage import partitions
from usage.ledger import Final, Ledger
from usage.models import Attempt, UsageRecord
from usage.partitions import AHEAD, TABLES, Month
from usage.rollup_models import UsageDelta

NOW = dt.datetime.now(dt.UTC)
THIS = Month.of(NOW)


def id_at(moment: dt.datetime) -> str:
    """A request id of that moment."""
    return first_uuid7(moment.timestamp()) + uuid7()[13:]


def call_at(moment: dt.datetime, **values: Any) -> Final:
    return final(request_id=id_at(moment), created_at=moment, **values)


def ask(statement: str, *parameters: Any) -> list[Any]:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return list(cursor.fetchall()) if cursor.description else []


def place(table: str, request_id: str) -> str:
    """Which partition holds it."""
    statement = f"SELECT tableoid::regclass::text FROM {table} WHERE request_id = %s"
    return str(ask(statement, request_id)[0][0])


def scanned(statement: str, *parameters: Any) -> set[str]:
    """The tables that the planner looks into."""
    found: set[str] = set()

    def walk(node: dict[str, Any]) -> None:
        if "Relation Name" in node:
            found.add(node["Relation Name"])
        for inner in node.get("Plans", ()):
            walk(inner)

    told = ask(f"EXPLAIN (FORMAT JSON) {statement}", *parameters)[0][0]
    walk((json.loads(told) if isinstance(told, str) else told)[0]["Plan"])
    return found


@given(st.integers(2024, 2200), st.integers(1, 12), st.integers(-200, 200))
def test_months_add_up(year: int, number: int, months: int) -> None:
    month = Month(year, number)
    assert month.plus(months).plus(-months) == month
    assert (month.plus(months) > month) == (months > 0)
    assert month.first_id < id_at(month.starts) < month.plus(1).first_id
    last = month.plus(1).starts - dt.timedelta(milliseconds=1)
    assert month.first_id < id_at(last) < month.plus(1).first_id


def test_the_months_to_come_are_there(postgres_store: Store) -> None:
    partitions.make(using=ALIAS)  # the template's months are those of its own making
    wanted = {THIS.plus(n) for n in range(AHEAD + 1)}
    for table in TABLES:
        found = [each for each in partitions.listed(using=ALIAS) if each.table == table]
        assert wanted <= {each.month for each in found if each.month}
        assert found[-1].month is None
    assert partitions.make(using=ALIAS) == 0


def test_sqlite_has_none(sqlite_store: Store) -> None:
    assert (partitions.make(using=ALIAS), partitions.listed(using=ALIAS)) == (0, [])


def test_rows_lie_in_their_months_and_their_ids_are_unique_for_ever(postgres_store: Store) -> None:
    calls = [call_at(THIS.plus(n).starts, attempts=2, charge=5) for n in range(AHEAD + 1)]
    write(postgres_store, calls)
    write(postgres_store, calls)
    for number, call in enumerate(calls):
        for table in TABLES:
            assert place(table, call.record.request_id) == f"{table}_{THIS.plus(number)}"
    assert UsageRecord.objects.using(ALIAS).count() == len(calls)
    assert Attempt.objects.using(ALIAS).count() == 2 * len(calls)
    assert sum(delta.charge for delta in UsageDelta.objects.using(ALIAS).all()) == 5 * len(calls)


def test_no_row_is_refused_and_a_new_month_takes_those_that_came_before_it(
    postgres_store: Store,
) -> None:
    past, future = THIS.plus(-5), THIS.plus(AHEAD + 5)
    calls = [
        call_at(month.starts + dt.timedelta(days=n), attempts=2)
        for month in (past, future)
        for n in range(10)
    ]
    strange = [final(request_id=name) for name in ("r", "", "zzz", "01", "ffffffff-ffff", "=1")]
    write(postgres_store, [*calls, *strange])
    before = postgres_store.records
    assert place(TABLES[0], calls[0].record.request_id) == f"{TABLES[0]}_default"
    assert partitions.make(moved_at_once=9, using=ALIAS) == 0
    assert place(TABLES[0], calls[0].record.request_id) == f"{TABLES[0]}_default"
    assert partitions.make(using=ALIAS) == len(TABLES)
    assert place(TABLES[0], calls[0].record.request_id) == f"{TABLES[0]}_{past}"
    assert place(TABLES[1], calls[0].record.request_id) == f"{TABLES[1]}_{past}"
    assert place(TABLES[0], calls[-1].record.request_id) == f"{TABLES[0]}_default"
    after = postgres_store.records
    assert [row.__dict__ | {"_state": 0} for row in before] == [
        row.__dict__ | {"_state": 0} for row in after
    ]
    assert Attempt.objects.using(ALIAS).count() == 40


def test_the_planner_looks_where_the_rows_can_be_only(postgres_store: Store) -> None:
    table, month = TABLES[0], f"{TABLES[0]}_{THIS}"
    one = id_at(NOW)
    for of in TABLES:
        found = scanned(f"SELECT * FROM {of} WHERE request_id = %s", one)
        assert found == {f"{of}_{THIS}"}
    since, until = THIS.first_id, THIS.plus(1).first_id
    within = f"SELECT * FROM {table} WHERE request_id >= %s AND request_id < %s"
    assert scanned(within, since, until) == {month}
    assert scanned(f"{within} AND tenant_id = 7 ORDER BY request_id", since, until) == {month}
    ask("SET enable_seqscan = off")
    joined = f"SELECT * FROM {table} r JOIN {TABLES[1]} a ON a.request_id = r.request_id"
    assert (
        {month}
        <= scanned(f"{joined} WHERE r.request_id = %s", one)
        <= {
            month,
            f"{TABLES[1]}_{THIS}",
        }
    )


@on_loop
async def test_months_are_made_while_calls_are_written(postgres_store: Store) -> None:
    """Also the very month that they are of."""

    def unmake() -> None:
        for table in TABLES:
            ask(f"DROP TABLE IF EXISTS {table}_{THIS}")
        connections[ALIAS].close()

    def make() -> None:
        partitions.make(using=ALIAS)
        connections[ALIAS].close()

    await asyncio.to_thread(unmake)
    ledger = Ledger(postgres_store.journal())
    calls = [final(attempts=2) for _ in range(400)]

    async def trickle() -> None:
        for start in range(0, len(calls), 10):
            await asyncio.gather(*(ledger.commit(call) for call in calls[start : start + 10]))

    writing = asyncio.create_task(trickle())
    await asyncio.sleep(0.05)
    await asyncio.to_thread(make)
    await writing
    await ledger.close()
    expected = sorted(call.record.request_id for call in calls)
    assert await asyncio.to_thread(lambda: postgres_store.request_ids) == expected
    rows = await asyncio.to_thread(ask, f"SELECT count(*) FROM {TABLES[0]}_default")
    assert rows == [(0,)]


def test_a_lock_that_is_not_had_soon_is_given_up(
    postgres_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that those who wait behind it do not wait for long; the next turn makes it."""
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "50ms")
    ask(f"DROP TABLE {TABLES[0]}_{THIS.plus(1)}")
    settings = postgres_store.settings
    with _reader(settings), pytest.raises(OperationalError):
        partitions.make(using=ALIAS)
    assert partitions.make(using=ALIAS) == 1


class _reader:
    """Somebody else who has looked at the default partition and not finished."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import psycopg

        self.connection = psycopg.connect(
            host=settings["HOST"],
            port=settings["PORT"],
            user=settings["USER"],
            dbname=settings["NAME"],
        )

    def __enter__(self) -> None:
        self.connection.execute(f"SELECT count(*) FROM {TABLES[0]}_default")

    def __exit__(self, *_: object) -> None:
        self.connection.close()


@pytest.fixture
def before_partitions(postgres_store: Store) -> Iterator[Store]:
    """With what rows have had since then: they are written as they are today."""
    call_command("migrate", "usage", "0006", database=ALIAS, verbosity=0)
    ask("ALTER TABLE usage_usagerecord ADD COLUMN headers text")
    yield postgres_store


def rows_of(table: str) -> list[Any]:
    return ask(f"SELECT * FROM {table} ORDER BY request_id, 1, 2")


def test_the_migration_keeps_rows_and_indexes_there_and_back(before_partitions: Store) -> None:
    store, rng = before_partitions, random.Random(5)
    kinds = "SELECT relname, relkind FROM pg_class WHERE relname = ANY(%s) ORDER BY 1"
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY(%s) ORDER BY 1"
    assert {kind for _, kind in ask(kinds, list(TABLES))} == {"r"}
    plain_indexes = ask(indexes, list(TABLES))
    write(store, [some_call(rng, NOW) for _ in range(200)])
    old = call_at(THIS.plus(-7).starts, attempts=1)
    write(store, [old])
    before = [rows_of(table) for table in TABLES]

    call_command("migrate", "usage", "0007", database=ALIAS, verbosity=0)
    assert [rows_of(table) for table in TABLES] == before
    assert {kind for _, kind in ask(kinds, list(TABLES))} == {"p"}
    assert place(TABLES[0], old.record.request_id) == f"{TABLES[0]}_{THIS.plus(-7)}"
    assert {name for name, _ in ask(indexes, list(TABLES))} == {
        "usage_usagerecord_pkey",
        "usage_by_tenant",
        "attempt_number",
    }
    row = record()
    write(store, [Final(row, [attempt(row.request_id, 1)])])
    ids = [found.pk for found in store.attempts]
    assert len(set(ids)) == len(ids)  # the sequence goes on where it was

    before = [rows_of(table) for table in TABLES]
    call_command("migrate", "usage", "0006", database=ALIAS, verbosity=0)
    assert [rows_of(table) for table in TABLES] == before
    assert ask(indexes, list(TABLES)) == plain_indexes
    row = record()
    write(store, [Final(row, [attempt(row.request_id, 1)])])
    assert len({found.pk for found in store.attempts}) == len(before[1]) + 1


def test_django_still_changes_the_tables(postgres_store: Store) -> None:
    """As a later migration does."""
    field = UsageRecord._meta.get_field("units").clone()
    field.null = True
    field.set_attributes_from_name("later")
    with connections[ALIAS].schema_editor() as editor:
        editor.add_field(UsageRecord, field)
        editor.remove_constraint(Attempt, Attempt._meta.constraints[0])
        editor.add_constraint(Attempt, Attempt._meta.constraints[0])
        editor.remove_index(UsageRecord, UsageRecord._meta.indexes[0])
        editor.add_index(UsageRecord, UsageRecord._meta.indexes[0])
    with transaction.atomic(using=ALIAS):
        UsageRecord.objects.using(ALIAS).create(
            **{name: getattr(record(), name) for name in record().as_document()}
        )
