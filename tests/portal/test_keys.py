"""Keys on the tenants' pages: shown once, and the same rules as over the API."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Role
from tenants.models import ApiKey, Tenant
from tests.api.test_dashboard import called
from tests.factories import ApiKeyFactory
from usage.rollups import fold

pytestmark = pytest.mark.django_db
WHERE = "/app/acme/keys/"


def new(browser: Client, tenant: Tenant, **more: Any) -> Any:
    project = tenant.projects.get().public_id
    form = {"name": "a key", "project": project, "mode": "test", "scopes": "*"}
    return browser.post(WHERE, {**form, **more})


def text_of(page: Any) -> str:
    text: str = page.context["text"]
    return text


def test_a_key_is_shown_once(tenant: Tenant, owner: Client) -> None:
    page = new(owner, tenant)
    text = text_of(page)
    assert text.startswith("pb_test_") and f">{text}<" in page.content.decode()
    for where in (WHERE, f"{WHERE}{ApiKey.objects.get().key_id}/"):
        assert text not in owner.get(where).content.decode()


def test_who_comes_back_to_where_a_key_was_shown_is_not_told_of_roles(
    tenant: Tenant, owner: Client, as_role: Any
) -> None:
    where = f"{WHERE}{ApiKeyFactory(project=tenant.projects.get()).key_id}/rotate/"
    assert "only takes a form" in owner.get(where).content.decode()
    assert "Your role, viewer" in as_role(Role.VIEWER).get(where).content.decode()


def test_it_is_changed_rotated_and_revoked(tenant: Tenant, owner: Client) -> None:
    new(owner, tenant)
    key = ApiKey.objects.get()
    change = {"name": "named", "scopes": "finance.*", "allowed_ips": "192.0.2.0/24 2001:db8::/32"}
    assert owner.post(f"{WHERE}{key.key_id}/", change).status_code == 302
    key.refresh_from_db()
    assert (key.name, key.scopes, len(key.allowed_ips)) == ("named", ["finance.*"], 2)
    page = owner.post(f"{WHERE}{key.key_id}/rotate/", {"overlap": "3600"})
    fresh = ApiKey.objects.get(replaces=key)
    assert text_of(page).endswith(fresh.last_four)
    key.refresh_from_db()
    assert key.expires_at is not None
    owner.post(f"{WHERE}{fresh.key_id}/revoke/")
    fresh.refresh_from_db()
    assert fresh.revoked_at is not None


def test_when_it_was_last_used_is_told(tenant: Tenant, owner: Client) -> None:
    key = ApiKeyFactory(project=tenant.projects.get())
    for where in (WHERE, f"{WHERE}{key.key_id}/"):
        assert "never" in owner.get(where).content.decode()
    record = called(tenant, 2, key_id=key.pk)
    fold()
    for where in (WHERE, f"{WHERE}{key.key_id}/"):
        assert f"{record.created_at:%Y-%m-%d %H:%M}" in owner.get(where).content.decode()


def test_of_one_that_has_ended_nothing_is_offered(tenant: Tenant, owner: Client) -> None:
    ended = ApiKeyFactory(project=tenant.projects.get(), name="ended")
    ApiKey.objects.update(expires_at=timezone.now() - dt.timedelta(hours=1))
    ApiKeyFactory(project=tenant.projects.get(), name="older, in use")
    ApiKey.objects.filter(name="older, in use").update(
        created_at=ended.created_at - dt.timedelta(1)
    )
    page = owner.get(f"{WHERE}{ended.key_id}/").content.decode()
    assert "ended 20" in page and "Rotate" not in page and "Save" not in page
    names = [key.name for key, _ in owner.get(WHERE).context["keys"]]
    assert names == ["older, in use", "ended"]


def test_all_that_is_wrong_is_told_at_once(tenant: Tenant, owner: Client) -> None:
    page = new(owner, tenant, name="", scopes="nonsense.", allowed_ips="10.0.0.7/8")
    faults = page.context["form"].errors
    assert faults.keys() == {"name", "scopes", "allowed_ips"}
    assert "10.0.0.0/8 may be meant" in str(faults["allowed_ips"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"scopes": "nonsense."},
        {"scopes": "internal:write"},
        {"allowed_ips": "1.2.3"},
        {"expires_at": "2001-01-01T00:00"},
        {"project": "prj_none"},
        {"mode": "real"},
    ],
)
def test_what_is_wrong_is_told_and_kept(wrong: Any, tenant: Tenant, owner: Client) -> None:
    page = new(owner, tenant, **wrong)
    assert page.status_code == 400 and 'role="alert"' in page.content.decode()
    assert set(page.context["form"].errors) == set(wrong)  # beside its field
    assert not ApiKey.objects.exists()
    assert 'value="a key"' in page.content.decode() or "name" in wrong


def test_developers_give_and_take_over_no_rights(tenant: Tenant, as_role: Any) -> None:
    developer = as_role(Role.DEVELOPER)
    assert new(developer, tenant, scopes="* manage:keys").status_code == 400
    key = ApiKeyFactory(project=tenant.projects.get(), scopes=["manage:keys"])
    assert developer.post(f"{WHERE}{key.key_id}/rotate/", {"overlap": "0"}).status_code == 400
    change = {"name": "mine", "scopes": "*"}
    assert developer.post(f"{WHERE}{key.key_id}/", change).status_code == 400
    key.refresh_from_db()
    assert key.name != "mine" and not ApiKey.objects.filter(replaces=key).exists()


def test_the_list_says_how_each_key_stands(tenant: Tenant, owner: Client) -> None:
    """By the clock of the tenant."""
    Tenant.objects.filter(pk=tenant.pk).update(time_zone="Asia/Kolkata")
    past, future = (dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (2001, 2101))
    project = tenant.projects.get()
    fields: dict[str, dict[str, Any]] = {
        "d": {"revoked_at": past},
        "a": {},
        "b": {"expires_at": future},
        "c": {"expires_at": past},
    }
    for name, told in fields.items():
        key = ApiKeyFactory(project=project, name=name)
        ApiKey.objects.filter(pk=key.pk).update(**told)
    states = {key.name: state for key, state in owner.get(WHERE).context["keys"]}
    assert states == {
        "a": "in use",
        "b": "in use, ends 2101-01-01 05:30",
        "c": "ended 2001-01-01 05:30",
        "d": "revoked 2001-01-01 05:30",
    }
    assert list(states)[-1] == "d"  # what is revoked is last
