"""Signing in: what is handed out, what is refused, and that refusals tell nothing."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from accounts import services, tokens
from accounts.models import RefreshFamily
from lib.problems import Unauthenticated
from tenants.models import Tenant
from tests.factories import PASSWORD, ApiKeyFactory, MembershipFactory, TenantFactory, UserFactory

LOGIN = "/api/v1/auth/login"
pytestmark = pytest.mark.django_db


def login(client: APIClient, email: str, password: str = PASSWORD, **more: Any) -> Any:
    return client.post(LOGIN, {"email": email, "password": password, **more}, format="json")


def test_login_gives_a_pair_that_works(anonymous: APIClient) -> None:
    member = MembershipFactory(role="admin")
    answer = login(anonymous, member.user.email)
    assert answer.status_code == 200
    pair = answer.json()
    assert pair["token_type"] == "Bearer"
    assert pair["expires_in"] == 600
    assert answer["Cache-Control"] == "no-store"

    status = anonymous.get(
        "/api/v1/auth/status", headers={"Authorization": f"Bearer {pair['access']}"}
    )
    told = status.json()
    assert told["id"] == member.user.public_id
    assert told["tenant"] == {"id": member.tenant.public_id, "slug": member.tenant.slug}
    assert told["role"] == "admin"
    assert told["expires_at"].endswith("Z")


def test_status_of_a_key(with_key: Any) -> None:
    key = ApiKeyFactory(scopes=["chat.completions"])
    told = with_key(key).get("/api/v1/auth/status").json()
    assert told["id"] == key.key_id
    assert told["scopes"] == ["chat.completions"]
    assert told["role"] is None
    assert told["expires_at"] is None


def test_status_tells_limits_and_quotas(with_key: Any) -> None:
    slots = {"scope": "key", "metric": "concurrency", "limit": 4}
    spending = {"metric": "cost", "window": "month", "limit_usd": "12.50", "hard": False}
    key = ApiKeyFactory(rate_limits=[slots], quotas=[spending])
    told = with_key(key).get("/api/v1/auth/status").json()
    assert told["limits"] == [
        slots | {"name": "key-concurrency", "per_seconds": None, "operations": []}
    ]
    assert told["quotas"] == [
        {
            "name": "key-cost-month",
            "scope": "key",
            "metric": "cost",
            "window": "month",
            "limit": 12_500_000,
            "hard": False,
            "operations": [],
        }
    ]


def test_the_tenant_can_be_named_by_slug_or_id(anonymous: APIClient) -> None:
    user = UserFactory()
    first, second = (MembershipFactory(user=user).tenant for _ in range(2))
    for named, expected in (
        ({}, first),
        ({"tenant": second.slug}, second),
        ({"tenant": second.public_id}, second),
    ):
        access = login(anonymous, user.email, **named).json()["access"]
        assert tokens.unverified_claims(access)["tenant"] == expected.public_id


def test_all_refusals_look_alike(anonymous: APIClient) -> None:
    member, inactive = MembershipFactory(), UserFactory(is_active=False)
    stranger = TenantFactory()
    answers = [
        login(anonymous, member.user.email, "wrong"),
        login(anonymous, "nobody@example.test", "wrong"),
        login(anonymous, inactive.email),
        login(anonymous, member.user.email, tenant=stranger.slug),
    ]
    bodies = [
        {k: v for k, v in a.json().items() if k not in {"request_id", "timestamp"}} for a in answers
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert all(body == bodies[0] for body in bodies)


def test_unknown_users_cost_a_hash_too(anonymous: APIClient, monkeypatch: Any) -> None:
    runs: list[str] = []
    hasher = "django.contrib.auth.hashers.MD5PasswordHasher.encode"
    from django.contrib.auth.hashers import MD5PasswordHasher

    original = MD5PasswordHasher.encode
    monkeypatch.setattr(hasher, lambda s, *a, **k: runs.append("run") or original(s, *a, **k))
    known = UserFactory()
    runs.clear()
    login(anonymous, known.email, "wrong")
    for_known = len(runs)
    runs.clear()
    login(anonymous, "nobody@example.test", "wrong")
    assert len(runs) == for_known == 1


def test_five_failures_lock_known_and_unknown_alike(anonymous: APIClient) -> None:
    user = UserFactory()
    last = {}
    for number, email in enumerate((user.email, "nobody@example.test")):
        client = APIClient(REMOTE_ADDR=f"192.0.2.{number}")
        spellings = [email, email.upper(), f" {email} ", email, email.title()]
        codes = [login(client, spelling, "wrong").status_code for spelling in spellings]
        assert codes[:4] == [401] * 4
        refused = login(client, email)  # the right password, for the user who exists
        assert refused.status_code == 429
        assert refused["Content-Type"] == "application/problem+json"
        assert int(refused["Retry-After"]) == 900
        last[email] = refused.json()
    first, second = ({**b, "request_id": "", "timestamp": ""} for b in last.values())
    assert first == second


def test_login_is_limited_by_address(anonymous: APIClient) -> None:
    for number in range(10):
        assert login(anonymous, f"n{number}@example.test", "x").status_code == 401
    refused = login(anonymous, "another@example.test", "x")
    assert refused.status_code == 429
    assert refused.json()["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused["Retry-After"]) <= 60
    elsewhere = APIClient(REMOTE_ADDR="198.51.100.7")
    assert login(elsewhere, "another@example.test", "x").status_code == 401


def test_a_forged_forwarded_for_evades_no_limit(anonymous: APIClient) -> None:
    codes = [
        anonymous.post(
            LOGIN,
            {"email": f"n{n}@example.test", "password": "x"},
            format="json",
            headers={"X-Forwarded-For": f"203.0.113.{n}"},
        ).status_code
        for n in range(11)
    ]
    assert codes[-1] == 429


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "no address", "password": "x"},
        {"email": "a@example.test"},
        {"email": "a@example.test", "password": ["x"]},
        {"email": "a@example.test\0", "password": "x"},
        {"email": "a@example.test", "password": "x\0"},
        {"email": {"$ne": ""}, "password": "x"},
        {"email": "a@example.test", "password": "x" * 2000},
        {"email": "a@example.test", "password": "x", "is_staff": True},
    ],
)
def test_malformed_logins(anonymous: APIClient, body: dict[str, Any]) -> None:
    answer = anonymous.post(LOGIN, body, format="json")
    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_refresh_rotates(anonymous: APIClient) -> None:
    member = MembershipFactory()
    pair = login(anonymous, member.user.email).json()
    again = anonymous.post("/api/v1/auth/refresh", {"refresh": pair["refresh"]}, format="json")
    assert again.status_code == 200
    assert again.json()["refresh"] != pair["refresh"]


def test_reuse_ends_the_family_and_its_access_tokens(anonymous: APIClient) -> None:
    member = MembershipFactory()
    first = tokens.sign_in(user=member.user, tenant=member.tenant)
    other = tokens.sign_in(user=member.user, tenant=member.tenant)
    second = tokens.refresh(first.refresh)

    def status(access: str) -> int:
        headers = {"Authorization": f"Bearer {access}"}
        return anonymous.get("/api/v1/auth/status", headers=headers).status_code

    assert status(second.access) == 200
    with pytest.raises(Unauthenticated):
        tokens.refresh(first.refresh)
    with pytest.raises(Unauthenticated):
        tokens.refresh(second.refresh)
    assert status(second.access) == 401
    assert status(other.access) == 200


def test_a_family_ends_in_time_however_often_it_is_refreshed() -> None:
    import time_machine
    from django.utils import timezone

    member = MembershipFactory()
    pair = tokens.sign_in(user=member.user, tenant=member.tenant)
    began = timezone.now()
    import datetime as dt

    with time_machine.travel(began + dt.timedelta(days=13), tick=False):
        pair = tokens.refresh(pair.refresh)
    with (
        time_machine.travel(began + dt.timedelta(days=14, minutes=1), tick=False),
        pytest.raises(Unauthenticated),
    ):
        tokens.refresh(pair.refresh)


@pytest.mark.django_db(transaction=True)
def test_of_concurrent_refreshes_exactly_one_wins() -> None:
    member = MembershipFactory()
    pair = tokens.sign_in(user=member.user, tenant=member.tenant)
    ready, won, lost = threading.Barrier(6), [], []

    def use() -> None:
        ready.wait()
        try:
            won.append(tokens.refresh(pair.refresh))
        except Unauthenticated:
            lost.append(1)
        finally:
            connection.close()

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 5)
    family = RefreshFamily.objects.get()
    assert family.revoked_at is not None
    with pytest.raises(Unauthenticated):
        tokens.refresh(won[0].refresh)


def test_logout_ends_refresh_and_access(anonymous: APIClient) -> None:
    member = MembershipFactory()
    pair = login(anonymous, member.user.email).json()
    bearer = {"Authorization": f"Bearer {pair['access']}"}
    out = anonymous.post("/api/v1/auth/logout", {"refresh": pair["refresh"]}, format="json")
    assert out.status_code == 204
    assert anonymous.get("/api/v1/auth/status", headers=bearer).status_code == 401
    with pytest.raises(Unauthenticated):
        tokens.refresh(pair["refresh"])
    again = anonymous.post("/api/v1/auth/logout", {"refresh": pair["refresh"]}, format="json")
    assert again.status_code == 204


def test_logout_by_access_token_alone(anonymous: APIClient, with_key: Any) -> None:
    member = MembershipFactory()
    pair = tokens.sign_in(user=member.user, tenant=member.tenant)
    bearer = {"Authorization": f"Bearer {pair.access}"}
    assert anonymous.post("/api/v1/auth/logout", headers=bearer).status_code == 204
    with pytest.raises(Unauthenticated):
        tokens.refresh(pair.refresh)
    assert anonymous.post("/api/v1/auth/logout").status_code == 401
    assert with_key(ApiKeyFactory()).post("/api/v1/auth/logout").status_code == 401


def test_a_new_password_ends_every_sign_in() -> None:
    member = MembershipFactory()
    pair = tokens.sign_in(user=member.user, tenant=member.tenant)
    services.set_password(user=member.user, password="another long password 42")
    with pytest.raises(Unauthenticated):
        tokens.refresh(pair.refresh)


@pytest.mark.parametrize("change", ["inactive", "removed", "suspended"])
def test_standing_is_asked_again_at_every_use(change: str, as_user: Any) -> None:
    member = MembershipFactory()
    client = as_user(member.user, member.tenant)
    pair = tokens.sign_in(user=member.user, tenant=member.tenant)
    assert client.get("/api/v1/auth/status").status_code == 200
    if change == "inactive":
        member.user.is_active = False
        member.user.save()
    elif change == "removed":
        member.delete()
    else:
        member.tenant.status = Tenant.Status.SUSPENDED
        member.tenant.save()
    expected = 403 if change == "suspended" else 401
    assert client.get("/api/v1/auth/status").status_code == expected
    refreshed = client.post("/api/v1/auth/refresh", {"refresh": pair.refresh}, format="json")
    assert refreshed.status_code == expected


def test_signing_in_for_a_suspended_tenant(anonymous: APIClient) -> None:
    member = MembershipFactory(tenant__status=Tenant.Status.SUSPENDED)
    answer = login(anonymous, member.user.email)
    assert (answer.status_code, answer.json()["code"]) == (403, "tenant_suspended")


def test_unversioned_alias(anonymous: APIClient) -> None:
    member = MembershipFactory()
    body = {"email": member.user.email, "password": PASSWORD}
    assert anonymous.post("/api/auth/login", body, format="json").status_code == 200
