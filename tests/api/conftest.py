"""Callers of every kind, for the management API's tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from accounts import tokens
from accounts.identities import IDENTITIES
from accounts.models import User
from tenants.models import Tenant
from tests.factories import ApiKeyFactory, MembershipFactory, TenantFactory, UserFactory


@pytest.fixture(autouse=True)
def fresh_memory() -> Iterator[None]:
    """What the process remembers (callers, wrong credentials, rate counters) is per test."""
    cache.clear()
    IDENTITIES._failures.clear()
    IDENTITIES.forget()
    yield
    cache.clear()


@pytest.fixture(autouse=True)
def one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test begins in one minute and ends in the next, in which everybody may try again."""
    now = time.time()
    monkeypatch.setattr("django_ratelimit.core.time", SimpleNamespace(time=lambda: now))


@pytest.fixture
def anonymous() -> APIClient:
    return APIClient(raise_request_exception=False)


@pytest.fixture
def with_key() -> Callable[[Any], APIClient]:
    """A client that shows an API key, given the row a factory made."""

    def client(key: Any) -> APIClient:
        return _bearing(key.text)

    return client


@pytest.fixture
def as_user() -> Callable[..., APIClient]:
    """A client signed in as a user, for a tenant or none."""

    def client(user: User, tenant: Tenant | None = None) -> APIClient:
        return _bearing(tokens.sign_in(user=user, tenant=tenant).access)

    return client


@pytest.fixture
def as_role(as_user: Callable[..., APIClient]) -> Callable[..., APIClient]:
    """A client of a new member of the tenant, in a role."""

    def client(tenant: Tenant, role: str) -> APIClient:
        return as_user(MembershipFactory(tenant=tenant, role=role).user, tenant)

    return client


@pytest.fixture
def clients(as_user: Any, as_role: Any, with_key: Any, anonymous: APIClient) -> Any:
    """A client by who it is: staff, owner, anonymous, or a key's only scope."""

    def client(who: str) -> APIClient:
        made = {
            "staff": lambda: as_user(UserFactory(is_staff=True)),
            "owner": lambda: as_role(TenantFactory(), "owner"),
            "anonymous": lambda: anonymous,
        }
        return made.get(who, lambda: with_key(ApiKeyFactory(scopes=[who])))()

    return client


def _bearing(text: str) -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return client
