"""The admin's home: what is wrong first, the day's figures, and charts that can be read."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from api import vitals
from api.configuration import staff_roles
from api.dashboard import alerts
from providers import services
from providers.breaker import State
from providers.left_out import Row
from providers.models import Credential
from tenants.quotas import Metric, Quota, QuotaScope
from tenants.windows import Window, period
from tests import factories
from tests.api.test_dashboard import called
from usage.counters.claims import QuotaClaim, Used
from usage.models import QuotaAlert

pytestmark = pytest.mark.django_db
MOST_QUERIES = 15
HOME, PART = "/admin/", reverse("home-figures")


def charts(page: Any) -> dict[str, Any]:
    return {chart["title"]: json.loads(chart["data"]) for chart in page.context["charts"]}


def test_the_day_and_who_called(browser: Client) -> None:
    tenant = factories.TenantFactory(slug="acme")
    for hours in (1, 2, 30):
        called(tenant, hours, provider="lab", cost=500_000, charge=1_000_000)
    page = browser.get(HOME)
    cards = {card["name"]: card for card in page.context["cards"]}
    assert (cards["Calls"]["today"], cards["Calls"]["change"]) == ("2", "+100%")
    assert (cards["Cost"]["today"], cards["Revenue"]["today"]) == ("$1.00", "$2.00")
    lines = charts(page)
    assert lines["Calls an hour, by provider"]["datasets"][0]["label"] == "lab"
    assert sum(lines["Cost an hour, by tenant"]["datasets"][0]["data"]) == 1.0
    for chart in page.context["charts"]:
        axes = json.loads(chart["options"])["scales"]
        assert axes["x"]["title"]["text"] and axes["y"]["title"]["text"]


def test_many_providers_are_a_few_lines(browser: Client) -> None:
    tenant = factories.TenantFactory()
    for n in range(9):
        called(tenant, provider=f"p{n}")
    data = charts(browser.get(HOME))["Calls an hour, by provider"]["datasets"]
    assert len(data) == 7 and data[-1]["label"] == "others" and sum(data[-1]["data"]) == 3


def test_what_is_wrong_comes_first(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitals.WORKER, "breakers", lambda: {"<i>lab": State.OPEN})
    shown = browser.get(PART).content.decode()
    assert shown.index("&lt;i&gt;lab") < shown.index("The last 24 hours")
    assert "&lt;i&gt;lab" in browser.get(reverse("alerts")).content.decode()


def followed(browser: Client) -> dict[str, str]:
    """By what is wrong, the page that its link leads to."""
    alerts = browser.get(PART).context["alerts"]
    return {alert["code"]: browser.get(alert["lead"]).content.decode() for alert in alerts}


def test_what_is_wrong_leads_to_its_row(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    lab, tenant = factories.ProviderFactory(slug="lab"), factories.TenantFactory(slug="acme")
    factories.ProviderFactory(slug="other")
    held = factories.CredentialFactory(provider=lab, name="spare")
    Credential.objects.filter(pk=held.pk).update(drained_at=timezone.now(), drained_reason="401")
    broken = factories.CredentialFactory(name="moved")
    breakers = {"lab/gpt-9": State.OPEN}
    monkeypatch.setattr(vitals.WORKER, "breakers", lambda: breakers)
    left = [Row("credential", broken.public_id)]
    monkeypatch.setattr(vitals.WORKER, "left_out", lambda: left)
    used = {"threshold": 100, "limit": 10, "used": 10}
    day = {"quota": "tenant-requests-day", "tenant_id": tenant.pk, **used}
    QuotaAlert.objects.create(counter="quota:ten_1:2026-11-29:requests", **day)
    pages = followed(browser)
    row = '<th class="field-'
    of = {code: page.count(row) for code, page in pages.items() if code != "disk_low"}
    assert of == dict.fromkeys(
        ("breaker_open", "credential_drained", "credential_unusable", "quota_used_up"), 1
    )
    QuotaAlert.objects.update(
        counter="quota:lab:2026-11:cost", tenant_id=None, quota="provider-cost-month"
    )
    told = {alert["code"]: alert for alert in browser.get(PART).context["alerts"]}
    assert told["quota_used_up"]["subject"] == "lab provider-cost-month"
    assert browser.get(told["quota_used_up"]["lead"]).content.decode().count(row) == 1


def test_staffs_word_on_a_breaker_is_told_with_its_reason(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    factories.ProviderFactory(slug="lab")
    services.override_breaker(
        name="lab",
        state="FORCED_OPEN",
        reason="unpaid <b>",
        by="ann",
        expires_at=timezone.now() + dt.timedelta(hours=1),
    )
    monkeypatch.setattr(vitals.WORKER, "breakers", lambda: {"lab": State.FORCED_OPEN})
    page = browser.get(PART).content.decode()
    assert "By ann: unpaid &lt;b&gt;" in page and "breaker forced open" in page


def test_test_mode_is_apart(browser: Client) -> None:
    called(factories.TenantFactory(), provider="real")
    assert browser.get(PART + "?mode=test").context["cards"][0]["today"] == "0"
    assert browser.get(PART + "?mode=<x>").context["cards"][0]["today"] == "1"


def test_staff_who_may_not_see_usage_see_no_figures() -> None:
    person, client = factories.UserFactory(is_staff=True), Client()
    client.force_login(person)
    assert "cards" not in client.get(HOME).context
    assert client.get(PART).status_code == client.get(reverse("alerts")).status_code == 403
    person.user_permissions.add(Permission.objects.get(codename="view_usageday"))
    assert client.get(PART).status_code == 200


def test_the_side_bar_has_what_one_may_see() -> None:
    person, client = factories.UserFactory(is_staff=True), Client()
    client.force_login(person)
    person.user_permissions.add(Permission.objects.get(codename="view_plan"))
    shown = client.get(HOME).content.decode()
    assert "/admin/tenants/plan/" in shown and "/admin/providers/route/" not in shown


def test_as_many_queries_for_many_rows_as_for_few(browser: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert browser.get(HOME).status_code == 200
        return len(captured)

    called(factories.TenantFactory())
    queries()
    few = queries()
    for n in range(10):
        called(factories.TenantFactory(), provider=f"p{n}")
    assert queries() == few <= MOST_QUERIES


def test_a_bad_night_takes_no_more_queries_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of somebody with a role, whose permissions are looked up too."""
    staff_roles.bring()
    viewer, client = factories.UserFactory(is_staff=True), Client()
    viewer.groups.add(Group.objects.get(name="viewer"))
    client.force_login(viewer)
    tenant = factories.TenantFactory()
    called(tenant, provider="lab")
    for n in range(3):
        QuotaAlert.objects.create(
            counter=f"c{n}", threshold=100, limit=1, used=1, quota="q", tenant_id=tenant.pk
        )
    states = {"lab": State.FORCED_OPEN, "other": State.OPEN}
    monkeypatch.setattr(vitals.WORKER, "breakers", lambda: states)
    client.get(HOME)
    with CaptureQueriesContext(connection) as captured:
        page = client.get(HOME)
    assert {alert["code"] for alert in page.context["alerts"]} >= {"quota_used_up", "breaker_open"}
    assert len(captured) <= MOST_QUERIES


def test_a_providers_quota_that_will_not_last_is_told(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = Quota(QuotaScope.PROVIDER, Metric.REQUESTS, Window.DAY, limit=100)
    now = dt.datetime(2026, 5, 4, 12, tzinfo=dt.UTC).timestamp()  # half of the day is over
    today = period(Window.DAY, now, "UTC")
    claims = [(slug, QuotaClaim(quota, slug, today, 0, ())) for slug in ("lab", "slow", "idle")]
    used = [Used(60, 0), Used(40, 0), None]
    monkeypatch.setattr(vitals.WORKER, "provider_quotas", lambda now: claims)
    monkeypatch.setattr(vitals.WORKER, "counters", lambda claims: used)
    monkeypatch.setattr(alerts.time, "time", lambda: now)
    told = {alert.code: alert for alert in alerts.of_service()}["quota_runs_out"]
    assert told.subject == "lab provider-requests-day"
    assert told.text == "At this pace it is used up in 8 h; it begins anew 2026-05-05 00:00 UTC."
