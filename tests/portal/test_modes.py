"""Live calls are shown, but to who has made test calls only."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tenants.models import Tenant
from tests.api.test_dashboard import called
from tests.factories import TenantFactory, UsageRecordFactory
from usage import rollups
from usage.refusals import Count, Kind, add

pytestmark = pytest.mark.django_db
PAGES = ("", "quotas/", "requests/")


def a_test_call(tenant: Tenant) -> Any:
    record = UsageRecordFactory(tenant_id=tenant.pk, mode="test", created_at=timezone.now())
    rollups.add(record.request_id)
    return record


def modes(browser: Client, query: str = "") -> set[str]:
    shown = {browser.get(f"/app/acme/{page}{query}").context["mode"] for page in PAGES}
    return shown | {browser.get(f"/app/acme/usage/{query}").context["choice"]["mode"]}


def test_who_only_tested_sees_that(tenant: Tenant, owner: Client) -> None:
    called(TenantFactory())
    assert modes(owner) == {"live"}
    a_test_call(tenant)
    assert modes(owner) == {"test"} and modes(owner, "?mode=live") == {"live"}
    rollups.fold()
    assert modes(owner) == {"test"}
    called(tenant)
    assert modes(owner) == {"live"} and modes(owner, "?mode=test") == {"test"}


def test_a_first_call_that_was_refused_is_seen(tenant: Tenant, owner: Client) -> None:
    now = timezone.now().timestamp()
    kind = Kind(tenant.pk, 0, "test", "embeddings", "invalid_request", "")
    add({(int(now // 3600 * 3600), kind): Count(1, now, "a")})
    assert modes(owner) == {"test"}
    assert "invalid request" in owner.get("/app/acme/requests/").content.decode()


def test_who_has_not_called_is_led_to_the_first_call(tenant: Tenant, owner: Client) -> None:
    shown = owner.get("/app/acme/").content.decode()
    assert 'href="/app/acme/start/">Make the first one' in shown and "<canvas" not in shown
    a_test_call(tenant)
    page = owner.get("/app/acme/")
    assert "Make the first one" not in page.content.decode()
    chart = json.loads(page.context["chart"])
    assert len(chart["labels"]) == 7 and chart["series"][0]["data"] == [0] * 6 + [1]
