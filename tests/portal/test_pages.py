"""Every page of a tenant: who may see it, who may send to it, and nobody else's is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import Role
from accounts.services import invite
from lib.ids import prefixed
from portal.urls import urlpatterns
from tenants.models import Tenant
from tests.api.test_dashboard import called
from tests.factories import ApiKeyFactory, MembershipFactory, ProjectFactory, UserFactory
from usage import rollups

pytestmark = pytest.mark.django_db
MOST_QUERIES = 15
MANAGERS = {Role.OWNER, Role.ADMIN}
BUILDERS = {*MANAGERS, Role.DEVELOPER}
ALL = set(Role)

# Every page: who may read it and who may send to it. One that is not here fails the build.
MATRIX: dict[str, tuple[set[Role], set[Role]]] = {
    "overview": (ALL, ALL),
    "start": (ALL, BUILDERS),
    "usage": (ALL, ALL),
    "quotas": (ALL, ALL),
    "requests": (ALL, ALL),
    "request": (ALL, ALL),
    "requests-export": (ALL, ALL),
    "keys": (ALL, BUILDERS),
    "key": (ALL, BUILDERS),
    "key-rotate": (set(), BUILDERS),
    "key-revoke": (set(), BUILDERS),
    "projects": (ALL, BUILDERS),
    "project": (set(), BUILDERS),
    "project-delete": (set(), BUILDERS),
    "members": (ALL, MANAGERS),
    "member": (set(), MANAGERS),
    "member-remove": (set(), MANAGERS),
    "invitation-withdraw": (set(), MANAGERS),
    "limits": (ALL, ALL),
    "playground": (ALL, BUILDERS),
    "code": (set(), ALL),
    "status": (ALL, ALL),
    "settings": (MANAGERS, MANAGERS),
}
OPEN = {
    *("choose", "sign-in", "sign-out", "invitation"),
    *("account", "forgotten", "new-password"),
}


def invitation_of(tenant: Tenant) -> str:
    email = f"{prefixed('x')}@example.test"
    row, _ = invite(tenant=tenant, email=email, role=Role.VIEWER, by=UserFactory())
    return str(row.public_id)


MAKERS: dict[str, Callable[[Tenant], str]] = {
    "key_id": lambda tenant: ApiKeyFactory(project=tenant.projects.first()).key_id,
    "user_id": lambda tenant: MembershipFactory(tenant=tenant, role="viewer").user.public_id,
    "project_id": lambda tenant: ProjectFactory(tenant=tenant).public_id,
    "invitation_id": invitation_of,
    "request_id": lambda tenant: called(tenant).request_id,
}


def arguments(tenant: Tenant, pattern: Any) -> list[str]:
    """For a page's address: an id of each kind that it names, of the tenant."""
    return [MAKERS[name](tenant) for name in pattern.pattern.converters if name != "slug"]


def pages() -> list[Any]:
    return [pattern for pattern in urlpatterns if pattern.name not in OPEN]


def test_every_page_is_in_the_matrix() -> None:
    assert {pattern.name for pattern in pages()} == MATRIX.keys()


@pytest.mark.parametrize("role", Role.values)
def test_roles(role: str, tenant: Tenant, as_role: Any) -> None:
    browser = as_role(role)
    for pattern in pages():
        where = reverse(f"portal:{pattern.name}", args=[tenant.slug, *arguments(tenant, pattern)])
        read, write = MATRIX[pattern.name]
        assert (browser.get(where).status_code == 403) is (role not in read), pattern.name
        assert (browser.post(where, {}).status_code == 403) is (role not in write), pattern.name


def test_anothers_pages_are_not_there(tenant: Tenant, owner: Client) -> None:
    other = ProjectFactory(tenant__slug="other").tenant
    for pattern in pages():
        theirs = arguments(other, pattern)
        for slug in {other.slug, tenant.slug} if theirs else {other.slug}:
            where = reverse(f"portal:{pattern.name}", args=[slug, *theirs])
            ours = owner.post if not MATRIX[pattern.name][0] else owner.get
            assert ours(where).status_code == 404, where


def test_who_is_not_signed_in_is_sent_to(tenant: Tenant, client: Client) -> None:
    where = reverse("portal:usage", args=[tenant.slug])
    answer = client.get(where + "?by=key")
    assert answer.status_code == 302
    assert answer["Location"] == "/app/sign-in/?next=%2Fapp%2Facme%2Fusage%2F%3Fby%3Dkey"


def test_a_suspended_tenant_may_look_and_not_change(tenant: Tenant, owner: Client) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(status=Tenant.Status.SUSPENDED)
    where = reverse("portal:keys", args=[tenant.slug])
    assert "suspended" in owner.get(where).content.decode()
    assert owner.post(where, {"name": "x"}).status_code == 403


def test_the_policy_lets_nothing_inline_run(tenant: Tenant, owner: Client) -> None:
    answer = owner.get(reverse("portal:usage", args=[tenant.slug]))
    policy = answer["Content-Security-Policy"]
    assert "unsafe" not in policy and "default-src 'self'" in policy
    assert answer["Cache-Control"].startswith("max-age=0, no-cache, no-store")
    shown = answer.content.decode()
    assert "<style" not in shown and " style=" not in shown and " onclick=" not in shown


@pytest.mark.parametrize("name", [name for name, (read, _) in MATRIX.items() if read])
def test_as_many_queries_for_many_rows_as_for_few(name: str, tenant: Tenant, owner: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert owner.get(where).status_code == 200
        return len(captured)

    project = tenant.projects.get()
    (pattern,) = [pattern for pattern in pages() if pattern.name == name]
    where = reverse(f"portal:{name}", args=[tenant.slug, *arguments(tenant, pattern)])
    ApiKeyFactory(project=project)
    called(tenant)
    queries()
    few = queries()
    for _ in range(10):
        ApiKeyFactory(project=project)
        MembershipFactory(tenant=tenant)
        invitation_of(tenant)
        called(tenant)
    rollups.fold()
    assert queries() == few <= MOST_QUERIES


def test_hostile_names_are_inert(owner: Client, tenant: Tenant) -> None:
    hostile = "<script>alert(1)</script>\"'{{x}}"
    Tenant.objects.filter(pk=tenant.pk).update(name=hostile)
    tenant.projects.update(name=hostile)
    ApiKeyFactory(project=tenant.projects.get(), name=hostile)
    called(tenant, model=hostile, provider="lab")
    for where in (
        "",
        "usage/?by=model",
        "keys/",
        "requests/",
        "projects/",
        "members/",
        "settings/",
    ):
        assert "<script>alert" not in owner.get(f"/app/acme/{where}").content.decode()


def test_an_unknown_address_is_a_page(owner: Client) -> None:
    answer = owner.get("/app/acme/nothing/")
    assert answer.status_code == 404 and "text/html" in answer["Content-Type"]
