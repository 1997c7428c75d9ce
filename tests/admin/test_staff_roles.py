"""Staff's four roles: each page of the admin, and who may read it and write on it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import get_resolver, reverse

from api.configuration import staff_roles
from tests.admin.test_pages import MAKERS, NO_ADD
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

# Pages besides the models' own, and who may open them. A page that is not here fails the build.
EVERYONE = frozenset(staff_roles.ROLES)
PAGES = {
    "index": EVERYONE,
    "home-figures": EVERYONE,
    "alerts": EVERYONE,
    "cache": EVERYONE,
    "export": EVERYONE,
    "targets-scores": EVERYONE,
    "definitions-index": EVERYONE,
    "jsi18n": EVERYONE,
    "password_change": EVERYONE,
    "password_change_done": EVERYONE,
    "search": EVERYONE,
}
OUR_PAGES = {"home-figures", "alerts", "cache", "targets-scores", "export", "definitions-index"}
OF_ROWS = {"auth_user_password_change", "definitions", "definition", "definition-editor"}
OPEN = {"login", "logout", "autocomplete", "view_on_site", "app_list", "toggle_sidebar"}


@pytest.fixture(scope="module")
def roles(django_db_setup: None, django_db_blocker: Any) -> Any:
    from django.db import transaction

    with django_db_blocker.unblock(), transaction.atomic():
        staff_roles.bring()
        yield
        transaction.set_rollback(True)


def as_role(name: str) -> Client:
    person, client = UserFactory(is_staff=True), Client()
    person.groups.add(Group.objects.get(name=name))
    client.force_login(person)
    return client


def may_write(role: str, label: str) -> bool:
    return bool({label, f"{label.partition('.')[0]}.*"} & staff_roles.ROLES[role])


def url(label: str, page: str, *args: Any) -> str:
    return reverse(f"admin:{label.replace('.', '_')}_{page}", args=args)


def test_all_may_read_what_the_viewer_may(roles: Any) -> None:
    client = as_role("viewer")
    for label, maker in MAKERS.items():
        row = maker()
        assert client.get(url(label, "changelist")).status_code == 200, label
        assert client.get(url(label, "change", row.pk)).status_code == 200, label
    sees = {name: powers(name) for name in staff_roles.ROLES}
    assert all(sees["viewer"] <= of for of in sees.values())


def powers(role: str) -> set[str]:
    return set(Group.objects.get(name=role).permissions.values_list("codename", flat=True))


@pytest.mark.parametrize("role", staff_roles.ROLES)
def test_who_may_write(role: str, roles: Any) -> None:
    client = as_role(role)
    for label, maker in MAKERS.items():
        row, allowed = maker(), may_write(role, label)
        adds = allowed and label not in NO_ADD
        assert client.post(url(label, "add"), {}).status_code == (200 if adds else 403), label
        if not allowed:
            assert client.post(url(label, "change", row.pk), {}).status_code == 403, label
            form = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
            client.post(url(label, "changelist"), form)
            assert type(row)._base_manager.filter(pk=row.pk).exists(), label


@pytest.mark.parametrize("role", staff_roles.ROLES)
def test_who_may_set_a_password(role: str, roles: Any) -> None:
    client, person = as_role(role), UserFactory()
    page = reverse("admin:auth_user_password_change", args=[person.pk])
    assert client.get(page).status_code == (200 if role == "admin" else 403)
    root = UserFactory(is_superuser=True, is_staff=True)
    page = reverse("admin:auth_user_password_change", args=[root.pk])
    assert client.get(page).status_code == 403


@pytest.mark.parametrize("role", staff_roles.ROLES)
def test_other_pages(role: str, roles: Any) -> None:
    client = as_role(role)
    for name, allowed in PAGES.items():
        where = name if name in OUR_PAGES else ""
        status = client.get(reverse(where or f"admin:{name}")).status_code
        assert status == (200 if role in allowed else 403), name


def names(patterns: Any) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            found |= names(pattern.url_patterns)
        elif pattern.name:
            found.add(pattern.name)
    return found


def test_no_page_is_left_out() -> None:
    of_admin = [p for p in get_resolver().url_patterns if str(p.pattern).startswith("admin/")]
    models = {f"{m._meta.app_label}_{m._meta.model_name}" for m in admin.site._registry}
    others = {
        name
        for name in names(of_admin)
        if not any(name.startswith(f"{model}_") for model in models)
    }
    assert others <= PAGES.keys() | OPEN | OF_ROWS


def test_a_role_is_brought_back_to_what_it_is(roles: Any) -> None:
    group = Group.objects.get(name="viewer")
    group.permissions.clear()
    assert staff_roles.bring() == ["viewer"]
    assert staff_roles.bring() == []
    assert group.permissions.exists()
