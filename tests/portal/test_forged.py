"""Forms that no page gave: ids of another's rows, fields that are nobody's to set, no token."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import models
from django.test import Client
from django.urls import reverse

from accounts.models import Invitation, Membership, Role
from portal.urls import urlpatterns
from tenants.keys import Mode
from tenants.models import ApiKey, Plan, Project, Tenant
from tests.factories import ApiKeyFactory, PlanFactory, ProjectFactory
from tests.portal.test_pages import MATRIX, arguments

pytestmark = pytest.mark.django_db
KEY = {"name": "k", "mode": "test", "scopes": "*", "allowed_ips": ""}


def everything() -> list[Any]:
    tables: list[type[models.Model]] = [Tenant, Project, ApiKey, Membership, Invitation, Plan]
    return [list(table._base_manager.order_by("pk").values()) for table in tables]


@pytest.fixture
def other() -> Tenant:
    tenant: Tenant = ProjectFactory(slug="theirs", tenant__slug="other").tenant
    return tenant


def sends() -> list[Any]:
    return [pattern for pattern in urlpatterns if pattern.name in MATRIX]


def test_anothers_rows_cannot_be_sent_to(tenant: Tenant, other: Tenant, owner: Client) -> None:
    for pattern in sends():
        theirs = arguments(other, pattern)
        before = everything()
        for slug in {other.slug, tenant.slug} if theirs else {other.slug}:
            where = reverse(f"portal:{pattern.name}", args=[slug, *theirs])
            form = KEY | {"overlap": "0", "role": "owner", "email": "x@example.test", "slug": "x"}
            assert owner.post(where, form).status_code == 404, where
        assert everything() == before, pattern.name


def test_a_key_cannot_be_made_in_anothers_project(
    tenant: Tenant, other: Tenant, owner: Client
) -> None:
    theirs = other.projects.get()
    for project in (theirs.public_id, str(theirs.pk), "1", "", "prj_x"):
        assert owner.post("/app/acme/keys/", KEY | {"project": project}).status_code == 400
    assert not ApiKey.objects.exists()


FORGED = {
    **{"id": "99", "pk": "99", "public_id": "forged", "status": "suspended", "mode": "live"},
    **{"tenant": "other", "tenant_id": "2", "project": "theirs", "project_id": "2", "plan": "gold"},
    **{"plan_id": "2", "slug": "forged", "keep_warm": "on", "digest": "0" * 64, "quotas": "[]"},
    **{"rate_limits": "[]", "revoked_at": "", "role": "owner", "is_staff": "on", "user": "1"},
    **{"last_four": "0000", "replaces": "1", "created_at": "2020-01-01T00:00"},
}


def unchanged(row: models.Model, sent: set[str]) -> dict[str, Any]:
    values = type(row)._base_manager.values().get(pk=row.pk)
    return {name: value for name, value in values.items() if name not in {*sent, "changed_at"}}


def test_fields_that_are_nobodys_to_set(tenant: Tenant, other: Tenant, owner: Client) -> None:
    """A form that is good but for what it also says is done, and nothing of what it also says."""
    PlanFactory(slug="gold")
    project = tenant.projects.get()
    key = ApiKeyFactory(project=project, mode=Mode.TEST)
    settings = {"name": "New", "time_zone": "Europe/Paris", "locale": "fr"}
    cases: list[tuple[models.Model, str, dict[str, str]]] = [
        (tenant, "settings/", settings),
        (project, f"projects/{project.public_id}/", {"name": "New"}),
        (key, f"keys/{key.key_id}/", {"name": "New", "scopes": "chat.completions"}),
    ]
    for row, where, form in cases:
        sent = {*form, "allow_house_fallback"}
        before = unchanged(row, sent)
        assert owner.post(f"/app/acme/{where}", FORGED | form).status_code == 302, where
        assert unchanged(row, sent) == before, where
        row.refresh_from_db()
        assert row.name == "New"  # type: ignore[attr-defined]


@pytest.mark.parametrize("overlap", ["-1", "1", "99999999", "x", "", "0; DROP"])
def test_an_overlap_is_one_of_those_offered(overlap: str, tenant: Tenant, owner: Client) -> None:
    key = ApiKeyFactory(project=tenant.projects.get())
    assert (
        owner.post(f"/app/acme/keys/{key.key_id}/rotate/", {"overlap": overlap}).status_code == 400
    )
    assert ApiKey.objects.count() == 1


@pytest.mark.parametrize("locale", ["", "xx", "../en", "en\x00", "EN", "de_DE"])
def test_a_locale_is_one_of_those_offered(locale: str, tenant: Tenant, owner: Client) -> None:
    form = {"name": "New", "time_zone": "UTC", "locale": locale}
    assert owner.post("/app/acme/settings/", form).status_code == 400
    tenant.refresh_from_db()
    assert tenant.name != "New" and tenant.locale == "en"


def test_without_a_token_nothing_is_taken(tenant: Tenant, owner: Client) -> None:
    careless = Client(enforce_csrf_checks=True)
    careless.force_login(Membership.objects.get(role=Role.OWNER).user)
    for pattern in sends():
        where = reverse(f"portal:{pattern.name}", args=[tenant.slug, *arguments(tenant, pattern)])
        before = everything()
        answer = careless.post(where, KEY)
        assert answer.status_code == 403 and b"page again" in answer.content, pattern.name
        assert everything() == before
    assert careless.post("/app/sign-out/").status_code == 403
    assert careless.get("/app/acme/").status_code == 200  # still signed in
