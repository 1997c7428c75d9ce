"""Every write that the data path must hear of moves its topic's number, and no other does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import transaction

from lib.models import Revision, Topic
from providers.models import Provider, Route
from tenants.models import ApiKey, Plan, Tenant

pytestmark = pytest.mark.django_db

Write = Callable[[Plan], object]


def number(topic: Topic) -> int:
    return Revision.numbers().get(topic, 0)


@pytest.fixture
def plan() -> Plan:
    return Plan.objects.create(slug="basic", name="Basic")


WRITES: dict[str, Write] = {
    "save": lambda plan: plan.save(),
    "save of one field": lambda plan: plan.save(update_fields=["name"]),
    "create": lambda plan: Plan.objects.create(slug="p2", name="P"),
    "related create": lambda plan: plan.tenants.create(slug="t", name="T"),
    "delete": lambda plan: plan.delete(),
    "update": lambda plan: Plan.objects.filter(pk=plan.pk).update(name="N"),
    "bulk_create": lambda plan: Plan.objects.bulk_create([Plan(slug="p3", name="P")]),
    "bulk_update": lambda plan: Plan.objects.bulk_update([plan], ["name"]),
    "queryset delete": lambda plan: Plan.objects.filter(pk=plan.pk).delete(),
    "get_or_create": lambda plan: Plan.objects.get_or_create(slug="p4"),
    "update_or_create": lambda plan: Plan.objects.update_or_create(
        slug="basic", defaults={"name": "X"}
    ),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))
def test_every_way_to_write_moves_the_topic(plan: Plan, write: Write) -> None:
    keys, routing = number(Topic.KEYS), number(Topic.ROUTING)
    write(plan)
    assert number(Topic.KEYS) > keys
    assert number(Topic.ROUTING) == routing


def test_each_model_moves_its_own_topic(plan: Plan) -> None:
    keys, routing = number(Topic.KEYS), number(Topic.ROUTING)
    provider = Provider.objects.create(slug="p", adapter="openai", base_url="https://a.example")
    Route.objects.create(operation="chat.completions", alias="x")
    provider.delete()
    assert number(Topic.ROUTING) == routing + 3
    assert number(Topic.KEYS) == keys


def test_a_quiet_update_is_not_heard(plan: Plan) -> None:
    before = number(Topic.KEYS)
    assert Plan.objects.filter(pk=plan.pk).update_quietly(name="quiet") == 1
    assert number(Topic.KEYS) == before
    assert Plan.objects.get(pk=plan.pk).name == "quiet"


def test_reading_moves_nothing(plan: Plan) -> None:
    before = Revision.numbers()
    list(Plan.objects.all())
    list(Tenant.objects.select_related("plan"))
    ApiKey.objects.count()
    assert Revision.numbers() == before


def test_a_write_that_is_rolled_back_moves_nothing(plan: Plan) -> None:
    before = number(Topic.KEYS)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        plan.save()
        raise ZeroDivisionError
    assert number(Topic.KEYS) == before


def test_a_failed_write_moves_nothing(plan: Plan) -> None:
    before = number(Topic.KEYS)
    with pytest.raises(Exception, match=r"(?i)unique"):
        Plan.objects.create(slug="basic", name="again")
    assert number(Topic.KEYS) == before


def test_the_first_two_changes_of_all_are_both_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process makes the row between our look and our write."""
    Revision.objects.all().delete()
    real = Revision.objects.get_or_create

    def late(**kwargs: object) -> object:
        Revision.objects.create(topic=Topic.KEYS, number=1)
        return real(**kwargs)

    monkeypatch.setattr(Revision.objects, "get_or_create", late)
    Revision.bump(Topic.KEYS)
    assert number(Topic.KEYS) == 2
    assert "keys 2" in str(Revision.objects.get())
