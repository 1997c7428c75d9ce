"""Members, invitations, projects and settings on the tenants' pages."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Invitation, Membership, Role, User
from lib.audit import AuditEntry
from tenants.models import Tenant
from tests.factories import PASSWORD, ApiKeyFactory, MembershipFactory, ProjectFactory, UserFactory

pytestmark = pytest.mark.django_db
WHERE = "/app/acme/members/"


def link(browser: Client, email: str = "new@example.test", role: str = "developer") -> str:
    page = browser.post(WHERE, {"email": email, "role": role})
    assert page.status_code == 200, page.context["form"].errors
    address: str = page.context["link"]
    assert address in page.content.decode()
    return address.removeprefix("http://testserver")


def test_who_is_new_chooses_a_password_and_is_in(tenant: Tenant, owner: Client) -> None:
    where, stranger = link(owner), Client()
    assert "new@example.test" in stranger.get(where).content.decode()
    weak = stranger.post(where, {"password": "1234"})
    assert weak.status_code == 400 and not Membership.objects.filter(role="developer").exists()
    done = stranger.post(where, {"name": "New", "password": PASSWORD})
    assert done["Location"] == "/app/acme/"
    assert stranger.get("/app/acme/").status_code == 200
    assert Membership.objects.get(user__email="new@example.test").role == Role.DEVELOPER
    assert stranger.get(where).status_code == 404  # it worked once


def test_who_has_an_account_signs_in_first(tenant: Tenant, owner: Client) -> None:
    person = UserFactory(email="old@example.test")
    where, browser = link(owner, person.email), Client()
    assert browser.post(where, {"password": "taken over by the link"}).status_code == 200
    assert User.objects.get(pk=person.pk).check_password(PASSWORD)
    assert not Membership.objects.filter(user=person).exists()
    browser.force_login(person)
    assert browser.post(where)["Location"] == "/app/acme/"


def test_somebody_else_who_is_signed_in_cannot_take_it(owner: Client, tenant: Tenant) -> None:
    where, browser = link(owner), Client()
    other = UserFactory()
    browser.force_login(other)
    assert browser.post(where, {"password": PASSWORD}).status_code == 200
    assert not Membership.objects.filter(user=other).exists()
    assert not User.objects.filter(email="new@example.test").exists()


def test_it_ends_by_itself_when_withdrawn_or_replaced(owner: Client, tenant: Tenant) -> None:
    first, second = link(owner), link(owner)
    assert Client().get(first).status_code == 404
    assert Client().get(second).status_code == 200
    row = Invitation.objects.get()
    owner.post(f"/app/acme/invitations/{row.public_id}/withdraw/")
    assert Client().get(second).status_code == 404
    third = link(owner)
    Invitation.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    assert Client().get(third).status_code == 404


def test_its_secret_is_kept_nowhere(owner: Client, tenant: Tenant) -> None:
    token = link(owner).rstrip("/").rpartition("/")[2]
    assert token not in owner.get(WHERE).content.decode()
    row = Invitation.objects.get()
    assert token != row.digest
    for entry in AuditEntry.objects.all():
        assert token not in entry.after and row.digest not in entry.after


def test_only_owners_touch_owners(tenant: Tenant, owner: Client, as_role: Any) -> None:
    admin = as_role(Role.ADMIN)
    assert admin.post(WHERE, {"email": "x@example.test", "role": "owner"}).status_code == 400
    boss = Membership.objects.get(role=Role.OWNER).user
    for page, form in (("", {"role": "viewer"}), ("remove/", {})):
        assert admin.post(f"{WHERE}{boss.public_id}/{page}", form).status_code == 400
    assert owner.post(f"{WHERE}{boss.public_id}/remove/").status_code == 400  # the last one
    assert Membership.objects.filter(user=boss, role=Role.OWNER).exists()


def test_roles_are_changed_and_members_removed(tenant: Tenant, owner: Client) -> None:
    member = MembershipFactory(tenant=tenant, role=Role.VIEWER)
    where = f"{WHERE}{member.user.public_id}/"
    assert owner.post(where, {"role": "billing"}).status_code == 302
    member.refresh_from_db()
    assert member.role == Role.BILLING
    assert owner.post(where, {"role": "god"}).status_code == 400
    owner.post(where + "remove/")
    assert not Membership.objects.filter(pk=member.pk).exists()


def test_who_leaves_is_shown_what_is_left(tenant: Tenant, owner: Client) -> None:
    me = Membership.objects.get(role=Role.OWNER).user
    MembershipFactory(tenant=tenant, role=Role.OWNER)
    left = owner.post(f"{WHERE}{me.public_id}/remove/", follow=True)
    assert left.status_code == 200 and "belong to no tenant" in left.content.decode()


def test_projects(tenant: Tenant, owner: Client) -> None:
    where = "/app/acme/projects/"
    assert owner.post(where, {"name": "Shop", "slug": "shop"}).status_code == 302
    again = owner.post(where, {"name": "Again", "slug": "shop"})
    assert again.status_code == 400 and again.context["form"]["slug"].errors
    assert 'value="Again"' in again.content.decode()
    shop = tenant.projects.get(slug="shop")
    owner.post(f"{where}{shop.public_id}/", {"name": "Market"})
    shop.refresh_from_db()
    assert shop.name == "Market"
    ApiKeyFactory(project=shop)
    assert owner.post(f"{where}{shop.public_id}/delete/").status_code == 400
    empty = ProjectFactory(tenant=tenant)
    owner.post(f"{where}{empty.public_id}/delete/")
    assert not tenant.projects.filter(pk=empty.pk).exists()


def test_settings(tenant: Tenant, owner: Client) -> None:
    form = {"name": "Acme AB", "time_zone": "Asia/Kolkata", "locale": "sv"}
    form["allow_house_fallback"] = "on"
    told = owner.post("/app/acme/settings/", form, follow=True).content.decode()
    tenant.refresh_from_db()
    assert (tenant.name, tenant.time_zone, tenant.locale) == ("Acme AB", "Asia/Kolkata", "sv")
    assert tenant.allow_house_fallback and "Saved" in told
    assert owner.post("/app/acme/settings/", form | {"time_zone": "Mars"}).status_code == 400
    entry = AuditEntry.objects.about(tenant).first()
    assert entry.actor == Membership.objects.get(role="owner").user.email
