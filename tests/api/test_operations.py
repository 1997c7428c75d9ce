"""Health, metrics, the catalogue and one call's record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError
from prometheus_client.parser import text_string_to_metric_families
from rest_framework.test import APIClient

from api import vitals
from lib.ids import uuid7
from providers.breaker import State
from providers.models import Provider
from tests.factories import (
    ApiKeyFactory,
    AttemptFactory,
    CredentialFactory,
    ModelFactory,
    OpenCallFactory,
    OperationFactory,
    ProviderFactory,
    RouteFactory,
    TargetFactory,
    TenantFactory,
    UsageRecordFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db
OUTSIDE = {"REMOTE_ADDR": "203.0.113.5"}


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
    none = {"closed": 0, "open": 0, "half_open": 0, "resting": []}
    assert report()["breakers"] == none
    states = {
        "lab/gpt-x:free": State.OPEN,
        "lab2": State.HALF_OPEN,
        "lab3": State.CLOSED,
        "test:7:lab": State.OPEN,
    }
    monkeypatch.setattr(vitals.WORKER, "breakers", lambda: states)
    assert report()["breakers"] == {
        "closed": 1,
        "open": 1,
        "half_open": 1,
        "resting": [
            {"name": "lab/gpt-x:free", "state": "OPEN"},
            {"name": "lab2", "state": "HALF_OPEN"},
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


def test_metrics_from_a_listed_network(anonymous: APIClient) -> None:
    answer = anonymous.get("/api/metrics")
    assert answer.status_code == 200
    names = {family.name for family in text_string_to_metric_families(answer.content.decode())}
    assert "python_info" in names
    wanted = {"Accept": "application/openmetrics-text; version=1.0.0"}
    assert anonymous.get("/api/metrics", headers=wanted).content.endswith(b"# EOF\n")


def test_metrics_from_elsewhere(as_user: Any, with_key: Any, settings: Any) -> None:
    outside = APIClient(**OUTSIDE)
    assert outside.get("/api/metrics").status_code == 401
    forged = {"X-Forwarded-For": "127.0.0.1"}
    assert outside.get("/api/metrics", headers=forged).status_code == 401
    assert with_key(ApiKeyFactory()).get("/api/metrics", **OUTSIDE).status_code == 403
    assert as_user(UserFactory()).get("/api/metrics", **OUTSIDE).status_code == 403
    staff = as_user(UserFactory(is_staff=True))
    assert staff.get("/api/metrics", **OUTSIDE).status_code == 200


def test_metrics_with_the_token(settings: Any) -> None:
    outside = APIClient(**OUTSIDE)
    empty = {"Authorization": "Bearer "}
    assert outside.get("/api/metrics", headers=empty).status_code == 401
    settings.ENV = settings.ENV.model_copy(update={"METRICS_TOKEN": "scrape-me-please"})
    right = {"Authorization": "Bearer scrape-me-please"}
    wrong = {"Authorization": "Bearer scrape-me-pleasé"}
    assert outside.get("/api/metrics", headers=right).status_code == 200
    assert outside.get("/api/metrics", headers=wrong).status_code == 401


def test_metrics_behind_a_proxy(settings: Any) -> None:
    settings.ENV = settings.ENV.model_copy(update={"TRUSTED_PROXY_HOPS": 1})
    client = APIClient(REMOTE_ADDR="127.0.0.1")
    real = {"X-Forwarded-For": "127.0.0.1, 203.0.113.5"}
    assert client.get("/api/metrics", headers=real).status_code == 401
    assert client.get("/api/metrics", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
@pytest.mark.parametrize("value", ["203.0.113.5", "127.0.0.1", "for=127.0.0.1", ""])
def test_metrics_behind_a_proxy_nobody_told_of(
    header: str, value: str, as_user: Any, settings: Any
) -> None:
    settings.ENV = settings.ENV.model_copy(update={"METRICS_TOKEN": "scrape-me-please"})
    local, relayed = APIClient(REMOTE_ADDR="127.0.0.1"), {header: value}
    assert local.get("/api/metrics").status_code == 200
    assert local.get("/api/metrics", headers=relayed).status_code == 401
    with_token = {**relayed, "Authorization": "Bearer scrape-me-please"}
    assert local.get("/api/metrics", headers=with_token).status_code == 200
    staff = as_user(UserFactory(is_staff=True))
    assert staff.get("/api/metrics", headers=relayed).status_code == 200


def test_metrics_of_all_workers(anonymous: APIClient, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    answer = anonymous.get("/api/metrics")
    assert answer.status_code == 200
    assert b"python_info" not in answer.content


def test_catalogue(with_key: Any, django_assert_max_num_queries: Any) -> None:
    ready = CredentialFactory(provider__slug="ready").provider
    without, off = ProviderFactory(slug="without"), ProviderFactory(slug="off", enabled=False)
    keyless = ProviderFactory(slug="keyless", needs_credential=False)
    quote = RouteFactory(operation="finance.quote", alias="")
    for provider in (ready, without, off, keyless):
        TargetFactory(route=quote, model=None, provider=provider)
    ModelFactory(provider=without)
    OperationFactory(name="geo.geocode", category="geo", enabled=False)
    client = with_key(ApiKeyFactory())
    client.get("/api/v1/catalogue")
    with django_assert_max_num_queries(6):
        told = client.get("/api/v1/catalogue").json()["data"]
    operations = {o["name"]: o for category in told for o in category["operations"]}
    assert [category["name"] for category in told] == sorted({c["name"] for c in told})
    served = {p["slug"]: p["status"] for p in operations["finance.quote"]["providers"]}
    assert served == {"ready": "ready", "without": "needs_credential", "keyless": "ready"}
    assert operations["finance.quote"]["status"] == "ready"
    assert operations["finance.quote"]["request_schema"]["required"] == ["symbol"]
    assert operations["chat.completions"]["status"] == "sandbox"
    assert operations["geo.geocode"]["status"] == "disabled"


def test_a_call_as_the_ledger_knows_it(with_key: Any, as_user: Any) -> None:
    key = ApiKeyFactory()
    record = UsageRecordFactory(tenant_id=key.tenant_id, attempts=2)
    for number, verdict in ((2, "ok"), (1, "rate_limited")):
        AttemptFactory(request_id=record.request_id, number=number, verdict=verdict)
    where = f"/api/v1/requests/{record.request_id}"
    told = with_key(key).get(where).json()
    assert told["request_id"] == record.request_id
    assert told["cost"] == {"microusd": 1_250_000, "usd": "1.25"}
    assert [a["verdict"] for a in told["attempts"]] == ["rate_limited", "ok"]
    assert "1000000" not in str(told)  # what the providers take is not the tenant's business
    assert with_key(ApiKeyFactory()).get(where).status_code == 404
    assert as_user(UserFactory(is_staff=True)).get(where).status_code == 200
    assert as_user(UserFactory()).get(where).status_code == 404


def test_a_call_that_was_answered_at_once_tells_its_only_attempt(with_key: Any) -> None:
    key = ApiKeyFactory()
    record = UsageRecordFactory(tenant_id=key.tenant_id, provider="lab", latency_ms=12)
    told = with_key(key).get(f"/api/v1/requests/{record.request_id}").json()
    assert told["attempts"] == [
        {
            "number": 1,
            "provider": "lab",
            "model": "gpt-x",
            "verdict": "ok",
            "status": 200,
            "latency_ms": 12,
            "created_at": told["created_at"],
        }
    ]
    assert "1000000" not in str(told)


def test_a_call_that_failed_at_once_tells_why(with_key: Any) -> None:
    key = ApiKeyFactory()
    record = UsageRecordFactory(tenant_id=key.tenant_id, status=504, code="upstream_timeout")
    AttemptFactory(request_id=record.request_id, verdict="timeout", status=0)
    told = with_key(key).get(f"/api/v1/requests/{record.request_id}").json()
    assert (told["status"], told["code"]) == (504, "upstream_timeout")
    assert [(a["verdict"], a["status"]) for a in told["attempts"]] == [("timeout", 0)]


def test_the_management_api_shows_no_secret(as_user: Any) -> None:
    credential = CredentialFactory(secret="sk-upstream-secret-abcd")
    client = as_user(UserFactory(is_staff=True))
    answer = client.get(f"/internal/v1/providers/{credential.provider.slug}")
    assert answer.json()["credentials"][0]["last_four"] == "abcd"
    assert b"upstream-secret" not in answer.content
    assert credential.sealed not in answer.content.decode()
    refused = client.patch(
        f"/internal/v1/providers/{credential.provider.slug}",
        {"base_url": "http://169.254.169.254/"},
        format="json",
    )
    assert refused.status_code == 422
    assert Provider.objects.get().base_url == credential.provider.base_url


@pytest.mark.parametrize("many", [2, 12])
def test_management_lists_cost_the_same_for_many(
    many: int, as_user: Any, django_assert_max_num_queries: Any
) -> None:
    for _ in range(many):
        CredentialFactory()
        TargetFactory()
    client = as_user(UserFactory(is_staff=True))
    client.get("/internal/v1/routes")
    with django_assert_max_num_queries(6):
        assert len(client.get("/internal/v1/routes").json()["data"]) == many
    with django_assert_max_num_queries(4):
        client.get("/internal/v1/providers")
