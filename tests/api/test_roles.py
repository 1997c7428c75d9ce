"""Who may do what: each role and each right against each resource."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import Membership, Role
from accounts.records import of_key
from tenants.models import ApiKey, Tenant
from tests.factories import (
    ApiKeyFactory,
    MembershipFactory,
    PlanFactory,
    ProjectFactory,
    ProviderFactory,
    TenantFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db
MANAGERS = {"owner", "admin"}
BUILDERS = {*MANAGERS, "developer"}
WRITES = {
    "projects": ({"slug": "new"}, BUILDERS),
    "keys": ({"name": "new"}, BUILDERS),
    "members": ({"email": "new@example.test"}, MANAGERS),
}


@pytest.mark.parametrize("role", Role.values)
@pytest.mark.parametrize("resource", WRITES)
def test_roles(role: str, resource: str, as_role: Any) -> None:
    tenant = ProjectFactory().tenant
    body, allowed = WRITES[resource]
    client = as_role(tenant, role)
    assert client.get(f"/api/v1/{resource}").status_code == 200
    answer = client.post(f"/api/v1/{resource}", body, format="json")
    assert answer.status_code == (201 if role in allowed else 403)


@pytest.mark.parametrize("role", Role.values)
def test_who_may_rename_the_tenant(role: str, as_role: Any) -> None:
    tenant = TenantFactory()
    where = f"/api/v1/tenants/{tenant.public_id}"
    answer = as_role(tenant, role).patch(where, {"name": "New"}, format="json")
    assert answer.status_code == (200 if role in MANAGERS else 403)


def test_a_tenants_locale_is_one_that_figures_are_written_by(as_role: Any) -> None:
    tenant = TenantFactory()
    client, where = as_role(tenant, "owner"), f"/api/v1/tenants/{tenant.public_id}"
    assert client.patch(where, {"locale": "de"}, format="json").json()["locale"] == "de"
    refused = client.patch(where, {"locale": "xx"}, format="json")
    assert refused.status_code == 422 and "locale" in refused.json()["errors"][0]["pointer"]


@pytest.mark.parametrize("consent", ["allow_house_fallback", "keep_warm"])
@pytest.mark.parametrize("role", Role.values)
def test_who_may_agree_to_what_costs_the_tenant(role: str, consent: str, as_role: Any) -> None:
    """It is the tenant's money, so its managers say so; every call goes by it afterwards."""
    key = ApiKeyFactory()
    assert getattr(of_key(key), consent) is False
    where = f"/api/v1/tenants/{key.tenant.public_id}"
    answer = as_role(key.tenant, role).patch(where, {consent: True}, format="json")
    assert answer.status_code == (200 if role in MANAGERS else 403)
    key.tenant.refresh_from_db()
    assert getattr(of_key(key), consent) is (role in MANAGERS)


@pytest.mark.parametrize("resource", WRITES)
@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (["*"], set()),
        (["chat.completions"], set()),
        (["health:read"], set()),
        (["manage:projects"], {"projects"}),
        (["manage:keys"], {"keys"}),
        (["manage:members"], {"members"}),
        (["manage:*"], {"projects", "keys", "members"}),
        (["internal:*"], set()),
    ],
)
def test_rights(resource: str, scopes: list[str], allowed: set[str], with_key: Any) -> None:
    client = with_key(ApiKeyFactory(scopes=scopes))
    body, _ = WRITES[resource]
    read = client.get(f"/api/v1/{resource}")
    written = client.post(f"/api/v1/{resource}", body, format="json")
    if resource in allowed:
        assert (read.status_code, written.status_code) == (200, 201)
    else:
        assert (read.status_code, written.status_code) == (403, 403)
        assert read.json()["code"] == "insufficient_scope"


@pytest.mark.parametrize("carrier", ["Authorization", "X-API-Key"])
def test_the_carrier_makes_no_difference(carrier: str) -> None:
    key = ApiKeyFactory(scopes=["*"], allowed_ips=["198.51.100.0/24"])
    shown = f"Bearer {key.text}" if carrier == "Authorization" else key.text
    inside, outside = APIClient(REMOTE_ADDR="198.51.100.9"), APIClient(REMOTE_ADDR="192.0.2.9")
    assert inside.get("/api/v1/auth/status", headers={carrier: shown}).status_code == 200
    assert inside.get("/api/v1/keys", headers={carrier: shown}).status_code == 403
    refused = outside.get(
        "/api/v1/auth/status", headers={carrier: shown, "X-Forwarded-For": "198.51.100.9"}
    )
    assert (refused.status_code, refused.json()["code"]) == (403, "ip_not_allowed")


@pytest.mark.parametrize(
    ("client_scopes", "wanted", "status"),
    [
        (["manage:keys"], ["*"], 201),
        (["manage:keys"], ["manage:keys"], 201),
        (["manage:keys"], ["manage:members"], 403),
        (["manage:keys"], ["manage:*"], 403),
        (["manage:*"], ["manage:members"], 201),
        (["manage:*"], ["health:read"], 403),
        (["manage:*"], ["internal:write"], 403),
        (["manage:*"], ["*", "manage:keys"], 422),
        (["manage:*"], ["made:up"], 422),
        (["manage:*"], ["No Scope"], 422),
        (["manage:*"], [], 422),
    ],
)
def test_nobody_gives_more_than_they_have(
    client_scopes: list[str], wanted: list[str], status: int, with_key: Any
) -> None:
    client = with_key(ApiKeyFactory(scopes=client_scopes))
    answer = client.post("/api/v1/keys", {"name": "x", "scopes": wanted}, format="json")
    assert answer.status_code == status


def test_a_developer_handles_no_management_key(as_role: Any) -> None:
    key = ApiKeyFactory(scopes=["manage:keys"])
    client = as_role(key.tenant, "developer")
    where = f"/api/v1/keys/{key.key_id}"
    assert client.post(f"{where}/rotate").status_code == 403
    assert client.patch(where, {"scopes": ["*"]}, format="json").status_code == 403
    body = {"name": "x", "scopes": ["manage:keys"]}
    assert client.post("/api/v1/keys", body, format="json").status_code == 403


def test_owners_are_touched_by_owners_only(as_role: Any, with_key: Any) -> None:
    owner = MembershipFactory(role="owner")
    where = f"/api/v1/members/{owner.user.public_id}"
    intruders = [
        as_role(owner.tenant, "admin"),
        with_key(ApiKeyFactory(tenant=owner.tenant, scopes=["manage:*"])),
    ]
    for client in intruders:
        assert client.delete(where).status_code == 403
        assert client.patch(where, {"role": "viewer"}, format="json").status_code == 403
        body = {"email": "new@example.test", "role": "owner"}
        assert client.post("/api/v1/members", body, format="json").status_code == 403


def test_the_last_owner_stays(as_user: Any) -> None:
    owner = MembershipFactory(role="owner")
    client = as_user(owner.user, owner.tenant)
    where = f"/api/v1/members/{owner.user.public_id}"
    assert client.delete(where).status_code == 422
    assert client.patch(where, {"role": "admin"}, format="json").status_code == 422
    MembershipFactory(tenant=owner.tenant, role="owner")
    assert client.patch(where, {"role": "admin"}, format="json").status_code == 200


MASS: dict[str, list[str]] = {
    "tenants": ["slug", "plan", "status", "public_id", "id", "rate_limits", "quotas", "created_at"],
    "projects": ["slug", "tenant", "tenant_id", "public_id", "id", "created_at"],
    "members": ["user", "user_id", "tenant", "id", "email", "is_staff", "is_superuser"],
    "keys": ["digest", "public_id", "last_four", "mode", "project", "tenant", "tenant_id",
             "revoked_at", "rate_limits", "replaces", "last_used_at", "key"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("resource", "field"), [(r, f) for r, names in MASS.items() for f in names]
)
def test_no_field_is_set_that_is_not_offered(resource: str, field: str, as_role: Any) -> None:
    key = ApiKeyFactory()
    member = MembershipFactory(tenant=key.tenant, role="developer")
    ids = {
        "tenants": key.tenant.public_id,
        "projects": key.project.public_id,
        "members": member.user.public_id,
        "keys": key.key_id,
    }
    rows = [key, member, key.tenant, key.project]
    client = as_role(key.tenant, "owner")
    base = {"role": "developer"} if resource == "members" else {}
    answer = client.patch(f"/api/v1/{resource}/{ids[resource]}", {**base, field: 1}, format="json")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == f"/{field}"
    for row in rows:
        before = {**row.__dict__, "_state": 0, "_prefetched_objects_cache": 0}
        fresh = type(row).objects.get(pk=row.pk).__dict__
        assert all(before[name] == value for name, value in fresh.items() if name[0] != "_")


def test_staff_sees_all_tenants_and_may_make_them(as_user: Any, as_role: Any) -> None:
    plan, tenant = PlanFactory(), TenantFactory()
    staff = as_user(UserFactory(is_staff=True))
    listed = staff.get("/api/v1/tenants").json()["data"]
    assert [row["id"] for row in listed] == [tenant.public_id]
    body = {"slug": "new", "name": "New", "plan": plan.slug}
    assert staff.post("/api/v1/tenants", body, format="json").status_code == 201
    assert Tenant.objects.get(slug="new").projects.get().slug == "default"
    for method in ("suspend", "resume"):
        answer = staff.post(f"/api/v1/tenants/{tenant.public_id}/{method}")
        assert answer.status_code == 200
    owner = as_role(tenant, "owner")
    assert owner.post("/api/v1/tenants", body, format="json").status_code == 403
    assert owner.post(f"/api/v1/tenants/{tenant.public_id}/suspend").status_code == 403


def test_staff_without_a_tenant_is_told_so(as_user: Any) -> None:
    answer = as_user(UserFactory(is_staff=True)).get("/api/v1/keys")
    assert answer.status_code == 403
    assert "tenant" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("who", "read", "write"),
    [
        ("staff", 200, 200),
        ("owner", 403, 403),
        ("*", 403, 403),
        ("manage:*", 403, 403),
        ("internal:read", 200, 403),
        ("internal:*", 200, 200),
        ("anonymous", 401, 401),
    ],
)
def test_the_management_api(who: str, read: int, write: int, clients: Any) -> None:
    provider, tenant, client = ProviderFactory(), TenantFactory(), clients(who)
    of_one = f"providers/{provider.slug}"
    for where in ("providers", "routes", "tenants", of_one, f"resilience/{of_one}"):
        assert client.get(f"/internal/v1/{where}").status_code == read
    where = f"/internal/v1/providers/{provider.slug}"
    assert client.patch(where, {"enabled": False}, format="json").status_code == write
    provider.refresh_from_db()
    assert provider.enabled is (write != 200)
    where = f"/internal/v1/tenants/{tenant.public_id}"
    assert client.patch(where, {"name": "New"}, format="json").status_code == write


def test_adding_a_stranger_makes_a_user_who_cannot_sign_in(as_role: Any) -> None:
    tenant = TenantFactory()
    body = {"email": "New@Example.test", "role": "viewer"}
    made = as_role(tenant, "owner").post("/api/v1/members", body, format="json")
    assert made.json()["email"] == "new@example.test"
    member = Membership.objects.get(user__public_id=made.json()["id"])
    assert not member.user.has_usable_password()
    assert not ApiKey.objects.exists()
