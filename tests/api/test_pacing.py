"""How often one may try, counted in the process or in a real Valkey, and with that away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache, caches
from django.test import Client, override_settings
from rest_framework.test import APIClient

from config.caches import cache as cache_settings
from tests.factories import PASSWORD, ApiKeyFactory, MembershipFactory, TenantFactory, UserFactory
from tests.services.valkey import Valkey

LOGIN = "/api/v1/auth/login"
KEYS = "/api/v1/keys"
pytestmark = pytest.mark.django_db


@pytest.fixture(params=["locmem", "valkey"])
def kind_of_cache(request: pytest.FixtureRequest) -> Iterator[str]:
    url = request.getfixturevalue("valkey").url if request.param == "valkey" else ""
    with override_settings(CACHES={"default": cache_settings(url)}):
        cache.clear()
        yield request.param
        caches["default"].close()


@pytest.fixture
def in_valkey(valkey: Valkey) -> Iterator[Valkey]:
    with override_settings(CACHES={"default": cache_settings(valkey.url)}):
        yield valkey
        caches["default"].close()


def sign_in(client: APIClient, number: int, **headers: str) -> Any:
    body = {"email": f"n{number}@example.test", "password": "x"}
    return client.post(LOGIN, body, format="json", headers=headers)


def assert_slowed(answer: Any, policy: str) -> None:
    assert answer.status_code == 429
    assert answer["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert (body["code"], body["policy"]) == ("rate_limit_exceeded", policy)
    assert 1 <= int(answer["Retry-After"]) <= 60


def test_sign_ins_are_limited_by_address(anonymous: APIClient, kind_of_cache: str) -> None:
    codes = [sign_in(anonymous, number).status_code for number in range(10)]
    assert codes == [401] * 10
    assert_slowed(sign_in(anonymous, 11), "ip-login")
    assert sign_in(APIClient(REMOTE_ADDR="198.51.100.7"), 12).status_code == 401
    if kind_of_cache == "valkey":  # where another process would see it, too
        assert any(key.startswith(b"patchbay:django:") for key in _raw_keys())


def _raw_keys() -> list[bytes]:
    keys: list[bytes] = caches["default"].client.get_client().keys("*")
    return keys


def test_retry_after_is_true(
    anonymous: APIClient, kind_of_cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One second before the time it names it is still refused; at that time, it is not."""
    now = int(time.time())
    moment = now
    monkeypatch.setattr("django_ratelimit.core.time.time", lambda: moment)
    for number in range(10):
        sign_in(anonymous, number)
    refused = sign_in(anonymous, 10)
    assert_slowed(refused, "ip-login")
    wait = int(refused["Retry-After"])
    moment = now + wait - 1
    assert sign_in(anonymous, 11).status_code == 429
    moment = now + wait + 1
    assert sign_in(anonymous, 12).status_code == 401


@pytest.mark.parametrize("hops", [0, 1, 2])
def test_a_forged_address_never_counts(
    anonymous: APIClient, kind_of_cache: str, hops: int, settings: Any
) -> None:
    """What the trusted proxies appended counts; what the caller wrote before does not."""
    settings.ENV = settings.ENV.model_copy(update={"TRUSTED_PROXY_HOPS": hops})
    appended = ["198.51.100.1", "10.0.0.1"][:hops]

    def answer(number: int) -> int:
        forged = [f"203.0.113.{number}", f"203.0.113.{number + 100}"]
        sent = ", ".join(forged + appended)
        return int(sign_in(anonymous, number, **{"X-Forwarded-For": sent}).status_code)

    assert [answer(number) for number in range(11)] == [401] * 10 + [429]


def test_callers_behind_one_proxy_are_told_apart(
    anonymous: APIClient, kind_of_cache: str, settings: Any
) -> None:
    settings.ENV = settings.ENV.model_copy(update={"TRUSTED_PROXY_HOPS": 1})
    for number in range(12):
        sign_in(anonymous, number, **{"X-Forwarded-For": "198.51.100.1"})
    assert sign_in(anonymous, 13, **{"X-Forwarded-For": "198.51.100.1"}).status_code == 429
    assert sign_in(anonymous, 14, **{"X-Forwarded-For": "198.51.100.2"}).status_code == 401


def test_refreshes_are_limited(
    anonymous: APIClient, kind_of_cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.v1.auth.REFRESHES", "3/m")
    for _ in range(3):
        body = {"refresh": "junk"}
        assert anonymous.post("/api/v1/auth/refresh", body, format="json").status_code == 401
    assert_slowed(anonymous.post("/api/v1/auth/refresh", {}, format="json"), "ip-refresh")
    assert_slowed(anonymous.post("/api/v1/auth/logout", {}, format="json"), "ip-refresh")


def test_new_keys_are_limited_by_tenant(
    as_role: Callable[..., APIClient], kind_of_cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.v1.keys.NEW_KEYS", "3/m")
    key = ApiKeyFactory()
    tenant = key.project.tenant
    client = as_role(tenant, "admin")
    for _ in range(2):
        assert client.post(KEYS, {"name": "k"}, format="json").status_code == 201
    assert client.post(f"{KEYS}/{key.key_id}/rotate", {}, format="json").status_code == 201
    # Another of its members, from another address: the tenant is the same.
    other = as_role(tenant, "admin")
    other.defaults["REMOTE_ADDR"] = "198.51.100.9"
    assert_slowed(other.post(KEYS, {"name": "k"}, format="json"), "tenant-new-keys")
    assert_slowed(client.post(f"{KEYS}/{key.key_id}/rotate", {}, format="json"), "tenant-new-keys")
    assert client.get(KEYS).status_code == 200
    revoke = client.post(f"{KEYS}/{key.key_id}/revoke")  # never to be waited for
    assert revoke.status_code == 200
    stranger = as_role(ApiKeyFactory().project.tenant, "admin")
    assert stranger.post(KEYS, {"name": "k"}, format="json").status_code == 201


def test_the_admins_page_shares_the_limit(kind_of_cache: str) -> None:
    """One password for many users: what counting failures by user would never see."""
    browser = Client()
    for number in range(10):
        form = {"username": f"n{number}@example.test", "password": "x"}
        assert browser.post("/admin/login/", form).status_code == 200
    refused = browser.post("/admin/login/", {"username": "z@example.test", "password": "x"})
    assert refused.status_code == 429
    assert refused["Content-Type"].startswith("text/html")
    assert 1 <= int(refused["Retry-After"]) <= 60
    assert browser.get("/admin/login/").status_code == 200
    assert sign_in(APIClient(), 1).status_code == 429


class TestWithTheStoreAway:
    @pytest.fixture(params=["killed", "frozen", "full"])
    def away(self, request: pytest.FixtureRequest, in_valkey: Valkey) -> Iterator[None]:
        if request.param == "killed":
            in_valkey.kill()
            yield
        elif request.param == "frozen":
            with in_valkey.frozen():
                yield
        else:
            with in_valkey.client() as client:
                client.config_set("maxmemory", "1")
                yield
                client.config_set("maxmemory", "0")

    def test_an_unknown_caller_is_refused_for_now(self, anonymous: APIClient, away: None) -> None:
        for number in range(2):
            refused = sign_in(anonymous, number)
            assert refused.status_code == 503
            assert refused.json()["code"] == "store_unavailable"
            assert int(refused["Retry-After"]) == 5

    def test_pages_and_the_rest_of_the_api_survive(
        self, as_role: Callable[..., APIClient], away: None
    ) -> None:
        client = as_role(TenantFactory(), "admin")
        assert client.get(KEYS).status_code == 200
        assert Client().get("/admin/login/").status_code == 200

    def test_keys_can_still_be_made(self, as_role: Callable[..., APIClient], away: None) -> None:
        client = as_role(ApiKeyFactory().project.tenant, "admin")
        assert client.post(KEYS, {"name": "k"}, format="json").status_code == 201

    def test_the_operator_can_sign_in(self, away: None) -> None:
        user = UserFactory(is_staff=True, is_superuser=True)
        browser = Client()
        wrong = browser.post("/admin/login/", {"username": user.email, "password": "x"})
        assert wrong.status_code == 200
        form = {"username": user.email, "password": PASSWORD}
        assert browser.post("/admin/login/", form).status_code == 302

    def test_it_counts_again_when_the_store_is_back(
        self, anonymous: APIClient, in_valkey: Valkey
    ) -> None:
        in_valkey.kill()
        assert sign_in(anonymous, 0).status_code == 503
        in_valkey.start()
        assert [sign_in(anonymous, n).status_code for n in range(11)] == [401] * 10 + [429]


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_both_names_of_the_scheme(valkey: Valkey, scheme: str) -> None:
    url = valkey.url.replace("redis://", f"{scheme}://")
    with override_settings(CACHES={"default": cache_settings(url)}):
        assert cache.add("k", 1)
        assert cache.incr("k") == 2
        caches["default"].close()


def test_a_member_signs_in(anonymous: APIClient, kind_of_cache: str) -> None:
    member = MembershipFactory()
    body = {"email": member.user.email, "password": PASSWORD}
    assert anonymous.post(LOGIN, body, format="json").status_code == 200
