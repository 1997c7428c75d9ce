"""GET /usage: what a tenant used, and nothing of anybody else's."""

from __future__ import annotations

import datetime as dt
import json
import zoneinfo
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import Role
from tenants.models import Tenant
from tests.factories import (
    ApiKeyFactory,
    ProjectFactory,
    TenantFactory,
    UsageRecordFactory,
    UserFactory,
)
from usage import rollups

pytestmark = pytest.mark.django_db
TODAY = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
YESTERDAY = TODAY - dt.timedelta(days=1)


def call(tenant: Tenant, at: dt.datetime = YESTERDAY, **values: Any) -> None:
    record = UsageRecordFactory(tenant_id=tenant.pk, created_at=at, **values)
    rollups.add(record.request_id)


def asked(client: APIClient, where: str = "/api/v1/usage", **query: str) -> Any:
    answer = client.get(where, query)
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_sums_in_groups(as_role: Any) -> None:
    key = ApiKeyFactory()
    tenant, project = key.tenant, key.project
    own = {"project_id": project.pk, "key_id": key.pk}
    call(tenant, charge=1_250_000, input_tokens=3, latency_ms=20, **own)
    call(tenant, charge=5, code="cut", latency_ms=40, **own)
    rollups.fold()
    call(tenant, charge=1, cache="hit", operation="finance.quote", provider="b", **own)
    call(tenant, charge=2)  # by a user: no key, no project
    call(tenant, charge=9, mode="test")
    call(tenant, YESTERDAY - dt.timedelta(days=60), charge=9)
    body = asked(as_role(tenant, "viewer"), group_by="project,key,operation,provider")
    groups = [
        (row["project"], row["project_slug"], row["key"], row["operation"], row["provider"])
        for row in body["data"]
    ]
    assert groups == [
        (None, None, None, "chat.completions", "lab"),
        (project.public_id, project.slug, key.key_id, "chat.completions", "lab"),
        (project.public_id, project.slug, key.key_id, "finance.quote", "b"),
    ]
    row = body["data"][1]
    assert (row["calls"], row["errors"], row["cache_hits"], row["input_tokens"]) == (2, 1, 0, 13)
    assert (row["charge_microusd"], row["charge_usd"]) == (1_250_005, "1.250005")
    assert row["latency_ms"] == {"mean": 30, "p50": 25, "p95": 48, "p99": 50}
    assert body["data"][2]["cache_hits"] == 1
    assert (body["totals"]["calls"], body["totals"]["charge_microusd"]) == (4, 1_250_008)
    assert body["time_zone"] == "UTC"
    tested = asked(as_role(tenant, "viewer"), mode="test")
    assert [row["charge_microusd"] for row in tested["data"]] == [9]


def test_nothing_used(as_role: Any) -> None:
    body = asked(as_role(TenantFactory(), "owner"), group_by="day,model")
    assert body["data"] == []
    assert body["totals"]["calls"] == 0
    assert body["totals"]["latency_ms"] == {"mean": None, "p50": None, "p95": None, "p99": None}


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe"])
def test_days_and_hours_are_the_tenants_own(zone: str, folded: bool, as_role: Any) -> None:
    tenant = TenantFactory(time_zone=zone)
    there = zoneinfo.ZoneInfo(zone)
    day = (YESTERDAY - dt.timedelta(days=3)).date()
    midnight = dt.datetime.combine(day, dt.time(), there)
    for minutes, charge in ((-1, 1), (0, 10), (59, 100), (60, 1000), (24 * 60 - 1, 10_000)):
        call(tenant, midnight.astimezone(dt.UTC) + dt.timedelta(minutes=minutes), charge=charge)
    if folded:
        rollups.fold()
    client = as_role(tenant, "owner")
    body = asked(client, group_by="day")
    assert [(row["day"], row["charge_microusd"]) for row in body["data"]] == [
        (str(day - dt.timedelta(days=1)), 1),
        (str(day), 11_110),
    ]
    assert body["time_zone"] == zone
    body = asked(client, group_by="hour", **{"from": str(day), "to": str(day)})
    assert [(row["hour"], row["charge_microusd"]) for row in body["data"]] == [
        (midnight.isoformat(), 110),
        ((midnight + dt.timedelta(hours=1)).isoformat(), 1000),
        ((midnight + dt.timedelta(hours=23)).isoformat(), 10_000),
    ]
    assert body["from"] == midnight.isoformat()


@pytest.mark.parametrize("role", Role.values)
def test_every_role_may_read(role: str, as_role: Any) -> None:
    tenant = TenantFactory()
    call(tenant)
    assert asked(as_role(tenant, role))["totals"]["calls"] == 1


def test_tenants_see_their_own_and_never_the_cost(as_role: Any, with_key: Any) -> None:
    own, other = ApiKeyFactory(scopes=["*"]), ProjectFactory()
    call(own.tenant, charge=7, cost=424_242)
    call(other.tenant, charge=9, project_id=other.pk)
    for client in (as_role(own.tenant, "owner"), with_key(own)):
        for folded in (False, True):
            if folded:
                rollups.fold()
            body = asked(client, group_by="project")
            assert body["totals"]["charge_microusd"] == 7
            assert "cost" not in json.dumps(body)
            assert "424242" not in json.dumps(body)
            assert other.public_id not in json.dumps(body)
    for parameter in ("tenant", "time_zone"):
        assert with_key(own).get("/api/v1/usage", {parameter: "x"}).status_code == 400
    answer = with_key(own).get("/api/v1/usage", {"group_by": "tenant"})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("who", "status"), [("anonymous", 401), ("owner", 403), ("key", 403), ("reader", 200)]
)
def test_who_sees_all(
    who: str, status: int, anonymous: APIClient, as_role: Any, with_key: Any
) -> None:
    client = {
        "anonymous": lambda: anonymous,
        "owner": lambda: as_role(TenantFactory(), "owner"),
        "key": lambda: with_key(ApiKeyFactory(scopes=["*"])),
        "reader": lambda: with_key(ApiKeyFactory(scopes=["internal:read"])),
    }[who]()
    assert client.get("/internal/v1/usage").status_code == status
    if who == "anonymous":
        assert client.get("/api/v1/usage").status_code == 401


def test_staff_sees_all_tenants_and_the_cost(as_user: Any) -> None:
    first, second = TenantFactory(), TenantFactory()
    call(first, charge=7, cost=5)
    call(second, charge=9, cost=1_000_000)
    staff = as_user(UserFactory(is_staff=True))
    body = asked(staff, "/internal/v1/usage", group_by="tenant,day")
    told = [(row["tenant"], row["charge_microusd"], row["cost_usd"]) for row in body["data"]]
    assert told == [(first.slug, 7, "0.000005"), (second.slug, 9, "1")]
    body = asked(staff, "/internal/v1/usage", tenant=second.slug, time_zone="Asia/Tokyo")
    assert body["totals"]["cost_microusd"] == 1_000_000
    assert body["time_zone"] == "Asia/Tokyo"
    assert staff.get("/api/v1/usage").status_code == 403
    for query in ({"tenant": "nobody"}, {"time_zone": "Mars/Base"}, {"time_zone": "../etc"}):
        assert staff.get("/internal/v1/usage", query).status_code == 400


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-02-30"}, "from"),
        ({"from": "2026-07-01T00:00:00"}, "from"),
        ({"from": "0001-01-01"}, "from"),
        ({"to": "9999-12-31"}, "to"),
        ({"to": ""}, "to"),
        ({"from": "2026-07-02", "to": "2026-07-01"}, "from"),
        ({"from": "2025-01-01", "to": "2026-07-01"}, "from"),
        ({"from": "2026-05-01", "to": "2026-07-01", "group_by": "hour"}, "from"),
        ({"group_by": "tenant_id"}, "group_by"),
        ({"group_by": "day,hour"}, "group_by"),
        ({"group_by": "cost; DROP TABLE usage_usageday"}, "group_by"),
        ({"mode": "both"}, "mode"),
        ({"start": "2026-07-01"}, "start"),
    ],
)
def test_bad_questions(query: dict[str, str], param: str, as_role: Any) -> None:
    answer = as_role(TenantFactory(), "owner").get("/api/v1/usage", query)
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_request"
    assert answer.json()["errors"][0]["pointer"] == f"/{param}"


def test_more_groups_than_anybody_reads(as_role: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.v1.usage.MOST_GROUPS", 2)
    tenant = TenantFactory()
    for number in range(3):
        call(tenant, model=f"m{number}")
    client = as_role(tenant, "owner")
    assert asked(client, group_by="day")["totals"]["calls"] == 3
    answer = client.get("/api/v1/usage", {"group_by": "model"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/group_by")


def test_the_ledger_is_not_read(as_role: Any) -> None:
    tenant = TenantFactory()
    UsageRecordFactory(tenant_id=tenant.pk, created_at=YESTERDAY)  # without its delta
    assert asked(as_role(tenant, "owner"))["totals"]["calls"] == 0
