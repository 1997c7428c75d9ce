"""People and refused callers on the data path: tokens, roles, suspended tenants, expired keys."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from providers.operations import Kind, registry
from tests.patience import promised, seconds_until
from tests.services.system import System

CHAT = "/api/v1/chat/completions"
ASK = {"model": "lab/gpt-x", "messages": [{"role": "user", "content": "hello there, gateway"}]}
PASSWORD = "correct horse battery staple"

# One process makes all of them: starting Django takes longer than the tests do.
_POPULATE = f"""
import datetime as dt, json
from django.utils import timezone
from accounts.models import Membership, User
from accounts.tokens import AccessToken, RefreshToken
from providers.models import Credential, Provider
from tenants.keys import Mode
from tenants.models import ApiKey, Project, Tenant
from tenants.services import create_key

acme, frugal = (Tenant.objects.get(slug=slug) for slug in ("acme", "frugal"))
def user(name, **roles):
    person = User.objects.create_user(name + "@example.test", "{PASSWORD}")
    for slug, role in roles.items():
        Membership.objects.create(user=person, tenant=Tenant.objects.get(slug=slug), role=role)
    return person
developer = user("developer", acme="developer", frugal="developer")
user("billing", acme="billing")
user("nobody")

stale = AccessToken()
stale["sub"], stale["tenant"], stale["family"] = developer.public_id, acme.public_id, ""
stale.set_exp(from_time=timezone.now() - dt.timedelta(hours=1))

key, expired = create_key(project=Project.objects.get(tenant=acme), name="expired")
ApiKey.objects.filter(pk=key.pk).update(expires_at=timezone.now() - dt.timedelta(seconds=1))
_, embeddings = create_key(
    project=Project.objects.get(tenant=acme), name="embeddings", mode=Mode.TEST, scopes=["embeddings"]
)
print(json.dumps({{"stale": str(stale), "expired": expired, "embeddings": embeddings}}))
"""


@dataclass(frozen=True)
class People:
    """Signed-in users by name, and `carried`: credentials that are past or narrow."""

    system: System
    pairs: dict[str, dict[str, str]]
    carried: dict[str, str]

    def access(self, name: str) -> str:
        return self.pairs[name]["access"]


def sign_in(system: System, name: str, **more: str) -> dict[str, str]:
    body = {"email": f"{name}@example.test", "password": PASSWORD, **more}
    answer = httpx2.post(f"{system.url}/api/v1/auth/login", json=body, timeout=20)
    assert answer.status_code == 200, answer.text
    pair: dict[str, str] = answer.json()
    return pair


@pytest.fixture(scope="module")
def people(system: System) -> People:
    carried = json.loads(system.manage("shell", "-c", _POPULATE).splitlines()[-1])
    pairs = {
        "developer": sign_in(system, "developer", tenant="acme"),
        "frugal": sign_in(system, "developer", tenant="frugal"),
        "billing": sign_in(system, "billing"),
        "nobody": sign_in(system, "nobody"),
    }
    return People(system, pairs, carried)


def chat(system: System, credential: str, **headers: str) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {credential}", **headers}
    return httpx2.post(system.url + CHAT, json=ASK, headers=headers, timeout=20)


def refused(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == code
    assert error["request_id"] == answer.headers["x-request-id"]
    return error


def test_a_member_calls_with_the_access_token_of_a_sign_in(people: People) -> None:
    answer = chat(people.system, people.access("developer"))
    assert answer.status_code == 200
    row = people.system.record(answer.headers["x-request-id"])
    (user,) = people.system.rows(
        "SELECT id FROM accounts_user WHERE email = 'developer@example.test'"
    )
    assert (row["user_id"], row["key_id"]) == (user["id"], None)
    assert row["mode"] == "live"
    assert row["charge"] > 0
    (tenant,) = people.system.rows("SELECT id FROM tenants_tenant WHERE slug = 'acme'")
    assert row["tenant_id"] == tenant["id"]


def test_the_limit_of_a_client_counts_a_user_as_one(people: People) -> None:
    answers = [chat(people.system, people.access("frugal")) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert refused(answers[3], 429, "rate_limit_exceeded")["policy"] == "key-minute"
    # The same person in another tenant has that tenant's limits.
    assert chat(people.system, people.access("developer")).status_code == 200


def test_a_token_is_no_api_key(people: People) -> None:
    headers = {"X-API-Key": people.access("developer")}
    answer = httpx2.post(people.system.url + CHAT, json=ASK, headers=headers)
    refused(answer, 401, "unauthenticated")


def test_an_expired_token(people: People) -> None:
    refused(chat(people.system, people.carried["stale"]), 401, "unauthenticated")


def test_a_refresh_token_opens_nothing(people: People) -> None:
    refused(chat(people.system, people.pairs["developer"]["refresh"]), 401, "unauthenticated")


def test_a_token_with_another_signature(people: People) -> None:
    head, claims, signature = people.access("developer").split(".")
    forged = f"{head}.{claims}.{signature[::-1]}"
    refused(chat(people.system, forged), 401, "unauthenticated")


def test_who_keeps_the_books_makes_no_calls(people: People) -> None:
    refused(chat(people.system, people.access("billing")), 403, "insufficient_scope")


def test_a_user_of_no_tenant(people: People) -> None:
    refused(chat(people.system, people.access("nobody")), 401, "unauthenticated")


def test_who_signs_out_is_out_within_a_second(people: People) -> None:
    system = people.system

    def once() -> float:
        access = sign_in(system, "developer", tenant="acme")["access"]
        assert chat(system, access).status_code == 200
        bearer = {"Authorization": f"Bearer {access}"}
        out = httpx2.post(f"{system.url}/api/v1/auth/logout", json={}, headers=bearer)
        assert out.status_code == 204
        return seconds_until(lambda: chat(system, access).status_code == 401)

    promised(once)


def test_an_expired_key(people: People) -> None:
    answer = chat(people.system, people.carried["expired"])
    refused(answer, 401, "key_expired")
    assert answer.headers["www-authenticate"] == "Bearer"


_SUSPEND = """
from tenants.models import Tenant
from tenants.services import suspend_tenant
suspend_tenant(tenant=Tenant.objects.get(slug="{tenant}"))
"""


def test_a_suspended_tenant_is_out_within_a_second(system: System) -> None:
    def once() -> float:
        key = system.visitor()
        assert chat(system, key).status_code == 200
        system.manage("shell", "-c", _SUSPEND.format(tenant=system.tenant_of(key)))
        took = seconds_until(lambda: chat(system, key).status_code == 403)
        refused(chat(system, key), 403, "tenant_suspended")
        return took

    promised(once)


def listed(people: People, credential: str) -> dict[str, str]:
    """The models a credential may call, with the operation of each."""
    headers = {"Authorization": f"Bearer {credential}"}
    answer = httpx2.get(f"{people.system.url}/api/v1/models", headers=headers)
    assert answer.status_code == 200
    return {model["id"]: model["operation"] for model in answer.json()["data"]}


OF_MODELS = {name for name, op in registry().items() if op.kind is not Kind.DATA}


def test_models_are_those_the_scopes_allow(people: People) -> None:
    keys = people.system.keys
    assert set(listed(people, keys["acme/test"]).values()) == OF_MODELS
    assert set(listed(people, people.carried["embeddings"]).values()) == {"embeddings"}
    assert listed(people, keys["acme/finance"]) == {}
    assert listed(people, people.access("billing")) == {}


def test_live_callers_see_only_models_with_a_credential_behind(people: People) -> None:
    for credential in (people.system.keys["acme/live"], people.access("developer")):
        models = listed(people, credential)
        assert "lab/gpt-x" in models
        assert "text-embedding-3-small" not in models


def test_a_model_out_of_scope_is_not_there(people: People) -> None:
    headers = {"Authorization": f"Bearer {people.carried['embeddings']}"}
    url = f"{people.system.url}/api/v1/models"
    one = httpx2.get(f"{url}/text-embedding-3-small", headers=headers)
    assert one.json()["operation"] == "embeddings"
    refused(httpx2.get(f"{url}/lab/gpt-x", headers=headers), 404, "not_found")
