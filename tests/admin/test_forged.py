"""Forms that no page of the admin gave: what they ask for beyond it is not done."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from lib.audit import AuditEntry
from providers.models import BreakerOverride, Target
from tests import factories
from tests.admin.test_pages import MAKERS, READ_ONLY, ours, url
from tests.admin.test_takeover import sent_back, shown

pytestmark = pytest.mark.django_db
ACTING = {
    *("tenants.tenant", "tenants.apikey", "accounts.user", "accounts.refreshfamily"),
    *("providers.provider", "providers.credential"),
}
UNCHANGEABLE = {"providers.breakeroverride", "billing.price", "axes.accessattempt"}
# What a change of other fields moves by itself.
MOVES = {"changed_at", "source", "updated_at"}
CHANGED = sorted(MAKERS.keys() - READ_ONLY - UNCHANGEABLE)
FORMSET = {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "_save": "Save"}


def kept(row: Any) -> dict[str, Any]:
    return dict(type(row)._base_manager.values().get(pk=row.pk))


@pytest.mark.parametrize("label", CHANGED)
def test_what_is_not_in_the_form_is_not_changed(label: str, browser: Client) -> None:
    row = MAKERS[label]()
    page = browser.get(url(label, "change", row.pk)).context
    form, before = sent_back(page), kept(row)
    offered = page["adminform"].form.fields.keys() | MOVES
    others = [field for field in row._meta.concrete_fields if field.name not in offered]
    forged = {name: "1" for field in others for name in (field.name, field.attname)}
    form = {name: value for name, value in form.items() if value != "[]"}  # of many to many
    assert browser.post(url(label, "change", row.pk), forged | form).status_code == 302
    after = kept(row)
    assert {field.attname: after[field.attname] for field in others} == {
        field.attname: before[field.attname] for field in others
    }


@pytest.mark.parametrize("label", sorted(ACTING))
def test_who_may_only_look_does_nothing_by_an_action(label: str) -> None:
    row, client = MAKERS[label](), Client()
    before = kept(row)
    person = factories.UserFactory(is_staff=True)
    person.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(person)
    for each in ours()[label].actions:
        form = {"action": each, "_selected_action": [row.pk], "post": "yes", "index": "0"}
        override = {"override": "1", "state": "DISABLED", "reason": "r"}
        client.post(url(label, "changelist"), form | override)
    assert kept(row) == before
    assert not BreakerOverride.objects.exists() and not AuditEntry.objects.filter(
        actor=person.email
    )


def test_every_list_with_actions_is_tried() -> None:
    assert {label for label, page in ours().items() if page.actions} == ACTING


def test_no_list_is_edited_in_place(browser: Client) -> None:
    assert not any(page.list_editable for page in admin.site._registry.values())
    plan = factories.PlanFactory(slug="gold")
    browser.post(
        url("tenants.plan", "changelist"), FORMSET | {"form-0-id": plan.pk, "form-0-name": "Forged"}
    )
    plan.refresh_from_db()
    assert plan.name != "Forged"


@pytest.fixture
def targets() -> tuple[Target, Target]:
    return factories.TargetFactory(), factories.TargetFactory()


def test_anothers_row_in_an_inline_stays_anothers(browser: Client, targets: Any) -> None:
    own, other = targets
    before = kept(other)
    forged = shown(browser, own.route) | {"targets-0-id": str(other.pk), "targets-0-weight": "7"}
    browser.post(url("providers.route", "change", own.route.pk), forged)
    assert kept(other) == before
    taken = shown(browser, own.route) | {"targets-0-route": str(other.route_id)}
    browser.post(url("providers.route", "change", own.route.pk), taken)
    assert Target.objects.get(pk=own.pk).route_id == own.route_id
    gone = shown(browser, own.route) | {"targets-0-id": str(other.pk), "targets-0-DELETE": "on"}
    browser.post(url("providers.route", "change", own.route.pk), gone)
    assert Target.objects.count() == 2


@pytest.mark.parametrize(
    "form",
    [
        {"targets-TOTAL_FORMS": ""},
        {"targets-TOTAL_FORMS": "-1"},
        {"targets-TOTAL_FORMS": "x", "targets-INITIAL_FORMS": "x"},
        {"targets-TOTAL_FORMS": "1000000000", "targets-INITIAL_FORMS": "0"},
        {"targets-TOTAL_FORMS": "0", "targets-INITIAL_FORMS": "5"},
        {"targets-INITIAL_FORMS": "99"},
        {"targets-0-id": "x"},
        {"targets-0-id": ""},
    ],
)
def test_a_managements_form_is_not_trusted(form: Any, browser: Client, targets: Any) -> None:
    own, _ = targets
    before = [kept(target) for target in targets]
    answer = browser.post(
        url("providers.route", "change", own.route.pk), shown(browser, own.route) | form
    )
    assert answer.status_code in {200, 302}
    if answer.status_code == 200:
        assert len(answer.context["inline_admin_formsets"][0].formset.forms) <= 50
    assert [kept(target) for target in targets] == before and Target.objects.count() == 2


@pytest.mark.parametrize("pk", ["nothing", "9" * 30])
def test_a_row_that_cannot_be(pk: str, browser: Client) -> None:
    for label in MAKERS:
        assert browser.get(url(label, "change", pk)).status_code == 302, label
    assert (
        browser.get(reverse("admin:providers_provider_definitions", args=[pk])).status_code == 404
    )
