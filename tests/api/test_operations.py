"""The catalogue, one call's record, and the management API."""

from __future__ import annotations

from typing import Any

import pytest

from providers.models import Provider
from tests.factories import (
    ApiKeyFactory,
    AttemptFactory,
    CredentialFactory,
    ModelFactory,
    OperationFactory,
    ProviderFactory,
    RouteFactory,
    TargetFactory,
    UsageRecordFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db


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
    assert (told["status"], told["code"]) == (200, "ok")
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


def test_a_call_that_we_crashed_in_says_so(with_key: Any) -> None:
    key = ApiKeyFactory()
    crashed = {"status": 0, "code": "", "estimate": "crashed", "attempts": 0}
    record = UsageRecordFactory(tenant_id=key.tenant_id, **crashed)
    told = with_key(key).get(f"/api/v1/requests/{record.request_id}").json()
    assert {name: told[name] for name in crashed} == crashed | {"attempts": []}


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
