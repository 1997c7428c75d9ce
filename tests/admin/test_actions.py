"""What staff do in the admin: keys, credentials, switches, passwords."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import tokens
from accounts.models import User
from billing.models import Price
from lib.problems import Unauthenticated
from providers.catalogue.documents import FOLDER, read_document
from providers.models import Credential
from tenants.keys import PATTERN
from tenants.models import ApiKey, HousePolicy, Tenant
from tests.factories import (
    PASSWORD,
    ApiKeyFactory,
    CredentialFactory,
    MembershipFactory,
    ModelFactory,
    PlanFactory,
    PriceFactory,
    ProjectFactory,
    ProviderFactory,
    TenantFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db


def act(browser: Client, label: str, action: str, *rows: Any) -> Any:
    where = reverse(f"admin:{label}_changelist")
    return browser.post(where, {"action": action, "_selected_action": [row.pk for row in rows]})


def key_in(answer: Any) -> str:
    found = re.search(PATTERN, answer.content.decode())
    assert found
    return found[0]


def test_a_new_key_is_shown_once(browser: Client) -> None:
    form = {
        "project": ProjectFactory().pk,
        "mode": "live",
        "name": "by staff",
        "scopes": '["*"]',
        "allowed_ips": "[]",
        "rate_limits": "null",
    }
    made = browser.post(reverse("admin:tenants_apikey_add"), form)
    text = key_in(made)
    key = ApiKey.objects.get()
    assert (key.hint[-4:], key.name) == (text[-4:], "by staff")
    assert "no-store" in made["Cache-Control"]
    for where in ("changelist", "change"):
        args = [key.pk] if where == "change" else []
        page = browser.get(reverse(f"admin:tenants_apikey_{where}", args=args)).content.decode()
        assert text not in page
        assert key.digest not in page
    assert text not in str([session.get_decoded() for session in Session.objects.all()])
    assert text not in str(browser.cookies)
    status = Client().get("/api/v1/auth/status", headers={"X-API-Key": text})
    assert status.status_code == 200


def test_scopes_are_checked_in_the_form(browser: Client) -> None:
    form = {"project": ProjectFactory().pk, "mode": "live", "name": "x", "allowed_ips": "[]"}
    for scopes in ('["*", "manage:keys"]', '["No Scope"]', "[]", '"*"', "["):
        answer = browser.post(reverse("admin:tenants_apikey_add"), {**form, "scopes": scopes})
        assert answer.status_code == 200
        assert not ApiKey.objects.exists()


def test_rotate_and_revoke(browser: Client) -> None:
    key = ApiKeyFactory()
    text = key_in(act(browser, "tenants_apikey", "rotate", key))
    fresh = ApiKey.objects.get(replaces=key)
    assert text.startswith(f"pb_live_{fresh.public_id}")
    act(browser, "tenants_apikey", "revoke", fresh)
    fresh.refresh_from_db()
    assert fresh.revoked_at
    assert act(browser, "tenants_apikey", "rotate", fresh).status_code == 302
    assert ApiKey.objects.count() == 2


def test_suspend_and_resume(browser: Client) -> None:
    tenant = TenantFactory()
    for action, status in (("suspend", "suspended"), ("resume", "active")):
        act(browser, "tenants_tenant", action, tenant)
        tenant.refresh_from_db()
        assert tenant.status == status


def test_a_new_tenant_gets_a_project(browser: Client) -> None:
    form = {
        "slug": "acme",
        "name": "Acme",
        "plan": PlanFactory().pk,
        "time_zone": "UTC",
        "locale": "en",
    }
    form |= {"quotas": "[]", "rate_limits": "null"}
    assert browser.post(reverse("admin:tenants_tenant_add"), form).status_code == 302
    assert Tenant.objects.get(slug="acme").projects.get().slug == "default"


def test_the_house_policy_is_one_row(browser: Client) -> None:
    add = reverse("admin:tenants_housepolicy_add")
    form = {"rate_limits": "[]", "quotas": "[]", "time_zone": "Asia/Tokyo"}
    for quotas, told in (
        ('[{"scope": "global", "metric": "cost", "window": "day"}]', "0: Say how much"),
        ('[{"scope": "global", "metric": "cost", "window": "week", "limit": 1}]', "0/window: "),
        ("", "Write [] for none."),
        ("{}", "quotas: {} is not of type"),
    ):
        page = browser.post(add, form | {"quotas": quotas})
        assert page.status_code == 200
        assert told in page.content.decode()
    assert browser.post(add, form).status_code == 302
    assert HousePolicy.current().time_zone == "Asia/Tokyo"
    assert browser.get(add).status_code == browser.post(add, form).status_code == 403
    change = reverse("admin:tenants_housepolicy_change", args=[HousePolicy.PK])
    assert browser.post(change, form | {"time_zone": "UTC", "locale": "en"}).status_code == 302
    assert HousePolicy.objects.get().time_zone == "UTC"


def test_a_key_gets_its_quotas(browser: Client) -> None:
    add = reverse("admin:tenants_apikey_add")
    form = {"project": ProjectFactory().pk, "mode": "live", "name": "x", "allowed_ips": "[]"}
    form |= {"scopes": '["*"]', "rate_limits": ""}
    quotas = '[{"metric": "cost", "window": "day", "limit_usd": "%s"}]'
    assert "0/limit_usd" in browser.post(add, form | {"quotas": quotas % "-5"}).content.decode()
    browser.post(add, form | {"quotas": quotas % "5"})
    key = ApiKey.objects.get()
    assert key.quotas == [{"metric": "cost", "window": "day", "limit_usd": "5"}]
    assert key.rate_limits is None


def test_a_credential_goes_in_and_never_comes_out(browser: Client) -> None:
    provider = ProviderFactory()
    form = {"provider": provider.pk, "name": "main", "enabled": "on"}
    add = reverse("admin:providers_credential_add")
    assert browser.post(add, form).status_code == 200  # a new one needs a secret
    assert not Credential.objects.exists()
    assert browser.post(add, {**form, "secret": "sk-very-secret-wxyz"}).status_code == 302
    credential = Credential.objects.get()
    assert credential.secret() == "sk-very-secret-wxyz"
    change = reverse("admin:providers_credential_change", args=[credential.pk])
    page = browser.get(change).content.decode()
    assert "…wxyz" in page
    assert "sk-very" not in page
    assert credential.sealed not in page
    bad = browser.post(change, {"name": "main", "secret": "sk-not-ascii-é"}).content.decode()
    assert "sk-not-ascii" not in bad


def test_a_secret_of_several_parts_must_have_them_and_shows_none(browser: Client) -> None:
    document = dict(read_document(FOLDER / "edamam.yaml").document)
    provider = ProviderFactory(adapter="manifest", manifest=document)
    form = {"provider": provider.pk, "name": "main", "enabled": "on"}
    add = reverse("admin:providers_credential_add")
    half = browser.post(add, {**form, "secret": '{"app_id": "id-wxyz"}'})
    assert "several parts" in half.content.decode()
    assert "id-wxyz" not in half.content.decode()
    whole = '{"app_id": "id-wxyz", "app_key": "key-very-secret"}'
    assert browser.post(add, {**form, "secret": whole}).status_code == 302
    credential = Credential.objects.get()
    assert credential.secret() == whole
    change = reverse("admin:providers_credential_change", args=[credential.pk])
    page = browser.get(change).content.decode()
    assert "wxyz" not in page and 'ret"}' not in page


def test_a_credential_is_kept_or_replaced(browser: Client) -> None:
    credential = CredentialFactory(secret="sk-first-secret-0001")
    change = reverse("admin:providers_credential_change", args=[credential.pk])
    browser.post(change, {"name": "renamed", "enabled": "on", "secret": ""})
    credential.refresh_from_db()
    assert (credential.name, credential.secret()) == ("renamed", "sk-first-secret-0001")
    other = ProviderFactory()
    form = {"name": "renamed", "secret": "sk-second-secret-0002", "provider": other.pk}
    browser.post(change, form)
    credential.refresh_from_db()
    assert credential.secret() == "sk-second-secret-0002"
    assert credential.provider_id != other.pk


def test_providers_are_switched(browser: Client) -> None:
    provider = ProviderFactory()
    for action, enabled in (("disable", False), ("enable", True)):
        act(browser, "providers_provider", action, provider)
        provider.refresh_from_db()
        assert provider.enabled is enabled


@pytest.mark.parametrize(
    ("text", "price"), [("1.25", 1_250_000), ("", None), ("-1", 7), ("x", 7), ("0.0000001", 7)]
)
def test_prices_are_written_in_usd(browser: Client, text: str, price: int | None) -> None:
    row = PriceFactory(input=7, effective_from=timezone.now() + dt.timedelta(days=1))
    form = {
        "provider": row.provider_id,
        "model_id": row.model_id,
        "effective_from_0": f"{row.effective_from:%Y-%m-%d}",
        "effective_from_1": f"{row.effective_from:%H:%M:%S}",
        "input": text,
        "unit": "0.5",
    }
    browser.post(reverse("admin:billing_price_change", args=[row.pk]), form)
    row.refresh_from_db()
    assert row.input == price
    assert row.unit == (None if price == 7 else 500_000_000)


def test_a_price_changes_from_now_on_and_never_before(browser: Client) -> None:
    row = PriceFactory(input=7, note="as it was")
    change = reverse("admin:billing_price_change", args=[row.pk])
    assert browser.post(change, {"provider": row.provider_id, "input": "1"}).status_code == 403
    delete = reverse("admin:billing_price_delete", args=[row.pk])
    assert browser.post(delete, {"post": "yes"}).status_code == 403
    act(browser, "billing_price", "delete_selected", row)
    assert Price.objects.get().note == "as it was"
    add = reverse("admin:billing_price_add")
    form = {"provider": row.provider_id, "model_id": row.model_id, "input": "3"}
    back = {"effective_from_0": "2020-01-01", "effective_from_1": "00:00:00"}
    refused = browser.post(add, form | back)
    assert "Prices change from now on" in refused.content.decode()
    assert browser.post(add, form).status_code == 302
    newest = Price.objects.latest("effective_from")
    assert (newest.input, newest.source) == (3_000_000, "operator")
    assert row.effective_from < newest.effective_from <= timezone.now()
    for state, shown in (("now", newest), ("past", row)):
        page = browser.get(reverse("admin:billing_price_changelist"), {"state": state})
        assert [price.pk for price in page.context["cl"].result_list] == [shown.pk]


def test_models_show_what_they_cost_now(browser: Client) -> None:
    model = ModelFactory(model_id="gpt-x")
    for days, usd in ((-2, 1), (-1, 2), (1, 3)):
        moment = timezone.now() + dt.timedelta(days=days)
        PriceFactory(
            provider=model.provider, model_id="gpt-x", effective_from=moment, input=usd * 1_111_111
        )
    page = browser.get(reverse("admin:providers_model_changelist")).content.decode()
    assert "2.222222" in page
    assert "1.111111" not in page and "3.333333" not in page


def test_a_user_is_made_and_gets_a_password(browser: Client) -> None:
    form = {"email": "New@Example.test", "usable_password": "true"}
    form |= {"password1": "a long password 42", "password2": "a long password 42"}
    assert browser.post(reverse("admin:accounts_user_add"), form).status_code == 302
    user = User.objects.get(email="new@example.test")
    pair = tokens.sign_in(user=user, tenant=None)
    change = reverse("admin:auth_user_password_change", args=[user.pk])
    assert browser.get(change).status_code == 200
    form = {"password1": "another password 43", "password2": "another password 43"}
    assert browser.post(change, {**form, "usable_password": "true"}).status_code == 302
    user.refresh_from_db()
    assert user.check_password("another password 43")
    with pytest.raises(Unauthenticated):
        tokens.refresh(pair.refresh)


def test_sign_ins_are_ended(browser: Client) -> None:
    member = MembershipFactory()
    pairs = [tokens.sign_in(user=member.user, tenant=member.tenant)]
    first = member.user.refresh_families.get()
    pairs.append(tokens.sign_in(user=member.user, tenant=member.tenant))
    act(browser, "accounts_refreshfamily", "end", first)
    with pytest.raises(Unauthenticated):
        tokens.refresh(pairs[0].refresh)
    act(browser, "accounts_user", "end_sessions", member.user)
    with pytest.raises(Unauthenticated):
        tokens.refresh(pairs[1].refresh)


def test_staff_do_not_raise_themselves() -> None:
    staff = UserFactory(is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(content_type__app_label="accounts"))
    boss = UserFactory(is_staff=True, is_superuser=True)
    browser = Client()
    browser.force_login(staff)
    own = reverse("admin:accounts_user_change", args=[staff.pk])
    form = {"email": staff.email, "is_active": "on", "is_superuser": "on", "is_staff": "on"}
    browser.post(own, form)
    staff.refresh_from_db()
    assert not staff.is_superuser
    over = reverse("admin:auth_user_password_change", args=[boss.pk])
    form = {"password1": "a long password 42", "password2": "a long password 42"}
    assert browser.post(over, {**form, "usable_password": "true"}).status_code == 403
    assert browser.post(reverse("admin:accounts_user_delete", args=[boss.pk])).status_code == 403
    boss.refresh_from_db()
    assert boss.check_password(PASSWORD)


def test_staff_without_rights_do_nothing() -> None:
    browser, key = Client(), ApiKeyFactory()
    browser.force_login(UserFactory(is_staff=True))
    assert browser.get(reverse("admin:tenants_apikey_changelist")).status_code == 403
    act(browser, "tenants_apikey", "revoke", key)
    key.refresh_from_db()
    assert key.revoked_at is None


def test_signing_in_leads_to_the_admin() -> None:
    UserFactory(email="boss@example.test", is_staff=True)
    form = {"username": "boss@example.test", "password": PASSWORD}
    assert Client().post("/admin/login/", form)["Location"] == "/admin/"


def test_the_admins_sign_in_locks_too() -> None:
    UserFactory(email="boss@example.test", is_staff=True)
    browser = Client()
    form = {"username": "boss@example.test", "password": "wrong"}
    codes = [browser.post("/admin/login/", form).status_code for _ in range(5)]
    assert codes[:4] == [200] * 4
    locked = browser.post("/admin/login/", {**form, "password": PASSWORD})
    assert locked.status_code == 429
    assert locked["Content-Type"].startswith("text/html")
    assert int(locked["Retry-After"]) == 900


def test_a_drained_credential_is_seen_and_used_again(browser: Client) -> None:
    row, other = CredentialFactory(), CredentialFactory()
    Credential.objects.update(drained_at=timezone.now(), drained_reason="401: revoked <b>")
    page = browser.get(reverse("admin:providers_credential_changelist")).content.decode()
    assert page.count("401: revoked &lt;b&gt;") == 2
    assert act(browser, "providers_credential", "use_again", row).status_code == 302
    row.refresh_from_db()
    other.refresh_from_db()
    assert (row.drained_at, row.drained_reason) == (None, "")
    assert other.drained_at is not None


def test_a_new_secret_in_the_admin_takes_a_credential_back(browser: Client) -> None:
    row = CredentialFactory()
    Credential.objects.update(drained_at=timezone.now(), drained_reason="401")
    change = reverse("admin:providers_credential_change", args=[row.pk])
    form = {"name": row.name, "enabled": "on"}
    assert browser.post(change, {**form, "secret": ""}).status_code == 302
    row.refresh_from_db()
    assert row.drained_at is not None
    assert browser.post(change, {**form, "secret": "sk-new-0123456789"}).status_code == 302
    row.refresh_from_db()
    assert (row.drained_at, row.drained_reason) == (None, "")


def test_who_may_only_look_takes_no_credential_back() -> None:
    looker = UserFactory(is_staff=True)
    looker.user_permissions.add(Permission.objects.get(codename="view_credential"))
    browser = Client()
    browser.force_login(looker)
    row = CredentialFactory()
    Credential.objects.update(drained_at=timezone.now())
    act(browser, "providers_credential", "use_again", row)
    row.refresh_from_db()
    assert row.drained_at is not None
