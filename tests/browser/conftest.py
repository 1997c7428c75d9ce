"""A real browser at the real pages. What it must never do is watched on every page: say an
error on its console, ask another host for anything, or be hard to use for somebody who cannot
see it (axe, serious and critical findings). Each page it was at is saved as a picture."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.services.system import System

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(__file__).parents[1] / "sdk/npm/node_modules/axe-core/axe.min.js"
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PASSWORD = "correct horse battery staple"
PICTURES = Path(os.environ.get("PATCHBAY_PICTURES", Path(__file__).parents[2] / "var/pictures"))
PATIENCE = 10_000  # ms


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Playwright runs an event loop in this thread, so it ends before others' tests begin."""
    if CHROMIUM is None:
        pytest.skip("There is no Chromium: install Debian's package `chromium`.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Visitor:
    """Somebody with a browser. `faults` is what went wrong on the way, of any page."""

    def __init__(self, chromium: Browser, system: System, *, size: Any = None) -> None:
        self.system = system
        self.is_phone = size is PHONE
        context = chromium.new_context(
            viewport=size or DESKTOP,
            base_url=system.url,
            color_scheme="dark" if self.is_phone else "light",
        )
        context.set_default_timeout(PATIENCE)
        self.faults: list[str] = []
        self.expected: set[int] = set()
        self.page: Page = context.new_page()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        self.page.on("request", self._watch)

    def _hear(self, message: Any) -> None:
        told = re.search(r"status of (\d+)", message.text)
        if message.type == "error" and not (told and int(told[1]) in self.expected):
            self.faults.append(f"console at {self.page.url}: {message.text}")

    def _watch(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in {"http", "https"} and parts.netloc != urlsplit(self.system.url).netloc:
            self.faults.append(f"asked another host: {request.url}")

    def sign_in(self, email: str, where: str = "/app/sign-in/") -> None:
        self.page.goto(where)
        self.page.fill("input[name=username]", email)
        self.page.fill("input[name=password]", PASSWORD)
        self.page.press("input[name=password]", "Enter")
        self.page.wait_for_url(lambda url: "sign-in" not in url and "login" not in url)

    def go(self, path: str, status: int = 200) -> None:
        self.expected = {status}
        answer = self.page.goto(path)
        assert answer is not None and answer.status == status, (path, answer and answer.status)

    def text(self) -> str:
        return self.page.inner_text("body")

    def check(self, name: str) -> None:
        """Save a picture, and find what keeps people out."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        size = "phone" if self.is_phone else "desktop"
        self.page.screenshot(path=PICTURES / f"{name}-{size}.png", full_page=True)
        if self.is_phone:
            wide = self.page.evaluate("document.documentElement.scrollWidth > innerWidth")
            assert not wide, f"{name} is wider than a phone"

    def axe(self, scope: str = "body") -> list[str]:
        """Serious and critical findings (WCAG 2.1 A and AA)."""
        self._inject()
        found = self.page.evaluate(
            """async (scope) => {
                const told = await axe.run(scope, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]});
                return told.violations
                    .filter((one) => ["serious", "critical"].includes(one.impact))
                    .map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((n) => n.target).join(", ")}`);
            }""",
            scope,
        )
        return [str(one) for one in found]

    def _inject(self) -> None:
        """As the tester, not as the page, whose policy lets no foreign script run."""
        session = self.page.context.new_cdp_session(self.page)
        session.send("Runtime.evaluate", {"expression": AXE.read_text("utf-8")})
        session.detach()

    def close(self) -> None:
        self.page.context.close()
        assert not self.faults, self.faults


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, system_template: Path) -> Iterator[System]:
    """A system of the browser's own, with people to sign in as."""
    system = System(tmp_path_factory.mktemp("site"))
    try:
        system.start(system_template)
        system.manage("shell", "-c", PEOPLE)
        yield system
    finally:
        system.stop()


PEOPLE = f"""
from accounts.models import Membership, User
from django.contrib.auth.models import Group
from tenants.models import Tenant
User.objects.create_superuser("root@example.test", "{PASSWORD}")
viewer = User.objects.create_user("viewer@example.test", "{PASSWORD}", is_staff=True)
viewer.groups.add(Group.objects.get(name="viewer"))
owner = User.objects.create_user("owner@acme.test", "{PASSWORD}")
Membership.objects.create(user=owner, tenant=Tenant.objects.get(slug="acme"), role="owner")
"""


@pytest.fixture(scope="module")
def signed_in(site: System) -> dict[str, Any]:
    """The cookies of who signed in before: a password takes its time on purpose."""
    return {}


@pytest.fixture
def visitor(
    chromium: Browser, site: System, signed_in: dict[str, Any]
) -> Iterator[Callable[..., Visitor]]:
    """Opens browsers, which are watched to the end of the test."""
    opened: list[Visitor] = []

    def visit(email: str = "", *, size: Any = None, staff: bool = False) -> Visitor:
        made = Visitor(chromium, site, size=size)
        opened.append(made)
        if email in signed_in:
            made.page.context.add_cookies(signed_in[email])
        elif email:
            made.sign_in(email, "/admin/login/" if staff else "/app/sign-in/")
            signed_in[email] = made.page.context.cookies()
        return made

    yield visit
    for made in opened:
        made.close()
