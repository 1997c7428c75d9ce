"""Every address that Django answers: a form sent from another site is refused, or there is
nothing that the browser sends by itself which would be believed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import URLPattern, get_resolver
from rest_framework.views import APIView

from api.authentication import PatchbayAuthentication
from tests.factories import UserFactory

TOKENS_ONLY = {PatchbayAuthentication}
SENDS = {"post", "put", "patch", "delete"}


def patterns(resolver: Any, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for each in resolver.url_patterns:
        where = f"{prefix}{each.pattern}"
        if hasattr(each, "url_patterns"):
            yield from patterns(each, where)
        else:
            yield where, each


def test_what_takes_no_token_of_a_form_believes_no_cookie() -> None:
    assert "django.middleware.csrf.CsrfViewMiddleware" in settings.MIDDLEWARE
    free = [(where, p) for where, p in patterns(get_resolver()) if is_free(p.callback)]
    assert free
    for where, pattern in free:
        view: Any = getattr(pattern.callback, "cls", None)
        assert view is not None and issubclass(view, APIView), where
        changes = SENDS & {name for name in view.http_method_names if hasattr(view, name)}
        changes |= SENDS & set(getattr(pattern.callback, "actions", None) or ())
        assert set(view.authentication_classes) <= TOKENS_ONLY or not changes, where


def is_free(view: Any) -> bool:
    return bool(getattr(view, "csrf_exempt", False))


@pytest.mark.django_db
def test_a_form_from_elsewhere_is_refused() -> None:
    """Whatever else is wrong with it: a page that is there, or that its user may not see."""
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(UserFactory(is_staff=True, is_superuser=True))
    tried = 0
    for where, pattern in patterns(get_resolver()):
        if is_free(pattern.callback) or not where.startswith(("admin/", "app/")):
            continue
        if pattern.pattern.converters or "<" in where or "(" in where:
            continue
        answer = browser.post(f"/{where}", {"name": "x"})
        assert answer.status_code == 403, where
        tried += 1
    assert tried > 70


@pytest.mark.django_db
@pytest.mark.parametrize("where", ["tenants", "keys", "projects", "members"])
def test_the_api_believes_no_cookie(where: str) -> None:
    browser = Client()
    browser.force_login(UserFactory(is_staff=True, is_superuser=True))
    for answer in (
        browser.get(f"/api/v1/{where}"),
        browser.post(f"/api/v1/{where}", {"name": "x"}),
    ):
        assert answer.status_code == 401
