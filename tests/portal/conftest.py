"""A member's browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.core.cache import cache
from django.test import Client

from accounts.models import Role
from tenants.models import Tenant
from tests.factories import MembershipFactory, ProjectFactory


@pytest.fixture(autouse=True)
def fresh_cache() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def tenant() -> Tenant:
    tenant: Tenant = ProjectFactory(slug="default", name="Default", tenant__slug="acme").tenant
    return tenant


@pytest.fixture
def as_role(tenant: Tenant) -> Callable[..., Client]:
    """A browser of somebody who has this role in the tenant (or in another)."""

    def browser(role: str = Role.OWNER, of: Tenant | None = None) -> Client:
        client = Client()
        client.force_login(MembershipFactory(tenant=of or tenant, role=role).user)
        return client

    return browser


@pytest.fixture
def owner(as_role: Callable[..., Client]) -> Client:
    return as_role(Role.OWNER)
