"""The writer's rows and Django's models name the same columns, of the same kinds."""

from __future__ import annotations

import dataclasses
import datetime as dt
import types
import typing
from typing import Any

import orjson
import pytest
from django.db import models
from hypothesis import given
from hypothesis import strategies as st

from tests.usage.entries import attempt, record
from usage.models import Attempt, OpenCall, UsageRecord
from usage.record import ATTEMPT_COLUMNS, RECORD_COLUMNS, AttemptRecord, Record

PAIRS: list[tuple[type[Any], type[models.Model]]] = [
    (Record, UsageRecord),
    (AttemptRecord, Attempt),
]
PYTHON: dict[type[models.Field[Any, Any]], type] = {
    models.CharField: str,
    models.TextField: str,
    models.DateTimeField: dt.datetime,
    models.BooleanField: bool,
    models.BigIntegerField: int,
    models.IntegerField: int,
    models.PositiveIntegerField: int,
    models.PositiveSmallIntegerField: int,
}


def columns(model: type[models.Model]) -> dict[str, models.Field[Any, Any]]:
    return {field.column: field for field in model._meta.concrete_fields if field.name != "id"}


@pytest.mark.parametrize(("row", "model"), PAIRS)
def test_rows_have_the_models_columns_all_and_no_others(
    row: type[Any], model: type[models.Model]
) -> None:
    assert {field.name for field in dataclasses.fields(row)} == set(columns(model))


@pytest.mark.parametrize(("row", "model"), PAIRS)
def test_each_column_is_of_the_models_type_and_as_nullable(
    row: type[Any], model: type[models.Model]
) -> None:
    hints = typing.get_type_hints(row)
    for name, field in columns(model).items():
        kinds = set(typing.get_args(hints[name])) or {hints[name]}
        assert (types.NoneType in kinds) == field.null, name
        assert kinds - {types.NoneType} == {PYTHON[type(field)]}, name


def test_the_journals_write_every_column_of_an_open_call() -> None:
    from usage import postgres, sqlite

    for statement in (postgres._OPEN, sqlite._OPEN):
        assert all(column in statement for column in columns(OpenCall))


def test_a_row_is_in_the_columns_order() -> None:
    one = record(charge=5)
    assert dict(zip(RECORD_COLUMNS, one.row(), strict=True)) == dataclasses.asdict(one)
    note = attempt("r", 2, cost=3)
    assert dict(zip(ATTEMPT_COLUMNS, note.row(), strict=True)) == dataclasses.asdict(note)


@given(
    created_at=st.datetimes(timezones=st.just(dt.UTC)),
    charge=st.integers(-(2**63), 2**63 - 1),
    route=st.text(st.characters(exclude_categories=["Cs"])),
    user_id=st.none() | st.integers(1, 2**63 - 1),
)
def test_a_document_reads_back_as_the_same_record(**values: Any) -> None:
    one = record(**values)
    assert Record.from_document(orjson.loads(orjson.dumps(one.as_document()))) == one


def test_a_document_of_another_version_still_reads() -> None:
    document = record(charge=5).as_document()
    del document["units"]
    document["a_column_of_tomorrow"] = 1
    assert Record.from_document(document).charge == 5


@pytest.mark.parametrize("document", [{}, {"created_at": "2026-01-01T00:00:00+00:00"}, None, []])
def test_a_broken_document_is_told(document: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Record.from_document(document)
