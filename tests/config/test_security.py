"""The Content-Security-Policy: strict everywhere, a little looser in the admin."""

from __future__ import annotations

import re

import pytest
from django.contrib.staticfiles import finders
from django.test import Client

from tests.factories import UserFactory

PAGES = ["/docs", "/redoc", "/docs/errors"]


def policy(where: str, client: Client | None = None) -> dict[str, set[str]]:
    answer = (client or Client(raise_request_exception=False)).get(where)
    directives = answer["Content-Security-Policy"].split("; ")
    return {name: set(values) for name, *values in map(str.split, directives)}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "where", [*PAGES, "/api/v1/health", "/api/v1/nothing", "/nothing", "/administration", "/"]
)
def test_strict(where: str) -> None:
    told = policy(where)
    assert told["default-src"] == told["script-src"] == {"'self'"}
    assert {v for v in told["style-src"] if not v.startswith("'nonce-")} == {"'self'"}
    assert told["object-src"] == told["base-uri"] == told["frame-ancestors"] == {"'none'"}
    assert not [value for values in told.values() for value in values if "unsafe" in value]
    assert told.get("worker-src") == ({"'self'", "blob:"} if where == "/redoc" else None)


@pytest.mark.parametrize("where", PAGES)
def test_pages_keep_to_it(where: str) -> None:
    text = Client().get(where).content.decode()
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|javascript:", text)
    assets = re.findall(r'(?:src|href)="/static/([^"]+)"', text)
    assert assets
    for asset in assets:
        assert finders.find(asset), asset


def test_a_nonce_is_for_one_page_once() -> None:
    seen = set()
    for _ in range(3):
        page = Client().get("/redoc")
        (nonce,) = re.findall(r'nonce="([^"]+)"', page.content.decode())
        assert f"'nonce-{nonce}'" in page["Content-Security-Policy"]
        seen.add(nonce)
    assert len(seen) == 3
    assert "nonce" not in Client().get("/docs")["Content-Security-Policy"]


@pytest.mark.django_db
@pytest.mark.parametrize("where", ["/admin/", "/admin/login/", "/admin/providers/route/add/"])
def test_the_admin_evaluates_but_runs_nothing_inline(where: str) -> None:
    client = Client()
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    told = policy(where, client)
    assert told["script-src"] == {"'self'", "'unsafe-eval'"}
    assert told["style-src"] == {"'self'", "'unsafe-inline'"}
    assert told["default-src"] == {"'self'"}
    assert not re.search(
        r"\son[a-z]+=\"|javascript:", client.get(where, follow=True).content.decode()
    )
