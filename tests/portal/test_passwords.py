"""A password changed by its owner, or set anew by a link that only its owner gets."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Any

import pytest
import time_machine
from django.core.mail import EmailMessage
from django.test import Client

from accounts import tokens
from accounts.models import RefreshFamily, User
from api.acting import AS_MEMBER
from lib.audit import AuditEntry
from portal import mails
from tests.factories import PASSWORD, MembershipFactory, UserFactory

pytestmark = pytest.mark.django_db
FORGOTTEN, ACCOUNT = "/app/sign-in/forgotten/", "/app/sign-in/account/"
FRESH = "a horse of another colour"
NEW = {"new_password1": FRESH, "new_password2": FRESH}


@pytest.fixture(autouse=True)
def server(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go somewhere; and what is done meanwhile is done at once, in the test's transaction."""
    settings.ENV = settings.ENV.model_copy(update={"EMAIL_URL": "smtp://mail.example"})
    monkeypatch.setattr(mails, "meanwhile", lambda work: work())


@pytest.fixture
def person() -> User:
    user: User = MembershipFactory(tenant__slug="acme").user
    return user


def asked(email: str, browser: Client | None = None, **more: Any) -> Any:
    return (browser or Client()).post(FORGOTTEN, {"email": email}, **more)


def link_in(mail: EmailMessage) -> str:
    (link,) = re.findall(r"http://testserver(/\S+)", str(mail.body))[-1:]
    return str(link)


def at(browser: Client, link: str) -> str:
    """Where the link's form is: the secret is in the address no longer."""
    answer = browser.get(link)
    return str(answer["Location"]) if answer.status_code == 302 else link


def test_who_forgot_it_gets_in_by_a_link(person: User, mailoutbox: list[EmailMessage]) -> None:
    assert f"If {person.email} has" in asked(person.email.upper()).content.decode()
    (mail,) = mailoutbox
    assert mail.to == [person.email] and not mail.cc and not mail.bcc
    browser = Client()
    form = at(browser, link_in(mail))
    assert "set-password" in form and person.email in browser.get(form).content.decode()
    assert browser.post(form, NEW)["Location"] == "/app/"
    assert browser.get("/app/acme/").status_code == 200
    person.refresh_from_db()
    assert person.check_password(FRESH)


def test_a_new_password_ends_what_the_old_one_opened(
    person: User, mailoutbox: list[EmailMessage]
) -> None:
    elsewhere = Client()
    elsewhere.force_login(person)
    tokens.sign_in(user=person, tenant=None)
    asked(person.email)
    browser = Client()
    browser.post(at(browser, link_in(mailoutbox[0])), NEW)
    assert elsewhere.get("/app/acme/").status_code == 302
    assert not RefreshFamily.objects.filter(revoked_at=None).exists()


def test_who_was_added_and_never_had_one_gets_one(mailoutbox: list[EmailMessage]) -> None:
    person = User.objects.create_user("added@example.test")
    MembershipFactory(user=person, tenant__slug="acme")
    asked(person.email)
    browser = Client()
    browser.post(at(browser, link_in(mailoutbox[0])), NEW)
    assert browser.get("/app/acme/").status_code == 200


def test_a_link_works_once_and_for_an_hour(person: User, mailoutbox: list[EmailMessage]) -> None:
    with time_machine.travel(dt.datetime.now(dt.UTC), tick=False) as clock:
        asked(person.email)
        asked(person.email)
        first, late = map(link_in, mailoutbox)
        browser = Client()
        assert browser.post(at(browser, first), NEW).status_code == 302
        for link in (first, late):  # the other one went with the old password
            assert "Ask for another one" in Client().get(link).content.decode()
        asked(person.email)
        clock.shift(3601)
        assert "Ask for another one" in Client().get(link_in(mailoutbox[2])).content.decode()


def test_of_nobody_it_is_told_whether_they_have_an_account(
    person: User, mailoutbox: list[EmailMessage]
) -> None:
    unhelped = [
        "nobody@example.test",
        UserFactory(is_active=False).email,
        UserFactory(is_staff=True).email,
        UserFactory(is_superuser=True).email,
    ]
    told = {asked(email).content.decode().replace(email, "…") for email in unhelped}
    assert not mailoutbox
    assert told == {asked(person.email).content.decode().replace(person.email, "…")}
    assert len(mailoutbox) == 1


@pytest.mark.parametrize("change", [{"is_active": False}, {"is_staff": True}])
def test_a_link_opens_nothing_that_would_not_be_opened_now(
    change: Any, person: User, mailoutbox: list[EmailMessage]
) -> None:
    asked(person.email)
    User.objects.filter(pk=person.pk).update(**change)
    assert "Ask for another one" in Client().get(link_in(mailoutbox[0])).content.decode()


@pytest.mark.parametrize("where", ["MQ/set-password/", "MQ/x-y/", "%00/a/", "9999/a/", "é/a/"])
def test_made_up_links_are_refused(where: str, person: User) -> None:
    for answer in (Client().get(FORGOTTEN + where), Client().post(FORGOTTEN + where, NEW)):
        assert answer.status_code == 200 and b"Ask for another one" in answer.content
    person.refresh_from_db()
    assert person.check_password(PASSWORD)


def test_nobodys_mailbox_is_filled(person: User, mailoutbox: list[EmailMessage]) -> None:
    told = {asked(person.email, REMOTE_ADDR=f"192.0.2.{n}").content for n in range(6)}
    assert len(mailoutbox) == 3 and len(told) == 1


def test_one_address_asks_only_so_often(mailoutbox: list[EmailMessage]) -> None:
    statuses = [asked(f"user{n}@example.test").status_code for n in range(11)]
    assert statuses == [200] * 10 + [429]


def test_who_asked_and_who_set_it_is_in_the_audit_log(
    person: User, mailoutbox: list[EmailMessage]
) -> None:
    asked(person.email, REMOTE_ADDR="192.0.2.7")
    browser, link = Client(), link_in(mailoutbox[0])
    browser.post(at(browser, link), NEW)
    changed, request = AuditEntry.objects.about(person)[:2]
    assert (request.action, request.address) == ("asked for a new password", "192.0.2.7")
    assert changed.action == "changed" and "password" in changed.after
    secret = link.rstrip("/").rpartition("/")[2]
    assert all(secret not in f"{entry.before}{entry.after}" for entry in AuditEntry.objects.all())


def test_a_server_that_fails_changes_no_answer(
    person: User, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1  # nobody listens
    monkeypatch.setattr(mails, "meanwhile", mails.by_itself)
    assert "on its way" in asked(person.email).content.decode()


def test_without_a_server_the_page_says_whom_to_ask(person: User, settings: Any) -> None:
    settings.ENV = settings.ENV.model_copy(update={"EMAIL_URL": ""})
    for answer in (Client().get(FORGOTTEN), asked(person.email)):
        assert b"Ask the people who run it" in answer.content and b"<form" not in answer.content


def test_it_is_changed_by_who_knows_the_old_one(person: User) -> None:
    here, elsewhere = Client(), Client()
    for browser in (here, elsewhere):
        browser.force_login(person)
    assert person.email in here.get(ACCOUNT).content.decode()
    wrong: list[dict[str, str]] = [
        {"old_password": "wrong"} | NEW,
        {"old_password": PASSWORD, "new_password1": "1234", "new_password2": "1234"},
        {"old_password": PASSWORD, "new_password1": FRESH, "new_password2": "another"},
        NEW,
    ]
    for form in wrong:
        assert here.post(ACCOUNT, form).status_code == 400
    person.refresh_from_db()
    assert person.check_password(PASSWORD)
    done = here.post(ACCOUNT, {"old_password": PASSWORD} | NEW, follow=True)
    assert "Changed" in done.content.decode() and here.get("/app/acme/").status_code == 200
    assert elsewhere.get("/app/acme/").status_code == 302


def test_the_old_one_cannot_be_guessed_there(person: User) -> None:
    browser = Client()
    browser.force_login(person)
    for _ in range(20):
        browser.post(ACCOUNT, {"old_password": "wrong"} | NEW)
    told = browser.post(ACCOUNT, {"old_password": "wrong"} | NEW)
    right = browser.post(ACCOUNT, {"old_password": PASSWORD} | NEW)
    assert told.status_code == right.status_code == 429
    assert b"incorrect" not in told.content


def test_staff_who_look_as_a_member_change_nobodys(
    person: User, staff_as: Callable[[User], Client]
) -> None:
    browser = staff_as(person)
    assert b"password1" not in browser.get(ACCOUNT).content
    assert browser.post(ACCOUNT, {"old_password": PASSWORD} | NEW).status_code == 403
    assert browser.post("/app/sign-out/").status_code == 302
    person.refresh_from_db()
    assert person.check_password(PASSWORD)


@pytest.fixture
def staff_as() -> Callable[[User], Client]:
    def browser(person: User) -> Client:
        client = Client()
        client.force_login(User.objects.create_superuser("boss@example.test", PASSWORD))
        session = client.session
        session[AS_MEMBER] = person.pk
        session.save()
        return client

    return browser


@pytest.mark.parametrize("where", [ACCOUNT, FORGOTTEN])
def test_forged_posts_are_refused(where: str, person: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(person)
    assert browser.post(where, {"email": person.email} | NEW).status_code == 403


def test_the_account_page_needs_a_sign_in() -> None:
    assert Client().get(ACCOUNT)["Location"] == f"/app/sign-in/?next={ACCOUNT}"
