"""Whatever a request names instead of a row is a fault of the form, on every page of the admin."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import ForeignKey
from django.test import Client

from accounts.models import User
from providers.models import Target
from tests.admin.test_pages import MAKERS, NO_ADD, url
from tests.factories import RouteFactory, TargetFactory

pytestmark = pytest.mark.django_db
HOSTILE = "<script>alert(1)</script>"
JUNK = ["abc", "9" * 40, "9" * 5000, "-1", "1\0", HOSTILE]


def page_of(label: str) -> Any:
    admin.autodiscover()
    pages = admin.site._registry.items()
    return next(page for model, page in pages if model._meta.label_lower == label)


def rows_named_by(page: Any) -> list[str]:
    keys = [each.name for each in page.opts.fields if isinstance(each, ForeignKey)]
    return keys + [each.name for each in page.opts.many_to_many]


@pytest.mark.parametrize("label", sorted(MAKERS.keys() - NO_ADD))
def test_a_form_says_that_there_is_no_such_row(label: str, superuser: User, rf: Any) -> None:
    page, request = page_of(label), rf.get("/")
    request.user = superuser
    for name in rows_named_by(page):
        kind = page.get_form(request)
        for junk in JUNK if name in kind.base_fields else ():
            sent, begun = kind({name: junk}), kind(initial={name: [junk]})
            assert sent.errors[name], junk[:9]
            assert HOSTILE not in f"{sent[name]}{begun[name]}"


def test_so_does_its_page(browser: Client) -> None:
    where = url("tenants.apikey", "add")
    assert "Select a valid choice" in browser.post(where, {"project": "abc"}).content.decode()
    assert browser.get(where, {"project": "abc"}).status_code == 200


def test_a_row_that_is_there_stays_as_it_is(browser: Client) -> None:
    row = TargetFactory()
    before = Target.objects.values().get(pk=row.pk)
    said = {"provider": "abc", "model": "9" * 40, "position": "7", "weight": "1"}
    assert browser.post(url("providers.target", "change", row.pk), said).status_code == 200
    assert Target.objects.values().get(pk=row.pk) == before


def test_so_does_a_row_of_an_inline_table(browser: Client) -> None:
    target = TargetFactory(route=RouteFactory(operation="chat.completions", alias="quick"))
    form = {
        "targets-TOTAL_FORMS": "1",
        "targets-INITIAL_FORMS": "1",
        "targets-0-id": str(target.pk),
        "targets-0-route": str(target.route_id),
        "targets-0-provider": "abc",
        "targets-0-model": "9" * 40,
    }
    where = url("providers.route", "change", target.route_id)
    assert browser.post(where, form).status_code == 200
    assert browser.post(where, form | {"targets-0-id": "abc"}).status_code == 200


@pytest.mark.parametrize("label", ["tenants.tenant", "providers.provider", "lib.auditentry"])
def test_an_action_on_no_such_row_does_nothing(label: str, browser: Client) -> None:
    MAKERS[label]()
    for junk in ("abc", "9" * 40):
        chosen = {"action": "delete_selected", ACTION_CHECKBOX_NAME: junk, "post": "yes"}
        assert browser.post(url(label, "changelist"), chosen).status_code in (200, 302)


def test_a_page_that_is_not_there_leads_back_to_the_admin(browser: Client) -> None:
    missing = browser.get("/admin/no/such/page/")
    assert missing.status_code == 404 and "To the admin" in missing.content.decode()
    assert "To the admin" not in browser.get("/app/no-such/").content.decode()
