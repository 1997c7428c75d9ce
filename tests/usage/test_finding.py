"""How far back the newest calls of a kind go: never too short, and not far for what is not there."""

from __future__ import annotations

import datetime as dt
import random
import re
from typing import Any

import pytest
from django.utils import timezone

from lib.ids import moment_of, uuid7
from tests.api.test_dashboard import called
from tests.factories import TenantFactory
from usage import rollups
from usage.finding import begin_of_newest
from usage.models import UsageRecord

pytestmark = pytest.mark.django_db
KINDS: list[dict[str, Any]] = [{}, {"errors": True}, {"operation": "rare"}, {"key_id__in": [7]}]


@pytest.mark.parametrize("seed", range(4))
def test_every_page_is_as_without_it(seed: int) -> None:
    chance = random.Random(seed)
    tenant, other = TenantFactory(), TenantFactory()
    for n in range(120):
        called(
            chance.choice([tenant, tenant, other]),
            chance.choice([0.0, 0.5, 3, 30, 200, 700]) + chance.random() * chance.choice([0.1, 9]),
            operation="rare" if chance.random() < 0.1 else "often",
            code="upstream_timeout" if chance.random() < 0.1 else "ok",
            key_id=chance.choice([7, 8, None]),
        )
        if n == 90 and seed % 2:
            rollups.fold()
    since = timezone.now() - dt.timedelta(days=20)
    for kind in KINDS:
        rows = UsageRecord.objects.of_tenant(tenant.pk).filter(created_at__gte=since)
        rows = rows.order_by("-created_at", "-request_id")
        rows = rows.exclude(code="ok") if kind.get("errors") else rows.filter(**kind)
        before = ""
        while True:
            wanted = list(rows.filter(request_id__lt=before)[:8] if before else rows[:8])
            begin = begin_of_newest(
                8,
                tenant_id=tenant.pk,
                since=since,
                before=moment_of(before) if before else None,
                mode="live",
                **kind,
            )
            found = rows.filter(created_at__gte=begin)
            assert list(found.filter(request_id__lt=before)[:8] if before else found[:8]) == wanted
            if len(wanted) < 8:
                break
            before = wanted[-2].request_id


def test_what_is_not_there_is_looked_for_in_what_is_not_summed_up() -> None:
    tenant = TenantFactory()
    called(tenant, 100)
    rollups.fold()
    since = timezone.now() - dt.timedelta(days=90)
    begin = begin_of_newest(51, tenant_id=tenant.pk, since=since, mode="live", operation="none")
    assert timezone.now() - begin < dt.timedelta(hours=2)


@pytest.mark.parametrize("digit", ["0", "f"])
def test_any_id_has_a_moment(digit: str) -> None:
    assert abs(moment_of(uuid7()) - timezone.now()) < dt.timedelta(seconds=5)
    before = moment_of(re.sub("x", digit, "xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx"))
    begin_of_newest(1, tenant_id=1, since=timezone.now(), before=before, mode="live")
