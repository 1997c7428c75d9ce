"""The admin in a real browser: from a new tenant to its first call, and a breaker turned."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.conftest import DESKTOP, PHONE, Visitor
from tests.browser.test_tenants_pages import call

Visit = Callable[..., Visitor]
PAGES = {
    "home": "",
    "alerts": "alerts/",
    "cache": "cache/",
    "scores": "scores/",
    "providers": "providers/provider/?q=lab",
    "credentials": "providers/credential/",
    "routes": "providers/route/?q=lab",
    "tenants": "tenants/tenant/",
    "tenant": "tenants/tenant/1/change/",
    "keys": "tenants/apikey/",
    "plans": "tenants/plan/",
    "calls": "usage/usagerecord/",
    "export": "export/",
    "prices": "billing/price/?q=lab",
    "people": "accounts/user/",
    "audit": "lib/auditentry/",
    "lockouts": "axes/accessattempt/",
}


def chat(url: str, key: str) -> dict[str, Any]:
    body = {"model": "lab-chat", "messages": [{"role": "user", "content": str(time.time())}]}
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(
        f"{url}/api/v1/chat/completions", json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request) as answer:
        return {"provider": answer.headers["X-Patchbay-Provider"]}


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_page_is_clean(size: Any, visitor: Visit) -> None:
    staff = visitor("root@example.test", size=size, staff=True)
    for name, path in PAGES.items():
        staff.go(f"/admin/{path}")
        staff.check(f"staff-{name}")


def test_from_a_new_tenant_to_its_first_call(visitor: Visit) -> None:
    staff = visitor("root@example.test", staff=True)
    page, url = staff.page, staff.system.url
    staff.go("/admin/tenants/tenant/add/")
    page.fill("[name=slug]", "fresh")
    page.fill("[name=name]", "Fresh Ltd")
    page.select_option("[name=plan]", label="unlimited")
    page.click("[name=_save]")
    page.wait_for_selector("text=Fresh Ltd")
    staff.go("/admin/tenants/apikey/add/")
    project = staff.system.rows("SELECT id FROM tenants_project ORDER BY id DESC LIMIT 1")[0]["id"]
    page.fill("[name=name]", "first")
    page.evaluate(
        """(id) => { const select = document.querySelector('[name=project]');
            select.append(new Option('fresh/default', id, true, true)); }""",
        project,
    )
    page.select_option("[name=mode]", "test")
    page.fill("[name=scopes]", '["*"]')
    page.click("[name=_save]")
    key = page.inner_text("code:has-text('pb_test_')")
    told = call(url, key)
    staff.go(f"/admin/usage/usagerecord/{told['request_id']}/change/")
    assert "finance.quote" in staff.text() and "Attempts" in staff.text()
    staff.go("/admin/tenants/tenant/?q=fresh")
    page.click("text=fresh")
    page.wait_for_selector("text=The last 24 hours")


def test_a_breaker_forced_open_is_in_force_within_a_second(visitor: Visit) -> None:
    staff = visitor("root@example.test", staff=True)
    page, url, key = staff.page, staff.system.url, staff.system.keys["acme/live"]
    assert chat(url, key)["provider"] == "lab"
    force(staff, "FORCED_OPEN")
    begun = time.monotonic()
    while chat(url, key)["provider"] == "lab":
        assert time.monotonic() - begun < 1.0
    assert chat(url, key)["provider"] == "lab2"
    staff.go("/admin/")
    assert "breaker_forced_open" in staff.text() and "lab" in staff.text()
    force(staff, "CLOSED")
    begun = time.monotonic()
    while chat(url, key)["provider"] != "lab":
        assert time.monotonic() - begun < 1.0
    page.reload()
    assert "breaker_forced_open" not in staff.text()


def force(staff: Visitor, state: str) -> None:
    page = staff.page
    row = staff.system.rows("SELECT id FROM providers_provider WHERE slug = 'lab'")[0]["id"]
    staff.go("/admin/providers/provider/?q=lab")
    page.check(f"input[name=_selected_action][value='{row}']")
    page.select_option("select[name=action]", "override_breaker")
    page.click("button[name=index]")
    page.select_option("[name=state]", state)
    page.fill("[name=reason]", "a test of the browser's")
    page.click("[name=sure]")
    page.wait_for_selector("text=In force everywhere within a second")


def test_a_viewer_turns_nothing(visitor: Visit) -> None:
    viewer = visitor("viewer@example.test", staff=True)
    viewer.go("/admin/providers/provider/")
    assert viewer.page.locator("select[name=action] option[value=override_breaker]").count() == 0
    viewer.go("/admin/tenants/plan/add/", 403)
