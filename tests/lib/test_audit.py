"""The audit log: every change is told, and none of it can be altered unseen."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from django.db import connection, models, transaction
from django.utils import timezone

from accounts.models import User
from lib import audit
from lib.audit import HIDDEN, Actor, AuditEntry, AuditHead, Unchangeable
from providers.models import Credential, Provider
from tenants.models import ApiKey, Plan, Tenant
from tests import factories

pytestmark = pytest.mark.django_db
ANN = Actor("user", "ann@example.test", "192.0.2.7", "req-1")


def told(row: models.Model) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    entries = AuditEntry.objects.about(row).order_by("at")
    return [(e.action, json.loads(e.before), json.loads(e.after)) for e in entries]


def test_a_rows_life_is_told_with_what_differs() -> None:
    with audit.acting(lambda: ANN):
        plan = Plan.objects.create(slug="gold", name="Gold")
        plan.name = "Golden"
        plan.save()
        plan.save()  # nothing differs, nothing is told
        Plan.objects.filter(pk=plan.pk).update(markup=100, name="Golden")
        gone = Plan.objects.get(pk=plan.pk)
        plan.delete()
    created, named, marked, deleted = told(gone)
    assert created[0] == "created" and created[2]["slug"] == "gold"
    assert named == ("changed", {"name": "Gold"}, {"name": "Golden"})
    assert marked == ("changed", {"markup": 0}, {"markup": 100})
    assert deleted[0] == "deleted" and deleted[1]["markup"] == 100
    entry = AuditEntry.objects.about(gone).first()
    assert (entry.actor, entry.address, entry.request_id) == (ANN.name, "192.0.2.7", "req-1")


def test_bulk_writes_are_told_row_by_row() -> None:
    Plan.objects.bulk_create([Plan(slug="a", name="A"), Plan(slug="b", name="B")])
    Plan.objects.filter(slug__in="ab").update(markup=7)
    Plan.objects.filter(slug="a").delete()
    actions = AuditEntry.objects.filter(kind="tenants.plan").order_by("at")
    assert [(e.action, e.object_name) for e in actions] == [
        *(("created", "A"), ("created", "B"), ("changed", "A"), ("changed", "B")),
        ("deleted", "A"),
    ]


@pytest.mark.parametrize("factory", ["ApiKeyFactory", "CredentialFactory", "UserFactory"])
def test_no_secret_is_told(factory: str) -> None:
    row = getattr(factories, factory)()
    if isinstance(row, Credential):
        row.set_secret("sk-a-new-canary")
        row.save()
    if isinstance(row, User):
        row.set_password("a new canary of a password")
        row.save()
    told_of_it = "".join(f"{e.before}{e.after}" for e in AuditEntry.objects.about(row))
    for column in row.hidden:
        assert getattr(row, column) and getattr(row, column) not in told_of_it
        assert f'"{column}": "{HIDDEN}"' in told_of_it
    assert "canary" not in told_of_it


def test_what_is_nobodys_doing_is_not_told() -> None:
    key, user = factories.ApiKeyFactory(), factories.UserFactory()
    before = AuditEntry.objects.count()
    ApiKey.objects.filter(pk=key.pk).update_quietly(last_used_at=timezone.now())
    user.last_login = timezone.now()
    user.save(update_fields=["last_login"])
    assert AuditEntry.objects.count() == before


def test_many_changes_told_as_one() -> None:
    with audit.as_one():
        factories.PlanFactory(slug="quiet")
        Plan.objects.filter(slug="quiet").update(markup=1)
    assert not AuditEntry.objects.exists()


def test_a_change_that_is_rolled_back_is_not_told() -> None:
    with transaction.atomic():
        Plan.objects.create(slug="no", name="No")
        transaction.set_rollback(True)
    assert not AuditEntry.objects.exists()


def some(count: int = 6) -> list[AuditEntry]:
    for number in range(count):
        audit.event("tried", kind="a thing", object_name=f"№ {number}", after={"n": number})
    audit.link()
    assert not list(audit.verify())
    return list(AuditEntry.objects.order_by("number"))


def raw() -> models.QuerySet[AuditEntry]:
    return models.QuerySet(AuditEntry)


def change_a_column(entries: list[AuditEntry]) -> None:
    raw().filter(pk=entries[2].pk).update(actor="somebody else")


def change_what_was(entries: list[AuditEntry]) -> None:
    raw().filter(pk=entries[2].pk).update(after='{"n": 9}')


def change_and_seal_by_a_guess(entries: list[AuditEntry]) -> None:
    raw().filter(pk=entries[2].pk).update(action="made", seal="0" * 64)


def remove_one(entries: list[AuditEntry]) -> None:
    raw().filter(pk=entries[2].pk).delete()


def remove_one_and_close_the_gap(entries: list[AuditEntry]) -> None:
    remove_one(entries)
    for entry in entries[3:]:
        raw().filter(pk=entry.pk).update(number=entry.number - 1)
    AuditHead.objects.update(number=5)


def remove_the_first(entries: list[AuditEntry]) -> None:
    raw().filter(pk=entries[0].pk).delete()


def remove_the_last(entries: list[AuditEntry]) -> None:
    raw().filter(pk=entries[-1].pk).delete()


def swap_two(entries: list[AuditEntry]) -> None:
    one, other = entries[2].number, entries[3].number
    raw().filter(pk=entries[2].pk).update(number=None)
    raw().filter(pk=entries[3].pk).update(number=one)
    raw().filter(pk=entries[2].pk).update(number=other)


def slip_one_in(entries: list[AuditEntry]) -> None:
    copy = AuditEntry.objects.get(pk=entries[2].pk)
    copy.pk, copy.number, copy._state.adding = "forged", 7, True
    models.Model.save(copy, force_insert=True)
    AuditHead.objects.update(number=7)


def forget_the_head(entries: list[AuditEntry]) -> None:
    AuditHead.objects.all().delete()


TAMPERINGS = [
    change_a_column,
    change_what_was,
    change_and_seal_by_a_guess,
    remove_one,
    remove_one_and_close_the_gap,
    remove_the_first,
    remove_the_last,
    swap_two,
    slip_one_in,
    forget_the_head,
]


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
def test_tampering_is_found(tamper: Any) -> None:
    tamper(some())
    assert list(audit.verify())


def test_an_entry_is_sealed_before_it_is_in_the_chain() -> None:
    some(2)
    entry = audit.event("tried", kind="a thing")
    raw().filter(pk=entry.pk).update(action="made")
    (fault,) = audit.verify()
    assert fault.entry == entry.pk


def test_the_model_refuses_changes() -> None:
    (entry, *_) = some()
    for attempt in (entry.save, entry.delete, raw_of(entry).delete):
        with pytest.raises(Unchangeable):
            attempt()
    with pytest.raises(Unchangeable):
        raw_of(entry).update(actor="x")


def raw_of(entry: AuditEntry) -> Any:
    return AuditEntry.objects.filter(pk=entry.pk)


def test_hostile_text_is_kept_and_verified() -> None:
    audit.event("a" * 40, kind="x", object_name="\0<b>'\ud7ff😀" * 100, after={"\0": "\u2028"})
    audit.link()
    assert not list(audit.verify())


@pytest.mark.django_db(transaction=True)
def test_changes_at_once_are_one_chain() -> None:
    def change(name: int) -> None:
        try:
            for turn in range(5):
                with transaction.atomic():
                    Provider.objects.create(slug=f"p{name}-{turn}", adapter="openai")
                    Tenant.objects.filter(slug="shared").update(name=f"{name} {turn}")
        finally:
            connection.close()

    factories.TenantFactory(slug="shared")
    threads = [threading.Thread(target=change, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    while audit.link():
        pass
    assert Provider.objects.count() == 20
    numbers = list(AuditEntry.objects.order_by("number").values_list("number", flat=True))
    assert numbers == list(range(1, len(numbers) + 1))
    assert not list(audit.verify())
