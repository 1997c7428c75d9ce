"""Signing in to the tenants' pages."""

from __future__ import annotations

import pytest
from django.test import Client

from tenants.models import Tenant
from tests.factories import PASSWORD, MembershipFactory, UserFactory

pytestmark = pytest.mark.django_db
WHERE = "/app/sign-in/"


def sign_in(browser: Client, email: str, password: str = PASSWORD, **more: str):  # type: ignore[no-untyped-def]
    return browser.post(WHERE, {"username": email, "password": password, **more})


def test_in_and_out(tenant: Tenant, client: Client) -> None:
    person = MembershipFactory(tenant=tenant).user
    assert sign_in(client, person.email.upper())["Location"] == "/app/"
    assert client.get("/app/")["Location"] == "/app/acme/"  # the only one
    assert client.get("/app/sign-out/").status_code == 405  # a link signs nobody out
    assert client.post("/app/sign-out/")["Location"] == WHERE
    assert client.get("/app/acme/").status_code == 302


def test_one_of_several_is_chosen(tenant: Tenant, client: Client) -> None:
    person = MembershipFactory(tenant=tenant).user
    other = MembershipFactory(user=person).tenant
    client.force_login(person)
    shown = client.get("/app/").content.decode()
    assert "/app/acme/" in shown and f"/app/{other.slug}/" in shown


def test_who_belongs_nowhere_is_told_so(client: Client) -> None:
    client.force_login(UserFactory())
    assert "belong to no tenant" in client.get("/app/").content.decode()


def test_the_same_is_said_of_every_wrong_one(tenant: Tenant, client: Client) -> None:
    person = MembershipFactory(tenant=tenant).user
    off = UserFactory(is_active=False)
    told = {
        sign_in(client, email, password).content
        for email, password in (
            (person.email, "wrong"),
            ("nobody@example.test", PASSWORD),
            (off.email, PASSWORD),
        )
    }
    texts = {page.decode().split('role="alert">')[1].split("</ul>")[0] for page in told}
    assert len(texts) == 1


@pytest.mark.parametrize(
    "wanted",
    ["https://evil.test/", "//evil.test", "javascript:alert(1)", "/\\evil.test", "http:evil"],
)
def test_nobody_is_sent_elsewhere(wanted: str, tenant: Tenant, client: Client) -> None:
    person = MembershipFactory(tenant=tenant).user
    assert sign_in(client, person.email, next=wanted)["Location"] == "/app/"


def test_one_goes_on_to_where_one_wanted(tenant: Tenant, client: Client) -> None:
    person = MembershipFactory(tenant=tenant).user
    assert sign_in(client, person.email, next="/app/acme/usage/")["Location"] == "/app/acme/usage/"


def test_guessing_is_locked_out(tenant: Tenant, client: Client) -> None:
    person = MembershipFactory(tenant=tenant).user
    for _ in range(5):
        sign_in(client, person.email, "wrong")
    assert sign_in(client, person.email).status_code == 429


def test_forged_posts_are_refused(tenant: Tenant) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(MembershipFactory(tenant=tenant, role="owner").user)
    assert browser.post("/app/acme/keys/", {"name": "x"}).status_code == 403
    assert browser.post("/app/sign-out/").status_code == 403
