"""A key's row says in which minute it was last used, on either database."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections, models, transaction

from lib.models import Revision, Topic
from tenants.models import ApiKey, Plan, Project, Tenant
from tests.usage.conftest import ALIAS, Store
from tests.usage.entries import NOON, final
from tests.usage.test_sums import write
from usage import rollups

MINUTE = NOON.replace(second=0, microsecond=0)
KEYS = (1, 2)


def rows(model: type[models.Model]) -> Any:
    """Without what our own managers tell others of."""
    return models.QuerySet(model, using=ALIAS)


@pytest.fixture(autouse=True)
def keys(store: Store) -> Iterator[None]:
    plan = Plan(pk=1, slug="last-use")
    tenant = Tenant(pk=1, slug="last-use", plan=plan)
    project = Project(pk=1, slug="default", tenant=tenant)
    named = [ApiKey(pk=n, public_id=f"key{n}", tenant=tenant, project=project) for n in KEYS]
    for row in (plan, tenant, project, *named):
        rows(type(row)).bulk_create([row])
    yield
    for row in (*named, project, tenant, plan):
        rows(type(row)).filter(pk=row.pk).delete()


def last_used() -> list[dt.datetime | None]:
    return list(rows(ApiKey).order_by("pk").values_list("last_used_at", flat=True))


def used(store: Store, key_id: int | None, minutes: int) -> None:
    write(store, [final(key_id=key_id, created_at=NOON + dt.timedelta(minutes=minutes))])


def test_the_newest_call_counts_and_an_older_one_takes_nothing_back(store: Store) -> None:
    for minutes in (1, 5, 3):
        used(store, 1, minutes)
    used(store, None, 9)  # a person's call is no key's
    rollups.fold(using=ALIAS)
    assert last_used() == [MINUTE + dt.timedelta(minutes=5), None]
    used(store, 1, 4)
    used(store, 2, 6)
    used(store, 77, 6)  # a key that is no longer there
    rollups.fold(using=ALIAS)
    assert last_used() == [MINUTE + dt.timedelta(minutes=minutes) for minutes in (5, 6)]
    assert not rollups.fold(using=ALIAS)


def test_nobody_has_to_look_a_key_up_again_for_it(store: Store) -> None:
    def number() -> list[int]:
        found = Revision.objects.using(ALIAS).filter(topic=Topic.KEYS)
        return list(found.values_list("number", flat=True))

    before = number()
    used(store, 1, 1)
    rollups.fold(using=ALIAS)
    assert last_used()[0] and number() == before


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_a_key_that_is_being_changed_does_not_hold_up_the_sums(store: Store) -> None:
    used(store, 1, 1)
    used(store, 2, 1)
    with transaction.atomic(using=ALIAS):
        rows(ApiKey).select_for_update().get(pk=1)
        assert in_a_thread(lambda: rollups.fold(using=ALIAS)) == 2
    assert last_used() == [None, MINUTE + dt.timedelta(minutes=1)]
    used(store, 1, 2)
    rollups.fold(using=ALIAS)
    assert last_used()[0] == MINUTE + dt.timedelta(minutes=2)


def in_a_thread(work: Callable[[], int]) -> int | None:
    """What it gave, with a connection of its own; None if it still waits after some seconds."""
    results: list[int] = []

    def run() -> None:
        try:
            results.append(work())
        finally:
            connections[ALIAS].close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(5)
    return results[0] if results else None
