"""What staff do about one row from its own page: take back its last change, suspend a tenant,
set a credential aside, rotate or revoke a key. Looking asks; only a form that is sent does."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from api.configuration import staff_roles
from providers.models import Credential
from tenants.models import ApiKey, Tenant
from tests.admin.test_staff_roles import as_role
from tests.factories import (
    ApiKeyFactory,
    CredentialFactory,
    PlanFactory,
    ProviderFactory,
    RouteFactory,
    TenantFactory,
)

pytestmark = pytest.mark.django_db
MADE = {
    "providers.provider": ProviderFactory,
    "providers.route": RouteFactory,
    "tenants.tenant": TenantFactory,
    "tenants.plan": PlanFactory,
}


def button(row: Any, name: str) -> str:
    return reverse(f"admin:{row._meta.label_lower.replace('.', '_')}_{name}", args=[row.pk])


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        (PlanFactory, "markup", 50),
        (
            TenantFactory,
            "quotas",
            [{"scope": "tenant", "metric": "tokens", "limit": 5, "window": "day"}],
        ),
        (ProviderFactory, "retry", {"max_attempts": 9}),
        (RouteFactory, "strategy", "cost"),
    ],
)
def test_the_last_change_is_shown_and_taken_back(
    row: Any, column: str, value: Any, browser: Client
) -> None:
    made = row()
    before = getattr(made, column)
    setattr(made, column, value)
    made.save()
    asked = browser.get(button(made, "last_change"), follow=True)
    assert column in asked.content.decode()
    made.refresh_from_db()
    assert getattr(made, column) == value
    browser.post(asked.request["PATH_INFO"])
    made.refresh_from_db()
    assert getattr(made, column) == before


def test_what_was_never_changed_has_nothing_to_take_back(browser: Client) -> None:
    plan = PlanFactory()
    told = browser.get(button(plan, "last_change"), follow=True).content.decode()
    assert "not changed since it was made" in told
    assert browser.get(reverse("admin:tenants_plan_last_change", args=[0])).status_code == 404


@pytest.mark.parametrize("role", staff_roles.ROLES)
def test_who_may_not_change_a_row_takes_nothing_back(role: str) -> None:
    staff_roles.bring()
    client = as_role(role)
    for label, maker in MADE.items():
        allowed = bool({label, f"{label.partition('.')[0]}.*"} & staff_roles.ROLES[role])
        status = client.get(button(maker(), "last_change")).status_code
        assert status == (302 if allowed else 403), label


def test_a_tenant_is_suspended_and_resumed_on_its_page(browser: Client) -> None:
    tenant = TenantFactory()
    for name, status in (("suspend", "suspended"), ("resume", "active")):
        asked = browser.get(button(tenant, "switch")).content.decode()
        assert f'value="{name}"' in asked
        browser.post(button(tenant, "switch"), {"action": name, "sure": "1"})
        tenant.refresh_from_db()
        assert tenant.status == status
    browser.post(button(tenant, "switch"), {"action": "delete", "sure": "1"})
    assert Tenant.objects.filter(pk=tenant.pk, status="active").exists()


def test_a_credential_is_drained_with_a_reason_and_used_again(browser: Client) -> None:
    row = CredentialFactory()
    where = button(row, "set_aside")

    def is_drained() -> bool:
        row.refresh_from_db()
        return row.drained_at is not None

    assert "Others will want to know" in browser.get(where).content.decode()
    browser.post(where, {"action": "drain", "sure": "1", "reason": ""})
    assert not is_drained()
    browser.post(where, {"action": "drain", "sure": "1", "reason": "it leaked"})
    assert is_drained() and "it leaked" in row.drained_reason
    assert 'value="use_again"' in browser.get(where).content.decode()
    assert is_drained()
    browser.post(where, {"action": "use_again", "sure": "1"})
    assert not is_drained()


def test_a_key_is_rotated_and_revoked_on_its_page(browser: Client) -> None:
    key = ApiKeyFactory()
    for name in ("rotate_it", "revoke_it"):
        assert "Do it" in browser.get(button(key, name)).content.decode()
    key.refresh_from_db()
    assert (key.expires_at, key.revoked_at) == (None, None)
    shown = browser.post(button(key, "rotate_it"), {"sure": "1"}).content.decode()
    new = ApiKey.objects.exclude(pk=key.pk).get()
    assert new.replaces_id == key.pk and f"pb_live_{new.public_id}_" in shown
    browser.post(button(key, "revoke_it"), {"sure": "1"})
    key.refresh_from_db()
    assert key.revoked_at is not None
    again = browser.post(button(key, "rotate_it"), {"sure": "1"}, follow=True)
    assert again.status_code == 200 and ApiKey.objects.count() == 2


@pytest.mark.parametrize("role", ["viewer", "billing"])
def test_who_may_only_look_revokes_no_key(role: str) -> None:
    staff_roles.bring()
    key, client = ApiKeyFactory(), as_role(role)
    for name in ("rotate_it", "revoke_it"):
        assert client.post(button(key, name), {"sure": "1"}).status_code == 403
    key.refresh_from_db()
    assert key.revoked_at is None and ApiKey.objects.count() == 1


@pytest.mark.parametrize("role", ["viewer", "billing"])
def test_who_may_only_look_sets_no_credential_aside(role: str) -> None:
    staff_roles.bring()
    row, client = CredentialFactory(), as_role(role)
    told = {"action": "drain", "sure": "1", "reason": "r"}
    assert client.post(button(row, "set_aside"), told).status_code == 403
    assert not Credential.objects.exclude(drained_at=None).exists()
    if role == "viewer":
        switch = button(TenantFactory(), "switch")
        assert client.post(switch, {"action": "suspend", "sure": "1"}).status_code == 403


def test_a_providers_page_leads_to_its_credentials(browser: Client) -> None:
    row = CredentialFactory()
    page = reverse("admin:providers_provider_change", args=[row.provider.pk])
    assert button(row, "set_aside") in (browser.get(page).content.decode())
