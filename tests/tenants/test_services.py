"""The services' own promises, beside what the API's tests show."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from accounts import services as accounts
from accounts.models import Membership, Role, User
from tenants import services
from tenants.models import ApiKey, Project, Tenant
from tenants.scopes import PLATFORM_RIGHTS, TENANT_RIGHTS, check_scopes, rights_of
from tests.factories import (
    ApiKeyFactory,
    MembershipFactory,
    PlanFactory,
    ProjectFactory,
    TenantFactory,
    UserFactory,
)


def together(*actions: Any) -> list[BaseException]:
    """Runs the actions at once, each with a connection of its own; their refusals."""
    ready, refused = threading.Barrier(len(actions)), []

    def run(action: Any) -> None:
        ready.wait()
        try:
            action()
        except ValidationError as error:
            refused.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[action]) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return refused


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_leave_at_once_leave_one() -> None:
    tenant = TenantFactory()
    owners = [MembershipFactory(tenant=tenant, role="owner") for _ in range(2)]
    refused = together(
        lambda: accounts.remove_member(membership=owners[0]),
        lambda: accounts.change_role(membership=owners[1], role=Role.VIEWER),
    )
    assert len(refused) == 1
    assert Membership.objects.filter(tenant=tenant, role=Role.OWNER).count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_key_is_rotated_once_even_at_once() -> None:
    key = ApiKeyFactory()
    rotate = lambda: services.rotate_key(key=key, overlap=dt.timedelta(minutes=1))  # noqa: E731
    assert len(together(rotate, rotate, rotate)) == 2
    assert ApiKey.objects.filter(replaces=key).count() == 1


@pytest.mark.django_db(transaction=True)
def test_no_key_slips_into_a_project_that_is_deleted() -> None:
    project = ProjectFactory()

    def make() -> None:
        try:
            services.create_key(project=project, name="x")
        except Exception as error:
            raise ValidationError("gone") from error

    refused = together(make, lambda: services.delete_project(project=project))
    assert len(refused) == 1
    assert Project.objects.count() == ApiKey.objects.count()


@pytest.mark.django_db
def test_a_project_with_keys_in_use_stays() -> None:
    key = ApiKeyFactory()
    with pytest.raises(ValidationError):
        services.delete_project(project=key.project)
    services.revoke_key(key=key)
    services.delete_project(project=key.project)
    assert not Project.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "fields",
    [
        {"slug": "a b"},
        {"slug": "taken"},
        {"time_zone": "Mars/Olympus"},
        {"name": ""},
        {"rate_limits": [{"scope": "key", "limit": 0, "per_seconds": 60}]},
    ],
)
def test_tenants_are_checked(fields: dict[str, Any]) -> None:
    TenantFactory(slug="taken")
    good = {"slug": "acme", "name": "Acme", "plan": PlanFactory()}
    with pytest.raises(ValidationError):
        services.create_tenant(**{**good, **fields})
    assert Tenant.objects.count() == 1


@pytest.mark.django_db
def test_users_are_checked() -> None:
    UserFactory(email="taken@example.test")
    for email, password in (
        ("Taken@Example.test", "a long password 42"),
        ("no address", "a long password 42"),
        ("new@example.test", "123"),
        ("new@example.test", "new@example.test"),
    ):
        with pytest.raises(ValidationError):
            accounts.create_user(email=email, password=password)
    user = accounts.create_user(email=" New@Example.test ", password="a long password 42")
    assert user.email == "new@example.test"
    with pytest.raises(ValidationError):
        accounts.set_password(user=user, password="123")
    assert User.objects.get(pk=user.pk).check_password("a long password 42")


@pytest.mark.django_db
def test_members_are_checked() -> None:
    member = MembershipFactory()
    with pytest.raises(ValidationError):
        accounts.add_member(tenant=member.tenant, email=member.user.email)
    with pytest.raises(ValidationError):
        accounts.add_member(tenant=member.tenant, email="new@example.test", role="emperor")
    assert User.objects.count() == 1


def test_families_of_rights() -> None:
    assert rights_of("manage:*") == TENANT_RIGHTS
    assert rights_of("internal:*") == {"internal:read", "internal:write"}
    assert rights_of("health:read") <= PLATFORM_RIGHTS
    assert rights_of("made:up") == rights_of("*") == rights_of("finance.*") == frozenset()


@given(st.lists(st.text(max_size=20) | st.sampled_from(["*", "finance.*", "manage:*"])))
def test_whatever_passes_is_well_formed(scopes: list[str]) -> None:
    try:
        passed = check_scopes(scopes)
    except ValidationError:
        return
    assert passed
    assert len(passed) == len(set(passed))
    assert all(scope.isascii() and scope.isprintable() for scope in passed)
    manages = any(scope.startswith(("manage:", "internal:")) for scope in passed)
    assert not (manages and any(":" not in scope for scope in passed))
