"""Members, invitations, projects and settings on the tenants' pages."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.test import Client
from django.utils import timezone

from accounts.models import Invitation, Membership, Role, User
from accounts.services import accept
from lib.audit import AuditEntry
from portal import mails, people
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


@pytest.mark.parametrize("opens", ["another tenant", "the admin", "everything"])
def test_no_invitation_opens_an_account_that_opens_more(
    opens: str, tenant: Tenant, owner: Client
) -> None:
    """Whoever invites has the link, and could choose the password of one who never had any."""
    person = User.objects.create_user("added@example.test")
    if opens == "another tenant":
        MembershipFactory(user=person)
    else:
        powers = {"is_staff": opens == "the admin", "is_superuser": opens == "everything"}
        User.objects.filter(pk=person.pk).update(**powers)
    where, browser = link(owner, person.email), Client()
    assert "sign in</a> first" in browser.get(where).content.decode()
    assert browser.post(where, {"password": PASSWORD}).status_code == 200
    with pytest.raises(ValidationError):
        accept(token=where.rstrip("/").rpartition("/")[2], password=PASSWORD)
    person.refresh_from_db()
    assert not person.has_usable_password()
    assert not Membership.objects.filter(tenant=tenant, user=person).exists()


def test_who_was_added_and_opens_nothing_chooses_a_password(tenant: Tenant, owner: Client) -> None:
    person = User.objects.create_user("removed@example.test")
    done = Client().post(link(owner, person.email), {"password": PASSWORD})
    assert done["Location"] == "/app/acme/"


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


@pytest.fixture
def server(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ENV = settings.ENV.model_copy(update={"EMAIL_URL": "smtp://mail.example"})
    monkeypatch.setattr(mails, "meanwhile", lambda work: work())


def test_where_mails_are_sent_only_the_invited_has_the_link(
    owner: Client, tenant: Tenant, server: None, mailoutbox: list[EmailMessage]
) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(name="A\nB <i>&c</i>")
    page = owner.post(WHERE, {"email": "New@Example.test", "role": "developer"})
    assert "on its way to new@example.test" in page.content.decode()
    (mail,) = mailoutbox
    assert mail.to == ["new@example.test"] and "B <i>&c</i>" in mail.body
    (where,) = re.findall(r"http://testserver(/app/invitation/\S+)", mail.body)
    assert where not in page.content.decode()
    assert Client().post(where, {"password": PASSWORD})["Location"] == "/app/acme/"


def test_a_tenant_invites_only_so_many(
    owner: Client, tenant: Tenant, server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "INVITATIONS", "2/h")
    pages = [owner.post(WHERE, {"email": f"{n}@example.test", "role": "viewer"}) for n in range(3)]
    assert [page.status_code for page in pages] == [200, 200, 400]
    assert Invitation.objects.count() == 2


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
