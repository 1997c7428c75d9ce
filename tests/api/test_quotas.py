"""GET /quotas: what is allowed, used, reserved and when it is reset; each tenant its own only."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest
from rest_framework.test import APIClient

from api import vitals
from tenants.models import HousePolicy, Tenant
from tests.factories import (
    ApiKeyFactory,
    PlanFactory,
    ProjectFactory,
    ProviderFactory,
    TenantFactory,
    UsageRecordFactory,
    UserFactory,
)
from usage import rollups
from usage.counters.claims import QuotaClaim, Used

pytestmark = pytest.mark.django_db
DAILY = {"scope": "tenant", "metric": "requests", "window": "day", "limit": 10}


def call(tenant: Tenant, **values: Any) -> None:
    now = dt.datetime.now(dt.UTC)
    record = UsageRecordFactory(tenant_id=tenant.pk, created_at=now, **values)
    rollups.add(record.request_id)


def quotas(client: APIClient, path: str = "/api/v1/quotas", **query: str) -> list[dict[str, Any]]:
    answer = client.get(path, query)
    assert answer.status_code == 200, answer.content
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def test_what_the_ledger_says_where_no_counter_does(as_role: Any) -> None:
    plan = PlanFactory(slug="paid", quotas=[{**DAILY, "limit": 3, "window": "month"}])
    tenant = TenantFactory(plan=plan, quotas=[DAILY], time_zone="Asia/Kathmandu")
    call(tenant)
    call(tenant, mode="test")
    monthly, daily = quotas(as_role(tenant, "viewer"))
    assert (monthly["quota"], monthly["used"], monthly["left"]) == ("tenant-requests-month", 1, 2)
    assert (daily["scope"], daily["of"], daily["limit"]) == ("tenant", tenant.slug, 10)
    assert (daily["used"], daily["reserved"], daily["left"]) == (1, 0, 9)
    resets = dt.datetime.fromisoformat(daily["resets_at"])
    assert resets.astimezone(dt.UTC).strftime("%H:%M") == "18:15"  # midnight in Kathmandu
    (tested,) = [q for q in quotas(as_role(tenant, "viewer"), mode="test") if q["window"] == "day"]
    assert tested["used"] == 1


def test_what_a_counter_says_counts(as_role: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = TenantFactory(quotas=[DAILY])
    asked: list[QuotaClaim] = []

    def counters(claims: Sequence[QuotaClaim]) -> list[Used | None]:
        asked.extend(claims)
        return [Used(4, 9) for _ in claims]

    monkeypatch.setattr(vitals.WORKER, "counters", counters)
    (daily,) = quotas(as_role(tenant, "viewer"))
    assert (daily["used"], daily["reserved"], daily["left"]) == (4, 9, 0)
    assert [claim.key.startswith(f"quota:{tenant.public_id}:") for claim in asked] == [True]


def test_each_project_and_the_key_that_asks(as_role: Any, with_key: Any) -> None:
    tenant = TenantFactory(
        quotas=[
            {"scope": "project", "metric": "tokens", "window": "day", "limit": 100},
            {"scope": "key", "metric": "cost", "window": "lifetime", "limit_usd": "1.5"},
            {"scope": "route", "metric": "requests", "window": "hour", "limit": 2},
        ]
    )
    one, two = ProjectFactory(tenant=tenant), ProjectFactory(tenant=tenant)
    key = ApiKeyFactory(project=one)
    call(tenant, project_id=one.pk, key_id=key.pk, charge=250_000, input_tokens=7, route="fast")
    row = UsageRecordFactory.build()
    tokens = 7 + row.output_tokens
    told = {(q["scope"], q["of"]): q for q in quotas(as_role(tenant, "owner"))}
    assert told.keys() == {("project", one.slug), ("project", two.slug)}
    assert told["project", one.slug]["used"] == tokens
    assert told["project", two.slug]["used"] == 0
    of_key = {q["scope"]: q for q in quotas(with_key(key))}
    assert of_key["key"]["of"] == key.key_id
    assert (of_key["key"]["used_usd"], of_key["key"]["limit_usd"]) == ("0.25", "1.5")
    assert of_key["key"]["resets_at"] is None
    routes = [q for q in quotas(as_role(tenant, "owner"), route="fast") if q["scope"] == "route"]
    assert [(q["of"], q["used"]) for q in routes] == [("fast", 1)]


def test_anothers_key_is_not_there(as_role: Any) -> None:
    other = ApiKeyFactory()
    answer = as_role(TenantFactory(), "owner").get("/api/v1/quotas", {"key": other.key_id})
    assert answer.status_code == 404


def test_a_mode_that_is_none(as_role: Any) -> None:
    answer = as_role(TenantFactory(), "owner").get("/api/v1/quotas", {"mode": "both"})
    assert answer.json()["code"] == "invalid_request"


def test_what_all_use_together_is_for_staff(as_role: Any, as_user: Any) -> None:
    staff = as_user(UserFactory(is_staff=True))
    house = HousePolicy.current()
    house.quotas = [{"scope": "global", "metric": "requests", "window": "day", "limit": 1000}]
    house.save()
    ProviderFactory(slug="lab", quotas=[{"metric": "requests", "window": "day", "limit": 50}])
    tenant = TenantFactory(quotas=[DAILY])
    call(tenant, provider="lab", attempts=1)
    assert [q["scope"] for q in quotas(as_role(tenant, "owner"))] == ["tenant"]
    told = {q["of"]: q for q in quotas(staff, "/internal/v1/quotas")}
    assert (told["all"]["used"], told["lab"]["used"]) == (1, 1)
    (daily,) = quotas(staff, "/internal/v1/quotas", tenant=tenant.slug)
    assert daily["used"] == 1
    assert staff.get("/internal/v1/quotas", {"tenant": "nobody"}).status_code == 404
