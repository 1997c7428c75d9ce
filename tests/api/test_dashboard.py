"""The dashboards: figures that add up, staff see the service, tenants their own part."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from api import vitals
from api.dashboard import alerts
from lib.ids import first_uuid7, uuid7
from providers.breaker import State
from providers.models import Credential
from tenants.models import Tenant
from tests.factories import (
    ApiKeyFactory,
    CredentialFactory,
    ProviderFactory,
    TenantFactory,
    UsageRecordFactory,
    UserFactory,
)
from usage import rollups, sizes
from usage.models import DatabaseSize, QuotaAlert

pytestmark = pytest.mark.django_db
PAGES = ("system-health", "llm-performance", "cache-stats", "database-health", "alerts")
FOR_STAFF = {"system-health", "database-health"}
MOST_QUERIES = 15


@pytest.fixture
def staff(as_user: Any) -> APIClient:
    client: APIClient = as_user(UserFactory(is_staff=True))
    return client


def called(tenant: Any, hours_ago: float = 1, **fields: Any) -> Any:
    at = timezone.now() - dt.timedelta(hours=hours_ago)
    record = UsageRecordFactory(
        request_id=f"{first_uuid7(at.timestamp())}{uuid7()[13:]}",
        tenant_id=tenant.pk,
        created_at=at,
        mode="live",
        **fields,
    )
    rollups.add(record.request_id)
    return record


def test_the_machine_is_told_whole(staff: APIClient) -> None:
    told = staff.get("/api/dashboard/system-health").json()
    machine = told["machine"]
    assert 0 < machine["memory_bytes"] < machine["memory_total_bytes"]
    assert 0 <= machine["disk_free_bytes"] <= machine["disk_total_bytes"]
    assert isinstance(told["pool"], dict)


@pytest.mark.parametrize("where", ["/api/dashboard", "/api/v1/dashboard", "/internal/v1/dashboard"])
@pytest.mark.parametrize("page", PAGES)
def test_staff_see_all_of_them(where: str, page: str, staff: APIClient) -> None:
    called(TenantFactory(), operation="chat.completions")
    assert staff.get(f"{where}/{page}").status_code == 200


@pytest.mark.parametrize("page", PAGES)
def test_others_see_their_own_part_or_nothing(page: str, with_key: Any, anonymous: Any) -> None:
    answer = with_key(ApiKeyFactory()).get(f"/api/dashboard/{page}")
    assert answer.status_code == (403 if page in FOR_STAFF else 200)
    assert anonymous.get(f"/api/dashboard/{page}").status_code == 401


def test_a_tenant_sees_only_its_own(with_key: Any, staff: APIClient) -> None:
    key = ApiKeyFactory()
    called(key.tenant, operation="embeddings", model="mine", cache="hit")
    called(TenantFactory(), operation="embeddings", model="CANARY")
    own = with_key(key).get("/api/dashboard/llm-performance")
    assert [row["model"] for row in own.json()["models"]] == ["mine"]
    assert b"cost_microusd" not in own.content and "targets" not in own.json()
    hits = with_key(key).get("/api/dashboard/cache-stats").json()
    assert (hits["calls"], hits["hits"]) == (1, 1) and "levels" not in hits
    assert staff.get("/api/dashboard/cache-stats").json()["calls"] == 2


def test_the_trend_adds_up(staff: APIClient) -> None:
    tenant = TenantFactory()
    for hours in (1, 2, 30, 167):
        called(tenant, hours, code="ok" if hours > 1 else "upstream_timeout")
    trend = staff.get("/api/dashboard/system-health").json()["trend"]
    assert [day["calls"] for day in trend] == [1, 0, 0, 0, 0, 1, 2]
    assert trend[-1]["error_rate"] == 0.5


@pytest.mark.parametrize("query", ["hours=0", "hours=169", "hours=a", "hours=1e2", "days=1"])
def test_a_wrong_span_is_refused(query: str, staff: APIClient) -> None:
    assert staff.get(f"/api/dashboard/cache-stats?{query}").status_code == 400


def codes(client: APIClient) -> list[str]:
    data = client.get("/api/dashboard/alerts").json()["data"]
    assert all(alert["text"] and alert["subject"] for alert in data)
    return [alert["code"] for alert in data]


def test_nothing_is_wrong_in_a_fresh_service(staff: APIClient) -> None:
    assert set(codes(staff)) <= {"disk_low"}


def test_what_is_wrong_is_told_the_worst_first(
    staff: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    Credential.objects.filter(pk=CredentialFactory().pk).update(drained_at=timezone.now())
    QuotaAlert.objects.create(counter="a", threshold=80, limit=10, used=8, quota="tenant-day")
    QuotaAlert.objects.create(counter="b", threshold=80, limit=10, used=8, quota="tenant-month")
    QuotaAlert.objects.create(counter="b", threshold=100, limit=10, used=10, quota="tenant-month")
    breakers = {"a": State.OPEN, "b": State.FORCED_OPEN, "c": State.DISABLED}
    monkeypatch.setattr(vitals.WORKER, "breakers", lambda: breakers)
    told = [code for code in codes(staff) if code != "disk_low"]
    assert told == [
        *("breaker_open", "credential_drained", "quota_used_up"),
        *("breaker_forced_open", "quota_near_limit", "breaker_disabled"),
    ]


def test_a_failing_provider_is_told(staff: APIClient) -> None:
    provider, tenant = ProviderFactory(), TenantFactory()
    for n in range(25):
        called(tenant, 0.5, provider=provider.slug, code="upstream_timeout" if n % 2 else "ok")
    assert "provider_failing" not in codes(staff)  # its attempts ended well, whatever the code


def test_a_worker_that_is_away_is_told(staff: APIClient) -> None:
    called(TenantFactory(), 1)
    assert "worker_lags" in codes(staff)
    rollups.fold()
    assert "worker_lags" not in codes(staff)


def test_a_tenants_alerts(with_key: Any) -> None:
    key = ApiKeyFactory(expires_at=timezone.now() + dt.timedelta(days=3))
    other = TenantFactory()
    QuotaAlert.objects.create(
        counter="x", threshold=100, limit=1, used=1, quota="CANARY", tenant_id=other.pk
    )
    QuotaAlert.objects.create(
        counter="y", threshold=80, limit=9, used=8, quota="own", tenant_id=key.tenant_id
    )
    answer = with_key(key).get("/api/dashboard/alerts")
    assert [alert["code"] for alert in answer.json()["data"]] == ["quota_near_limit", "key_ends"]
    assert b"CANARY" not in answer.content


@time_machine.travel(dt.datetime(2026, 11, 16, tzinfo=dt.UTC), tick=False)
def test_a_quota_that_will_not_last_is_told(with_key: Any) -> None:
    key = ApiKeyFactory()
    quotas = [
        {"scope": "tenant", "metric": "requests", "window": window, "limit": 4}
        for window in ("month", "hour", "lifetime")
    ]
    Tenant.objects.filter(pk=key.tenant_id).update(quotas=quotas)
    for hours in (1, 2, 3):
        called(key.tenant, hours)
    (alert,) = with_key(key).get("/api/dashboard/alerts").json()["data"]
    assert (alert["code"], alert["subject"]) == (
        "quota_runs_out",
        f"{key.tenant.slug} tenant-requests-month",
    )
    assert "used up in 5 days" in alert["text"] and "2026-12-01 00:00" in alert["text"]
    standing = with_key(key).get("/api/v1/quotas?mode=live").json()["data"]
    assert {quota["window"]: quota["days_left"] for quota in standing}["month"] == 5.0


def test_the_disks_last_day_is_foretold() -> None:
    for hour in range(48):
        DatabaseSize.objects.create(
            at=timezone.now() - dt.timedelta(hours=hour),
            database_bytes=1_000_000_000 - hour * 1_000_000,
            disk_free_bytes=0,
        )
    growth = sizes.growth(240_000_000)
    assert growth.disk_days_left == 10.0
    assert growth.bytes_per_day == pytest.approx(24_000_000, rel=1e-6)


def test_of_few_samples_nothing_is_foretold(tmp_path: Any) -> None:
    sizes.measure(tmp_path)
    assert sizes.growth(1) == sizes.Growth(None, None)
    assert DatabaseSize.objects.get().database_bytes == sizes.size() > 0


@pytest.mark.parametrize("page", PAGES)
def test_as_many_queries_for_many_rows_as_for_few(page: str, staff: APIClient) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert staff.get(f"/api/dashboard/{page}").status_code == 200
        return len(captured)

    called(TenantFactory(), operation="chat.completions")
    queries()
    few = queries()
    for _ in range(10):
        called(TenantFactory(), operation="chat.completions", provider=ProviderFactory().slug)
        QuotaAlert.objects.create(counter=uuid7(), threshold=80, limit=1, used=1, quota="q")
    queries()  # who asks is looked up anew after a change of keys
    assert queries() == few <= MOST_QUERIES


def test_moments_are_told_by_the_tenants_clock() -> None:
    ends = dt.datetime(2026, 7, 2, 20, 15, tzinfo=dt.UTC)
    with time_machine.travel(ends - dt.timedelta(days=1), tick=False):
        key = ApiKeyFactory(tenant=TenantFactory(time_zone="Asia/Kolkata"), expires_at=ends)
        (told,) = alerts.of_tenant(key.tenant)
    assert "2026-07-03 01:45 Asia/Kolkata" in told.text
