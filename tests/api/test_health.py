"""Health: one word for everyone, the details for those who run it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError
from rest_framework.test import APIClient

from api import vitals
from lib.ids import uuid7
from providers.breaker import State
from tests.factories import (
    ApiKeyFactory,
    CredentialFactory,
    OpenCallFactory,
    ProviderFactory,
    TenantFactory,
    UsageRecordFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("where", ["/api/v1/health", "/api/health"])
def test_health(anonymous: APIClient, where: str) -> None:
    answer = anonymous.get(where)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def broken() -> None:
    raise OperationalError("host=secret-db")


def test_a_broken_database_is_down(anonymous: APIClient, as_user: Any, monkeypatch: Any) -> None:
    staff = as_user(UserFactory(is_staff=True))
    monkeypatch.setattr(vitals, "_ask_database", broken)
    answer = anonymous.get("/api/v1/health")
    assert (answer.status_code, answer.json()) == (503, {"status": "down"})
    detailed = staff.get("/api/v1/health/detailed")
    assert detailed.status_code == 503
    told = detailed.json()
    assert told["database"]["status"] == "down"
    assert (told["providers"], told["calls"]) == (None, None)
    assert told["memory_bytes"] > 1_000_000
    assert b"secret" not in detailed.content


def test_detailed_health_is_for_those_who_run_it(
    anonymous: APIClient, as_user: Any, with_key: Any
) -> None:
    where = "/api/v1/health/detailed"
    assert anonymous.get(where).status_code == 401
    assert as_user(UserFactory()).get(where).status_code == 403
    assert with_key(ApiKeyFactory()).get(where).json()["code"] == "insufficient_scope"
    ProviderFactory(enabled=False)
    reader = with_key(ApiKeyFactory(scopes=["health:read"]))
    for client in (reader, as_user(UserFactory(is_staff=True))):
        told = client.get(where).json()
        assert told["status"] == "ok"
        assert told["providers"] == {"total": 1, "enabled": 0, "each": []}
        assert told["cpus"] >= 1
        assert told["cpu_load"] >= 0
        assert told["disk_free_bytes"] > 0
        assert told["memory_bytes"] > 1_000_000
        assert told["store"]["kind"] == "in-process"


@pytest.fixture
def report(as_user: Any) -> Callable[[], dict[str, Any]]:
    staff = as_user(UserFactory(is_staff=True))
    return lambda: staff.get("/api/v1/health/detailed").json()


def test_detailed_health_tells_each_provider(report: Callable[[], Any]) -> None:
    CredentialFactory(provider__slug="ready")
    CredentialFactory(provider__slug="theirs", tenant=TenantFactory())
    ProviderFactory(slug="keyless", needs_credential=False)
    each = {p["slug"]: p["status"] for p in report()["providers"]["each"]}
    assert each == {"keyless": "ready", "ready": "ready", "theirs": "needs_credential"}


def test_detailed_health_tells_the_breakers(
    report: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    none = {"closed": 0, "open": 0, "half_open": 0, "disabled": 0, "forced_open": 0, "resting": []}
    assert report()["breakers"] == none
    states = {
        "lab/gpt-x:free": State.OPEN,
        "lab2": State.HALF_OPEN,
        "lab3": State.CLOSED,
        "lab4": State.FORCED_OPEN,
        "lab5": State.DISABLED,
        "test:7:lab": State.OPEN,
    }
    monkeypatch.setattr(vitals.WORKER, "breakers", lambda: states)
    assert report()["breakers"] == {
        "closed": 1,
        "open": 1,
        "half_open": 1,
        "disabled": 1,
        "forced_open": 1,
        "resting": [
            {"name": "lab/gpt-x:free", "state": "OPEN"},
            {"name": "lab2", "state": "HALF_OPEN"},
            {"name": "lab4", "state": "FORCED_OPEN"},
            {"name": "lab5", "state": "DISABLED"},
        ],
    }
    many = {f"lab/{number}": State.OPEN for number in range(150)}
    monkeypatch.setattr(vitals.WORKER, "breakers", lambda: many)
    told = report()["breakers"]
    assert (told["open"], len(told["resting"])) == (150, 100)


def made_ago(seconds: int) -> str:
    """A request id as one made then would be."""
    earlier = int(uuid7().replace("-", ""), 16) - (seconds * 1000 << 80)
    return str(UUID(int=earlier))


def test_detailed_health_tells_the_last_minutes_calls(
    report: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert report()["calls"]["error_rate"] == 0
    for status, seconds in ((200, 0), (499, 50), (429, 30), (503, 40), (503, 70), (200, 3600)):
        UsageRecordFactory(status=status, request_id=made_ago(seconds))
    OpenCallFactory()
    monkeypatch.setattr(vitals.WORKER, "in_flight", lambda: 3)
    assert report()["calls"] == {
        "last_minute": 4,
        "failed_last_minute": 1,
        "per_second": 0.07,
        "error_rate": 0.25,
        "open": 1,
        "in_flight": 3,
    }


@pytest.mark.parametrize("many", [2, 12])
def test_detailed_health_costs_the_same_for_many(
    many: int, report: Callable[[], Any], django_assert_max_num_queries: Any
) -> None:
    for _ in range(many):
        CredentialFactory()
        UsageRecordFactory()
    report()
    with django_assert_max_num_queries(9):
        report()
