"""The tenants' pages in a real browser, on a desktop and, in the dark, on a phone."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.conftest import DESKTOP, PASSWORD, PHONE, Visitor
from tests.hostile import TEXT

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
        if found := owner.axe():
            findings[name] = found
    assert not findings
    if size is PHONE:  # where the pages' names are one line, the page's own is in sight
        assert owner.page.evaluate(IS_IN_SIGHT)


IS_IN_SIGHT = """() => {
    const box = document.querySelector("nav [aria-current=page]").getBoundingClientRect();
    return box.left >= 0 && box.right <= innerWidth;
}"""


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
    assert "finance.quote" in owner.text() and "browser" in owner.text() and not owner.axe()
    owner.go("/app/acme/usage/?mode=test&by=key&span=1")
    assert page.locator("canvas").count() == 1
    page.select_option("[name=by]", "operation")  # no button: the page follows
    page.wait_for_selector("th:has-text('finance.quote')")
    owner.go("/app/acme/usage/?mode=test&by=key&span=1")
    assert page.inner_text("tr:has-text('browser (key_') td >> nth=0") == "1"
    owner.go("/app/acme/keys/")
    page.click("a:has-text('browser')")
    page.wait_for_selector("text=Make a new key like it")
    assert not owner.axe()
    page.click("text=Make a new key like it")
    fresh = page.inner_text("#secret")
    assert fresh != key
    for either in (key, fresh):
        call(owner.system.url, either)


def test_the_playground_sends(visitor: Visit) -> None:
    """And shows as code what one types, with the key, for whatever operation one chooses."""
    owner = visitor("owner@acme.test")
    page = owner.page
    owner.go("/app/acme/playground/?operation=finance.quote")
    page.click("[data-send]")
    assert "Put a test key in first" in page.inner_text("[data-status]")
    page.click("text=Make a test key for it")
    key = page.input_value("#key")
    page.fill("[name=symbol]", "MSFT")
    page.wait_for_selector("#code pre:has-text('symbol=MSFT')")
    page.click("[data-send]")
    page.wait_for_selector("[data-status]:has-text('200,')")
    assert '"symbol": "MSFT"' in page.inner_text("[data-text]") and not owner.axe()
    owner.check("tenant-playground-sent")
    page.select_option("[name=operation]", "chat.completions")
    page.wait_for_selector("form[data-path$='/chat/completions'] [data-send]")
    page.fill("#body", '{"model": ')
    page.wait_for_selector("#code:has-text('line 1, column 11')")
    page.fill("#body", '{"model": "lab-chat", "messages": []}')
    page.wait_for_selector("#code pre:has-text('lab-chat')")
    assert page.inner_text("#code").count(key) == 3
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert key not in kept


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
    page.goto("/app/acme/playground/?operation=finance.quote")
    page.fill("[name=symbol]", "MSFT")
    assert not page.is_visible("[data-send]")
    page.click("text=Show as code")
    assert "symbol=MSFT" in page.inner_text("#code")
    plain.close()


def test_who_is_invited_sees_what_the_role_allows(visitor: Visit) -> None:
    owner, stranger = visitor("owner@acme.test"), visitor()
    owner.go("/app/acme/members/")
    owner.page.fill("[name=email]", "new@acme.test")
    owner.page.select_option("form.card [name=role]", "viewer")
    owner.page.click("text=Make an invitation")
    link = owner.page.inner_text("#link")
    stranger.go(link.removeprefix(owner.system.url))
    stranger.page.fill("[name=password]", PASSWORD)
    stranger.page.click("button:has-text('Join')")
    stranger.page.wait_for_url("**/app/acme/")
    stranger.go("/app/acme/settings/", 403)
    assert "does not allow" in stranger.text()
    stranger.go("/app/acme/members/")
    assert "new@acme.test" in stranger.text()
    assert stranger.page.locator("text=Make an invitation").count() == 0


def test_by_the_keyboard_alone(visitor: Visit) -> None:
    """Sign in, skip what is on every page, make a key; and see where one is all the way."""
    somebody = visitor()
    page = somebody.page
    somebody.go("/app/sign-in/")
    assert not somebody.axe()
    tab_to(page, "a.skip")
    for name, text in (("username", "owner@acme.test"), ("password", PASSWORD)):
        tab_to(page, f"[name={name}]")
        page.keyboard.type(text)
    page.keyboard.press("Enter")
    page.wait_for_url("**/app/acme/")
    tab_to(page, "nav a[href$='/keys/']")
    page.keyboard.press("Enter")
    page.wait_for_url("**/app/acme/keys/")
    tab_to(page, "a.skip")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
    tab_to(page, "[name=name]")
    page.keyboard.type("by keyboard")
    tab_to(page, "[name=mode]")
    page.keyboard.type("test")
    tab_to(page, "form.card button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#secret")
    assert page.inner_text("#secret").startswith("pb_test_") and not somebody.axe()


def tab_to(page: Any, selector: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(IS_THERE, selector):
            return
    raise AssertionError(f"{selector} is not reached, or one does not see that it is")


IS_THERE = """(selector) => {
    const here = document.activeElement, style = getComputedStyle(here), box = here.getBoundingClientRect();
    const seen = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0)
        || style.boxShadow !== "none";
    return here.matches(selector) && seen && box.width > 0 && box.bottom > 0;
}"""
HOSTILE = """
UPDATE tenants_tenant SET name = ? WHERE slug = 'acme' RETURNING id;
UPDATE tenants_project SET name = ? RETURNING id;
UPDATE tenants_apikey SET name = ? RETURNING id;
UPDATE accounts_user SET name = ? RETURNING id;
UPDATE providers_provider SET name = ? WHERE slug LIKE 'lab%' RETURNING id;
UPDATE usage_usagerecord SET model = ?, provider = ?, route = ?, code = ? RETURNING request_id;
UPDATE usage_usagedelta SET model = ?, provider = ? RETURNING id;
UPDATE usage_usageminute SET model = ?, provider = ? RETURNING id;
UPDATE usage_usagehour SET model = ?, provider = ? RETURNING id;
UPDATE lib_auditentry SET object_name = ?, actor = ? RETURNING id
"""


def test_hostile_texts_do_nothing(visitor: Visit) -> None:
    """The last of all: it leaves them there. What they would do is in tests/hostile.py."""
    owner, staff = visitor("owner@acme.test"), visitor("root@example.test", staff=True)
    system = owner.system
    told = call(system.url, system.keys["acme/test"])
    for statement in HOSTILE.split(";"):
        system.rows(statement, *[TEXT] * statement.count("?"))
    pages = ("", "usage/?mode=test&by=model", "requests/?mode=test", "keys/", "projects/")
    for where in (*pages, "settings/", f"requests/{told['request_id']}/"):
        look(owner, f"/app/acme/{where}")
    admin = ("?mode=test", "tenants/tenant/1/change/", "tenants/apikey/", "lib/auditentry/")
    record = f"usage/usagerecord/{told['request_id']}/change/"
    lab = system.rows("SELECT id FROM providers_provider WHERE slug = 'lab'")[0]["id"]
    for where in (*admin, f"providers/provider/{lab}/change/", "usage/usagerecord/", record):
        look(staff, f"/admin/{where}")


def look(somebody: Visitor, where: str) -> None:
    page, dialogs = somebody.page, []
    page.once("dialog", lambda dialog: dialogs.append(dialog.message) or dialog.dismiss())
    somebody.go(where)
    page.mouse.move(300, 300)
    assert "__xss" in page.content()
    assert page.evaluate("window.__xss") is None and not dialogs, where
