"""The ledger's rows cannot be changed through the ORM, and no request id comes twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction

from tests.usage.entries import attempt, record
from usage.models import AppendOnly, Attempt, OpenCall, UsageRecord
from usage.record import ATTEMPT_COLUMNS, RECORD_COLUMNS

pytestmark = pytest.mark.django_db


def built(**values: object) -> UsageRecord:
    row = record(**values)
    return UsageRecord(**{name: getattr(row, name) for name in RECORD_COLUMNS})


def write(**values: object) -> UsageRecord:
    row = built(**values)
    row.save()
    return row


CHANGES: dict[str, Callable[[UsageRecord], object]] = {
    "save": lambda row: row.save(),
    "save of one field": lambda row: row.save(update_fields=["charge"]),
    "delete": lambda row: row.delete(),
    "update": lambda row: UsageRecord.objects.update(charge=0),
    "filtered update": lambda row: UsageRecord.objects.filter(pk=row.pk).update(charge=0),
    "queryset delete": lambda row: UsageRecord.objects.all().delete(),
    "bulk_update": lambda row: UsageRecord.objects.bulk_update([row], ["charge"]),
    "bulk_create over it": lambda row: UsageRecord.objects.bulk_create(
        [built(request_id=row.request_id)],
        update_conflicts=True,
        update_fields=["charge"],
        unique_fields=["request_id"],
    ),
    "update_or_create": lambda row: UsageRecord.objects.update_or_create(
        request_id=row.request_id, defaults={"charge": 0}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_row_is_never_changed(change: Callable[[UsageRecord], object]) -> None:
    row = write(charge=5)
    row.charge = 0
    with pytest.raises(AppendOnly), transaction.atomic():
        change(row)
    assert UsageRecord.objects.get().charge == 5


def test_a_request_id_has_one_row_and_the_first_stays() -> None:
    row = write(charge=5)
    again = built(request_id=row.request_id, charge=0)
    for insert in (again.save, lambda: UsageRecord.objects.bulk_create([again])):
        with pytest.raises(IntegrityError), transaction.atomic():
            insert()
    UsageRecord.objects.bulk_create([again, built()], ignore_conflicts=True)
    assert UsageRecord.objects.get(request_id=row.request_id).charge == 5
    assert UsageRecord.objects.count() == 2
    assert str(row) == row.request_id


def test_an_attempt_has_its_number_once() -> None:
    note = attempt("r", 1)
    values = {name: getattr(note, name) for name in ATTEMPT_COLUMNS}
    assert str(Attempt.objects.create(**values)) == "r #1"
    with pytest.raises(IntegrityError), transaction.atomic():
        Attempt.objects.create(**values)


def test_the_tries_are_the_attempts_in_order() -> None:
    row = write(attempts=3)
    for number in (2, 3, 1):
        note = attempt(row.request_id, number)
        Attempt.objects.create(**{name: getattr(note, name) for name in ATTEMPT_COLUMNS})
    assert [note.number for note in row.tries()] == [1, 2, 3]


def test_a_call_that_was_answered_at_once_tells_its_only_try_itself() -> None:
    row = write(attempts=1, provider="lab", model="gpt-x", latency_ms=12)
    (note,) = row.tries()
    assert (note.request_id, note.number, note.provider, note.model) == (
        row.request_id,
        1,
        "lab",
        "gpt-x",
    )
    assert note.verdict == "ok" and note.latency_ms == 12 and note.pk is None
    assert write(attempts=0).tries() == []


def test_rows_of_one_tenant() -> None:
    mine, _ = write(tenant_id=1), write(tenant_id=2)
    assert list(UsageRecord.objects.all().of_tenant(1)) == [mine]


def test_an_open_call_is_named_by_its_request() -> None:
    assert str(OpenCall(request_id="r")) == "r"
