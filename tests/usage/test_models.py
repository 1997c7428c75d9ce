"""The ledger's rows cannot be changed through the ORM, and no request id comes twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction

from tests.usage.entries import attempt, record
from usage.models import AppendOnly, Attempt, OpenCall, UsageRecord
from usage.record import ATTEMPT_COLUMNS, RECORD_COLUMNS

pytestmark = pytest.mark.django_db


def write(**values: object) -> UsageRecord:
    row = record(**values)
    return UsageRecord.objects.create(**{name: getattr(row, name) for name in RECORD_COLUMNS})


CHANGES: dict[str, Callable[[UsageRecord], object]] = {
    "save": lambda row: row.save(),
    "save of one field": lambda row: row.save(update_fields=["charge"]),
    "delete": lambda row: row.delete(),
    "update": lambda row: UsageRecord.objects.update(charge=0),
    "filtered update": lambda row: UsageRecord.objects.filter(pk=row.pk).update(charge=0),
    "queryset delete": lambda row: UsageRecord.objects.all().delete(),
    "bulk_update": lambda row: UsageRecord.objects.bulk_update([row], ["charge"]),
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


def test_a_request_id_is_unique() -> None:
    row = write()
    with pytest.raises(IntegrityError), transaction.atomic():
        write(request_id=row.request_id)
    assert UsageRecord.objects.count() == 1
    assert str(row) == row.request_id


def test_an_attempt_has_its_number_once() -> None:
    note = attempt("r", 1)
    values = {name: getattr(note, name) for name in ATTEMPT_COLUMNS}
    assert str(Attempt.objects.create(**values)) == "r #1"
    with pytest.raises(IntegrityError), transaction.atomic():
        Attempt.objects.create(**values)


def test_rows_of_one_tenant() -> None:
    mine, _ = write(tenant_id=1), write(tenant_id=2)
    assert list(UsageRecord.objects.all().of_tenant(1)) == [mine]


def test_an_open_call_is_named_by_its_request() -> None:
    assert str(OpenCall(request_id="r")) == "r"
