"""The cache's page in the admin: figures, and a form that forgets, on the record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from cache.semantic import Scores
from providers.warm_models import WarmRequest
from tests.api.caching import Beside, beside
from tests.factories import TargetFactory, TenantFactory, UsageRecordFactory, UserFactory
from usage import rollups

pytestmark = pytest.mark.django_db
PAGE = "/admin/cache/"


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Beside]:
    with beside(monkeypatch) as made:
        yield made


def forget(browser: Client, **words: str) -> Any:
    return browser.post(PAGE, {"reason": "a split", **words})


def test_it_shows_the_same_figures(browser: Client, gateway: Beside) -> None:
    tenant = TenantFactory(slug="acme")
    UsageRecordFactory(tenant_id=tenant.pk, operation="finance.quote", cache="hit", mode="live")
    rollups.rebuild()
    key = gateway.keep(tenant.pk, "SECRET-SYMBOL")
    cache = gateway.caches[0]
    (full,) = cache.memory._entries
    record = UsageRecordFactory.build(tenant_id=tenant.pk, operation="finance.quote", route="<b>")
    cache.savings.add(full, record, 1, cache.memory.peek(full))  # type: ignore[arg-type]
    assert "Questions in other words" not in browser.get(PAGE).content.decode()
    cache.questions.scores["<i>"] = Scores(hits=4, agreed=2, similarity=3.88)
    page = browser.get(PAGE).content.decode()
    for told in ("finance.quote", "acme", "100 %", "&lt;b&gt;", "&lt;i&gt;", "0.97"):
        assert f">{told}</td>" in page
    assert key.hex() in page and "SECRET-SYMBOL" not in page
    assert "none is configured" in page and 'class="wide"' in page


def test_the_form_forgets_and_says_so(browser: Client, gateway: Beside, superuser: Any) -> None:
    gateway.keep()
    answer = forget(browser, what="tag", which="symbol:AAPL")
    assert answer.headers["Location"] == PAGE
    assert not gateway.has()
    assert "everywhere within a second" in browser.get(PAGE).content.decode()
    (entry,) = LogEntry.objects.filter(user=superuser)
    assert entry.change_message == "Invalidated tag symbol:AAPL: a split"
    assert browser.get("/admin/").status_code == 200
    gateway.keep()
    assert forget(browser, what="all", which="").status_code == 302
    assert not gateway.has()


@pytest.mark.parametrize(
    "words",
    [
        {"what": "tag", "which": "symbol"},
        {"what": "tag", "which": ""},
        {"what": "tenant", "which": "nobody"},
        {"what": "all", "which": "finance.quote"},
        {"what": "nothing", "which": "x"},
        {"what": "tag", "which": "symbol:A", "reason": " "},
        {"what": "key", "which": "<script>alert(1)</script>"},
    ],
)
def test_what_it_refuses(browser: Client, gateway: Beside, words: dict[str, str]) -> None:
    gateway.keep()
    page = forget(browser, **words)
    assert page.status_code == 200
    assert "errorlist" in page.content.decode() and "<script>alert" not in page.content.decode()
    assert gateway.has() and not LogEntry.objects.exists()


def test_what_is_kept_warm_is_shown_and_asked_at_once(browser: Client, gateway: Beside) -> None:
    params = {"base": "EUR", "quote": "SEK"}
    row = WarmRequest.objects.create(name="euro", operation="finance.fx_rate", params=params)
    assert ">euro</td>" in browser.get(PAGE).content.decode()
    assert browser.post(PAGE, {"warm": "euro"}).headers["Location"] == PAGE
    assert "euro is asked within" in browser.get(PAGE).content.decode()
    row.refresh_from_db()
    assert row.asked_at is not None
    browser.post(PAGE, {"warm": "<b>"})
    assert "No warm request has this name." in browser.get(PAGE).content.decode()


def test_only_staff_who_may_see_routes_and_change_them(gateway: Beside) -> None:
    assert Client().get(PAGE).status_code == 302
    for fields, status in (({}, 302), ({"is_staff": True}, 403)):
        client = Client()
        client.force_login(UserFactory(**fields))
        assert client.get(PAGE).status_code == status
    viewer = UserFactory(is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_route"))
    client = Client()
    client.force_login(viewer)
    page = client.get(PAGE).content.decode()
    assert "How full it is" in page and 'name="reason"' not in page
    gateway.keep()
    assert forget(client, what="all", which="").status_code == 403
    assert client.post(PAGE, {"warm": "euro"}).status_code == 403
    assert gateway.has()


def test_it_needs_the_forms_token(superuser: Any, gateway: Beside) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(superuser)
    gateway.keep()
    assert forget(client, what="all", which="").status_code == 403
    assert gateway.has()


def test_without_a_gateway_it_still_loads(browser: Client) -> None:
    page = browser.get(PAGE).content.decode()
    assert "REDIS_URL" in page
    forget(browser, what="all", which="")
    assert "serves no calls" in browser.get(PAGE).content.decode()
    assert not LogEntry.objects.exists()


def test_the_routes_lead_to_it(browser: Client, gateway: Beside) -> None:
    TargetFactory()
    page = browser.get(reverse("admin:providers_route_changelist")).content.decode()
    where = reverse("admin:providers_route_cache")
    assert where in page
    assert browser.get(where).headers["Location"] == PAGE
