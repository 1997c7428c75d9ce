"""The ledger as files: every row once, the sums to the digit, and nothing that a spreadsheet runs."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import ProjectFactory, UsageRecordFactory
from tests.usage.conftest import ALIAS, Store
from tests.usage.test_partitions import call_at
from tests.usage.test_sums import write
from usage import export as export_module
from usage.export import FOR_STAFF, FOR_TENANTS, Export, Selection, settled
from usage.ledger import Final

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "PAGE", 50)
    monkeypatch.setattr(Export.page, "__defaults__", ("", 50))


def calls(rng: random.Random, number: int, days: float = 70) -> list[Final]:
    return [
        call_at(
            NOW - rng.random() * days * DAY,
            tenant_id=rng.randrange(1, 4),
            charge=rng.randrange(10**9),
            cost=rng.randrange(10**9),
            route=rng.choice(["fast", "=1+1", "+a", "-a", "@a", "\ta", "\ra", 'a,"b"\r\nc', ""]),
        )
        for _ in range(number)
    ]


def exported(selection: Selection, form: str = "jsonl", columns: Any = FOR_STAFF) -> Rows:
    export = Export(selection, columns, form, using=ALIAS)
    return parsed(b"".join(page for page, _ in export.pages()), form)


def parsed(body: bytes, form: str) -> Rows:
    if form == "csv":
        return list(csv.DictReader(io.StringIO(body.decode(), newline="")))
    return [json.loads(line) for line in body.splitlines()]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_every_row_once_in_order_and_the_sums_of_the_ledger(store: Store, form: str) -> None:
    rng = random.Random(1)
    made = calls(rng, 333)
    write(store, made)
    for begin, end, tenant in (
        (None, NOW + DAY, None),
        (None, NOW - 20 * DAY, 2),
        (NOW - 40 * DAY, NOW - 5 * DAY, None),
        (NOW - 1 * DAY, NOW, 3),
        (NOW + 1 * DAY, NOW + 2 * DAY, None),
    ):
        rows = exported(Selection(begin, end, tenant), form)
        wanted = sorted(
            (call.record for call in made
             if (begin or NOW - 99 * DAY) <= call.record.created_at < end
             and call.record.tenant_id == (tenant or call.record.tenant_id)),
            key=lambda record: record.request_id,
        )  # fmt: skip
        assert [row["request_id"] for row in rows] == [record.request_id for record in wanted]
        assert sum(int(row["charge_microusd"]) for row in rows) == sum(
            record.charge for record in wanted
        )
        assert sum(int(row["cost_microusd"]) for row in rows) == sum(
            record.cost for record in wanted
        )


def test_what_a_row_tells(store: Store) -> None:
    made = call_at(
        NOW - DAY, charge=1_250_000, cost=7, streamed=True, route="=HYPERLINK()", project_id=None,
        price_id=3, markup=250, user_id=None, key_id=99,
    )  # fmt: skip
    write(store, [made])
    everything = Selection(None, NOW)
    (row,) = exported(everything)
    moment = made.record.created_at.isoformat().replace("+00:00", "Z")
    assert dt.datetime.fromisoformat(row["created_at"]) == made.record.created_at
    assert row["created_at"] == moment
    assert (row["charge_microusd"], row["charge_usd"]) == (1_250_000, "1.25")
    assert (row["cost_microusd"], row["cost_usd"]) == (7, "0.000007")
    assert (row["streamed"], row["project"], row["key"]) == (True, None, None)
    assert (row["price_id"], row["markup"], row["route"]) == (3, 250, "=HYPERLINK()")
    (row,) = exported(everything, "csv")
    assert (row["streamed"], row["project"], row["created_at"]) == ("true", "", moment)
    assert row["route"] == "'=HYPERLINK()"
    (row,) = exported(everything, columns=FOR_TENANTS)
    assert not {"tenant", "cost_microusd", "cost_usd", "price_id", "markup"} & row.keys()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_csv_gives_back_what_it_was_given_and_no_formula(texts: list[str]) -> None:
    export = Export(Selection(None, NOW), FOR_TENANTS, "csv")
    place = [column.name for column in FOR_TENANTS].index("route")
    rows = [[*["x"] * place, text, *["x"] * (len(FOR_TENANTS) - place - 1)] for text in texts]
    body = export.head() + export._written([list(row) for row in rows])
    assert body.count(b"\r\n") >= len(rows) + 1
    for row, text in zip(parsed(body, "csv"), texts, strict=True):
        assert row["route"][:1] not in set("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
        assert row["route"] in {text, f"'{text}"}


@pytest.mark.parametrize("tenant", [None, 2])
@pytest.mark.unmeasured
def test_in_pieces_it_is_the_same(store: Store, tenant: int | None) -> None:
    write(store, calls(random.Random(2), 230))
    selection = Selection(NOW - 60 * DAY, NOW, tenant)
    whole = exported(selection)
    for limit in (1, 49, 50, 51, len(whole) - 1, len(whole), len(whole) + 1):
        export, found, after = Export(selection, FOR_STAFF, "jsonl", ALIAS), [], ""
        while True:
            until, more = export.last(after, limit)
            piece: Rows = []
            while not until or after < until:
                page, after, rows = export.page(after, until)
                piece += parsed(page, "jsonl")
                if not rows:
                    break
            found += piece
            if not more:
                break
            assert (len(piece), after) == (limit, until)
        assert found == whole


def test_rows_that_come_meanwhile_are_left_for_the_next_time(store: Store) -> None:
    """And none is missed or told twice by who goes on from the last row each time."""
    rng, made = random.Random(3), calls(random.Random(7), 100)
    write(store, made)
    late: list[Final] = []
    stop = threading.Event()

    def commit() -> None:
        while not stop.is_set():
            ended = [call_at(dt.datetime.now(dt.UTC) - rng.random() * 9 * DAY / 1440, charge=3)
                     for _ in range(5)]  # fmt: skip
            write(store, ended)
            late.extend(ended)
        connections[ALIAS].close()

    writer = threading.Thread(target=commit)
    writer.start()
    deadline = dt.timedelta(minutes=1)
    found: Rows = []
    try:
        for _ in range(20):
            export = Export(Selection(None, settled(deadline)), FOR_STAFF, "jsonl", ALIAS)
            after = found[-1]["request_id"] if found else ""
            while (page := export.page(after))[2]:
                found, after = found + parsed(page[0], "jsonl"), page[1]
    finally:
        stop.set()
        writer.join()
    assert late
    known = {call.record.request_id: call.record.charge for call in made}
    assert [row["request_id"] for row in found] == sorted(
        call.record.request_id for call in made if call.record.created_at < settled(deadline)
    )
    assert sum(row["charge_microusd"] for row in found) == sum(
        known[row["request_id"]] for row in found
    )


@pytest.mark.django_db
def test_the_command_writes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = ProjectFactory()
    for number, back in enumerate((3, 2, 1)):
        moment = NOW - back * DAY
        call = call_at(moment).record
        UsageRecordFactory(
            request_id=call.request_id,
            created_at=moment,
            tenant_id=project.tenant.pk if number else 424242,
            project_id=project.pk,
            charge=number,
        )
    out = tmp_path / "out.jsonl"
    slug = project.tenant.slug
    call_command("export_usage", "--tenant", slug, "--format", "jsonl", "--out", str(out))
    rows = parsed(out.read_bytes(), "jsonl")
    assert [row["charge_microusd"] for row in rows] == [1, 2]
    assert {(row["tenant"], row["project"]) for row in rows} == {(slug, project.public_id)}
    assert "2 rows written" in capsys.readouterr().err
    call_command("export_usage", "--to", (NOW - 2.5 * DAY).isoformat(), "--out", str(out))
    (row,) = parsed(out.read_bytes(), "csv")
    assert row["tenant"] == ""
    assert list(tmp_path.iterdir()) == [out]
    with pytest.raises(CommandError, match="no tenant nobody"):
        call_command("export_usage", "--tenant", "nobody")
    with pytest.raises(CommandError, match="no moment"):
        call_command("export_usage", "--from", "soon")
