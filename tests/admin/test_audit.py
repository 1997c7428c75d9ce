"""The audit log's pages: who did it, from where, and the last change taken back."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import CommandError, call_command
from django.db import models
from django.test import Client
from django.urls import reverse

from lib import audit
from lib.audit import AuditEntry
from tenants.models import ApiKey, Plan, Tenant
from tests import factories
from tests.admin.test_takeover import send

pytestmark = pytest.mark.django_db
SHIPPED = frozenset({"frankfurter"})


def last(row: models.Model) -> AuditEntry:
    entry: AuditEntry = AuditEntry.objects.about(row).first()
    return entry


def undo_page(entry: AuditEntry) -> str:
    return reverse("admin:lib_auditentry_undo", args=[entry.pk])


@pytest.fixture
def marked_up() -> Plan:
    plan = factories.PlanFactory(slug="gold", name="Gold")
    plan.markup, plan.quotas = 500, []
    plan.save()
    return plan


def test_a_change_in_the_admin_says_who_and_from_where(browser: Client) -> None:
    plan = factories.PlanFactory(slug="gold")
    browser.defaults["REMOTE_ADDR"] = "192.0.2.9"
    send(browser, plan, markup="250")
    entry = last(plan)
    assert (entry.actor, entry.address) == ("root@example.test", "192.0.2.9")
    assert json.loads(entry.after)["markup"] == 250 and len(entry.request_id) == 36


def test_an_action_of_the_admin_is_told(browser: Client) -> None:
    tenant = factories.TenantFactory()
    where = reverse("admin:tenants_tenant_changelist")
    browser.post(where, {"action": "suspend", "_selected_action": [tenant.pk]})
    assert json.loads(last(tenant).after) == {"status": "suspended"}
    assert last(tenant).actor == "root@example.test"


def test_a_call_of_the_api_is_told_with_its_key_or_person(client: Client) -> None:
    key = factories.ApiKeyFactory(scopes=["manage:keys"])
    made = client.post(
        "/api/v1/keys",
        {"name": "another", "project": key.project.public_id},
        content_type="application/json",
        headers={"Authorization": f"Bearer {key.text}"},
    )
    assert made.status_code == 201
    entry = last(ApiKey.objects.get(name="another"))
    assert (entry.actor_kind, entry.actor) == ("key", key.key_id)
    assert made.json()["key"] not in entry.after


def test_its_page_shows_the_change_and_is_read_only(browser: Client, marked_up: Plan) -> None:
    entry = last(marked_up)
    page = reverse("admin:lib_auditentry_change", args=[entry.pk])
    shown = browser.get(page).content.decode()
    assert "<td>markup</td><td><code>0</code></td><td><code>500</code></td>" in shown
    assert browser.post(page, {"actor": "x"}).status_code == 403
    assert browser.post(reverse("admin:lib_auditentry_delete", args=[entry.pk])).status_code == 403


def test_the_last_change_is_undone(browser: Client, marked_up: Plan) -> None:
    page = undo_page(last(marked_up))
    assert browser.get(page).status_code == 200
    assert Plan.objects.get(pk=marked_up.pk).markup == 500  # a link changes nothing
    browser.post(page)
    assert Plan.objects.get(pk=marked_up.pk).markup == 0
    assert json.loads(last(marked_up).after) == {"markup": 0}


def test_what_was_changed_again_since_is_not_undone(browser: Client, marked_up: Plan) -> None:
    entry = last(marked_up)
    Plan.objects.filter(pk=marked_up.pk).update(markup=600)
    told = browser.post(undo_page(entry), follow=True).content.decode()
    assert "changed again since" in told
    assert Plan.objects.get(pk=marked_up.pk).markup == 600


def test_what_would_not_be_allowed_any_more_is_not_undone(browser: Client) -> None:
    tenant = factories.TenantFactory(slug="one")
    Tenant.objects.filter(pk=tenant.pk).update(slug="two")
    entry = last(tenant)
    factories.TenantFactory(slug="one")
    told = browser.post(undo_page(entry), follow=True).content.decode()
    assert "already exists" in told
    assert Tenant.objects.get(pk=tenant.pk).slug == "two"


def test_who_may_not_change_the_row_may_not_undo(marked_up: Plan) -> None:
    viewer = factories.UserFactory(is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_auditentry"))
    page = Client()
    page.force_login(viewer)
    entry = last(marked_up)
    assert page.get(reverse("admin:lib_auditentry_change", args=[entry.pk])).status_code == 200
    assert page.post(undo_page(entry)).status_code == 403
    assert Plan.objects.get(pk=marked_up.pk).markup == 500


@pytest.mark.parametrize("action", ["created", "deleted", "signed in as"])
def test_only_changes_are_undone(browser: Client, action: str) -> None:
    entry = audit.event(action, kind="tenants.plan", before={"markup": 1}, after={"markup": 2})
    assert browser.post(undo_page(entry)).status_code == 403


def test_powers_are_told(browser: Client) -> None:
    helpers = Group.objects.create(name="helpers")
    permission = Permission.objects.get(codename="change_plan")
    where = reverse("admin:auth_group_change", args=[helpers.pk])
    browser.post(where, {"name": "helpers", "permissions": [permission.pk]})
    assert json.loads(last(helpers).after) == {"permissions": [str(permission)]}


def test_the_catalogue_is_one_entry(shipped: Any) -> None:
    assert not AuditEntry.objects.filter(kind="providers.provider").exists()
    assert AuditEntry.objects.get(kind="catalogue").action == "loaded"


def test_names_are_inert(browser: Client) -> None:
    plan = factories.PlanFactory(slug="x", name="<script>alert(1)</script>")
    for page in (
        reverse("admin:lib_auditentry_changelist"),
        reverse("admin:lib_auditentry_change", args=[last(plan).pk]),
    ):
        assert "<script>alert(1)" not in browser.get(page).content.decode()


def test_the_command_says_whether_it_is_whole() -> None:
    plan = factories.PlanFactory(slug="gold")
    out = StringIO()
    call_command("verify_audit", stdout=out)
    assert "all as they were written" in out.getvalue()
    models.QuerySet(AuditEntry).filter(object_id=str(plan.pk)).update(actor="nobody")
    with pytest.raises(CommandError, match="1 faults"):
        call_command("verify_audit", stdout=out)
    assert "was changed after it was written" in out.getvalue()
