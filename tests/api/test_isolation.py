"""OWASP API1 and API5: every URL with an id, tried by everyone it does not belong to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver
from rest_framework.test import APIClient

from accounts.models import Membership
from api.v1 import urls as v1
from lib.models import Revision, Topic
from tenants import services
from tenants.models import ApiKey, Project, Tenant
from tests.factories import (
    ApiKeyFactory,
    MembershipFactory,
    ProjectFactory,
    TenantFactory,
    UsageRecordFactory,
)
from usage.feedback_models import Feedback

pytestmark = pytest.mark.django_db

# Each route with an id → (methods, how its URL is made for a tenant).
CASES: dict[str, tuple[list[str], Callable[[Tenant], str]]] = {
    "tenants/(?P<tenant_id>ten_[0-9a-z]{26})": (
        ["get", "patch"],
        lambda t: f"tenants/{t.public_id}",
    ),
    "tenants/(?P<tenant_id>ten_[0-9a-z]{26})/suspend": (
        ["post"],
        lambda t: f"tenants/{t.public_id}/suspend",
    ),
    "tenants/(?P<tenant_id>ten_[0-9a-z]{26})/resume": (
        ["post"],
        lambda t: f"tenants/{t.public_id}/resume",
    ),
    "projects/(?P<public_id>prj_[0-9a-z]{26})": (
        ["get", "patch", "delete"],
        lambda t: f"projects/{ProjectFactory(tenant=t).public_id}",
    ),
    "members/(?P<user_id>usr_[0-9a-z]{26})": (
        ["get", "patch", "delete"],
        lambda t: f"members/{MembershipFactory(tenant=t).user.public_id}",
    ),
    "keys/(?P<key_id>key_[0-9A-Za-z]{12})": (
        ["get", "patch", "delete"],
        lambda t: f"keys/{ApiKeyFactory(tenant=t).key_id}",
    ),
    "keys/(?P<key_id>key_[0-9A-Za-z]{12})/rotate": (
        ["post"],
        lambda t: f"keys/{ApiKeyFactory(tenant=t).key_id}/rotate",
    ),
    "keys/(?P<key_id>key_[0-9A-Za-z]{12})/revoke": (
        ["post"],
        lambda t: f"keys/{ApiKeyFactory(tenant=t).key_id}/revoke",
    ),
    "requests/<uuid:request_id>": (
        ["get"],
        lambda t: f"requests/{UsageRecordFactory(tenant_id=t.pk).request_id}",
    ),
    "requests/<uuid:request_id>/feedback": (
        ["post"],
        lambda t: f"requests/{UsageRecordFactory(tenant_id=t.pk).request_id}/feedback",
    ),
}
STAFF_ONLY = {name for name in CASES if name.endswith(("suspend", "resume"))}
BODIES = {
    "tenants": {"name": "Taken over"},
    "projects": {"name": "Taken over"},
    "members": {"role": "viewer"},
    "keys": {"name": "Taken over"},
}


def routes(patterns: list[Any], prefix: str = "") -> list[str]:
    found = []
    for pattern in patterns:
        text = prefix + str(pattern.pattern).removeprefix("^").removesuffix("\\Z").removesuffix("$")
        if isinstance(pattern, URLResolver):
            found += routes(pattern.url_patterns, text)
        elif isinstance(pattern, URLPattern):
            found.append(text)
    return found


def state() -> Any:
    return [
        list(model.objects.order_by("pk").values())
        for model in (Tenant, Project, Membership, ApiKey, Feedback)
    ]


def attempt(client: APIClient, method: str, url: str) -> Any:
    body = BODIES.get(url.split("/", maxsplit=1)[0], {}) if method == "patch" else {}
    body = {"score": 0.5} if url.endswith("/feedback") else body
    return getattr(client, method)(f"/api/v1/{url}", body, format="json")


def test_every_route_with_an_id_has_a_case() -> None:
    with_id = {route for route in routes(v1.urlpatterns) if "<" in route}
    assert with_id == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_only_the_own_tenant_gets_in(
    name: str, anonymous: APIClient, as_role: Any, with_key: Any
) -> None:
    methods, make_url = CASES[name]
    own, other = TenantFactory(), TenantFactory()
    intruders = {
        "owner of another tenant": as_role(other, "owner"),
        "management key of another tenant": with_key(
            ApiKeyFactory(tenant=other, scopes=["manage:*"])
        ),
    }
    url = make_url(own)
    key = ApiKeyFactory(tenant=own, scopes=["manage:*"])
    services.revoke_key(key=key)
    strangers = {"anonymous": anonymous, "revoked": with_key(key)}
    before = state()
    for method in methods:
        for client in intruders.values():
            expected = 403 if name in STAFF_ONLY else 404
            assert attempt(client, method, url).status_code == expected
        for client in strangers.values():
            assert attempt(client, method, url).status_code == 401
    assert state() == before
    if name not in STAFF_ONLY:
        assert attempt(as_role(own, "owner"), methods[0], url).status_code in {200, 201}


@pytest.mark.parametrize("resource", ["tenants", "projects", "members", "keys"])
def test_lists_hold_the_own_rows_only(resource: str, as_role: Any) -> None:
    own, other = TenantFactory(), TenantFactory()
    for tenant in (own, other):
        ApiKeyFactory(tenant=tenant)
        MembershipFactory(tenant=tenant)
    theirs = as_role(other, "owner").get(f"/api/v1/{resource}").json()["data"]
    ours = as_role(own, "owner").get(f"/api/v1/{resource}").json()["data"]
    assert ours
    assert not {row["id"] for row in ours} & {row["id"] for row in theirs}


def test_a_key_for_anothers_project_is_not_made(as_role: Any) -> None:
    own, foreign = TenantFactory(), ProjectFactory()
    ProjectFactory(tenant=own)
    body = {"name": "x", "project": foreign.public_id}
    answer = as_role(own, "owner").post("/api/v1/keys", body, format="json")
    assert answer.status_code == 422
    assert not ApiKey.objects.exists()


def test_a_member_of_two_tenants_acts_for_one(as_user: Any) -> None:
    member = MembershipFactory()
    second = MembershipFactory(user=member.user, role="viewer")
    key = ApiKeyFactory(tenant=second.tenant)
    client = as_user(member.user, member.tenant)
    assert client.get(f"/api/v1/keys/{key.key_id}").status_code == 404
    # Tenants are shown by membership; what may be changed goes by the role in each.
    where = f"/api/v1/tenants/{second.tenant.public_id}"
    assert client.get(where).status_code == 200
    assert client.patch(where, {"name": "x"}, format="json").status_code == 403


def test_a_suspended_tenant_is_shut_out(with_key: Any, as_role: Any) -> None:
    key = ApiKeyFactory(scopes=["manage:*"])
    clients = [with_key(key), as_role(key.tenant, "owner")]
    assert all(client.get("/api/v1/keys").status_code == 200 for client in clients)
    services.suspend_tenant(tenant=key.tenant)
    for client in clients:
        answer = client.get("/api/v1/keys")
        assert (answer.status_code, answer.json()["code"]) == (403, "tenant_suspended")
    services.resume_tenant(tenant=key.tenant)
    assert all(client.get("/api/v1/keys").status_code == 200 for client in clients)


def test_every_write_is_published(as_role: Any) -> None:
    tenant = TenantFactory()
    client = as_role(tenant, "owner")
    ProjectFactory(tenant=tenant)
    before = Revision.numbers()[Topic.KEYS]
    made = client.post("/api/v1/keys", {"name": "x"}, format="json").json()
    client.post(f"/api/v1/keys/{made['id']}/revoke")
    assert Revision.numbers()[Topic.KEYS] >= before + 2
