"""The tenants' pages in a real browser, on a desktop and on a phone."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.conftest import DESKTOP, PHONE, Visitor

Visit = Callable[..., Visitor]
PAGES = {
    "overview": "",
    "start": "start/",
    "usage": "usage/?mode=test&by=operation",
    "quotas": "quotas/",
    "requests": "requests/?mode=test",
    "playground": "playground/?operation=weather.current",
    "keys": "keys/",
    "projects": "projects/",
    "members": "members/",
    "limits": "limits/",
    "status": "status/",
    "settings": "settings/",
}


def call(url: str, key: str, path: str = "/api/v1/finance/quote?symbol=AAPL") -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"}
    with urllib.request.urlopen(urllib.request.Request(url + path, headers=headers)) as answer:
        told: dict[str, Any] = json.load(answer)
        return told | {"request_id": answer.headers["X-Request-Id"]}


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_page_is_clean(size: Any, visitor: Visit) -> None:
    owner = visitor("owner@acme.test", size=size)
    call(owner.system.url, owner.system.keys["acme/test"])
    findings = {}
    for name, path in PAGES.items():
        owner.go(f"/app/acme/{path}")
        owner.check(f"tenant-{name}")
        if size is DESKTOP and (found := owner.axe()):
            findings[name] = found
    assert not findings


def test_a_key_a_call_and_its_story(visitor: Visit) -> None:
    """Make a key, call with it, find the call, rotate the key; the old one works on."""
    owner = visitor("owner@acme.test")
    page = owner.page
    owner.go("/app/acme/keys/")
    page.fill("[name=name]", "browser")
    page.select_option("[name=mode]", "test")
    page.click("text=Make it")
    key = page.inner_text("#secret")
    told = call(owner.system.url, key)
    owner.go(f"/app/acme/requests/?q={told['request_id']}")
    assert "finance.quote" in owner.text() and "browser" in owner.text()
    owner.go("/app/acme/usage/?mode=test&by=key&span=1")
    assert page.locator("canvas").count() == 1
    page.select_option("[name=by]", "operation")  # no button: the page follows
    page.wait_for_selector("th:has-text('finance.quote')")
    owner.go("/app/acme/keys/")
    page.click("a:has-text('browser')")
    page.click("text=Make a new key like it")
    fresh = page.inner_text("#secret")
    assert fresh != key
    for either in (key, fresh):
        call(owner.system.url, either)


def test_the_playground_sends(visitor: Visit) -> None:
    owner = visitor("owner@acme.test")
    page = owner.page
    owner.go("/app/acme/playground/?operation=finance.quote")
    page.click("text=Put a test key of ours in")
    page.fill("[data-parameter=symbol]", "AAPL")
    page.click("[data-send]")
    page.wait_for_selector("[data-status]:has-text('200,')")
    assert '"symbol": "AAPL"' in page.inner_text("[data-text]")


def test_it_works_without_javascript(visitor: Visit) -> None:
    owner = visitor("owner@acme.test")
    cookies = owner.page.context.cookies()
    plain = owner.page.context.browser.new_context(  # type: ignore[union-attr]
        java_script_enabled=False, base_url=owner.system.url
    )
    plain.add_cookies(cookies)  # type: ignore[arg-type]
    page = plain.new_page()
    page.goto("/app/acme/usage/")
    page.select_option("[name=by]", "operation")
    page.select_option("[name=mode]", "test")
    page.click("text=Show")
    assert "by=operation" in page.url
    page.goto("/app/acme/keys/")
    page.fill("[name=name]", "no script")
    page.click("text=Make it")
    assert page.inner_text("#secret").startswith("pb_")
    plain.close()


def test_a_role_that_may_not_is_told_so(visitor: Visit) -> None:
    viewer = visitor("viewer@acme.test")
    viewer.go("/app/acme/settings/", 403)
    assert "does not allow" in viewer.text()
    viewer.go("/app/acme/members/")
    assert viewer.page.locator("text=Make an invitation").count() == 0


def test_an_invitation_is_accepted(visitor: Visit) -> None:
    owner, stranger = visitor("owner@acme.test"), visitor()
    owner.go("/app/acme/members/")
    owner.page.fill("[name=email]", "new@acme.test")
    owner.page.click("text=Make an invitation")
    link = owner.page.inner_text("#link")
    stranger.go(link.removeprefix(owner.system.url))
    stranger.page.fill("[name=password]", "correct horse battery staple")
    stranger.page.click("button:has-text('Join')")
    stranger.page.wait_for_url("**/app/acme/")
    owner.go("/app/acme/members/")
    assert "new@acme.test" in owner.text()
