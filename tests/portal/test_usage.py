"""The usage page: figures that add up, as a table, a chart and a file."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from typing import Any

import pytest
import time_machine
from django.test import Client

from portal.spending import forecast
from portal.usage import GROUPS
from tenants.models import Tenant
from tests.api.test_dashboard import called
from tests.factories import ApiKeyFactory, TenantFactory

pytestmark = pytest.mark.django_db
WHERE = "/app/acme/usage/"


def told(browser: Client, **query: str) -> Any:
    answer = browser.get(WHERE, query)
    assert answer.status_code == 200
    return answer


@pytest.mark.parametrize("by", [group for group in GROUPS if group != "hour"])
def test_by_everything(by: str, tenant: Tenant, owner: Client) -> None:
    called(tenant, 1, model="m", provider="lab", charge=1_500_000)
    called(TenantFactory(), 1, model="CANARY", provider="CANARY")
    page = told(owner, by=by, span="7")
    assert page.context["told"]["totals"]["calls"] == 1
    shown = page.content.decode()
    assert "CANARY" not in shown and "$1.50" in shown
    chart = json.loads(page.context["chart"])
    assert sum(chart["series"][0]["data"]) == 1


def test_days_without_a_call_are_in_the_picture(tenant: Tenant, owner: Client) -> None:
    for hours in (1, 49):
        called(tenant, hours)
    page = told(owner, by="day", span="7")
    chart = json.loads(page.context["chart"])
    assert len(chart["labels"]) == 8 and len(page.context["rows"]) == 2
    assert [n for n in chart["series"][0]["data"] if n] == [1, 1]
    by_hour = json.loads(told(owner, by="hour", span="7").context["chart"])
    assert len(by_hour["labels"]) == 7 * 24 + 1 and sum(by_hour["series"][0]["data"]) == 2


def test_keys_are_called_by_their_names(tenant: Tenant, owner: Client) -> None:
    keys = [ApiKeyFactory(project=tenant.projects.get(), name="same") for _ in range(2)]
    for key in keys:
        called(tenant, 1, key_id=key.pk)
    names = [name for name, _ in told(owner, by="key").context["rows"]]
    assert names == [f"same ({key.key_id})" for key in keys]


def test_as_a_file(tenant: Tenant, owner: Client) -> None:
    called(tenant, 1, model="=cmd()", provider="lab", charge=1_500_000)
    answer = told(owner, by="model", format="csv")
    (row,) = csv.DictReader(io.StringIO(answer.content.decode()))
    assert (row["model"], row["calls"], row["charge_usd"]) == ("'=cmd()", "1", "1.5")


@pytest.mark.parametrize(
    "query",
    [{"span": "8"}, {"by": "cost"}, {"by": ""}, {"by": "model,key"}, {"mode": "x"}, {"by": "hour"}],
)
def test_what_cannot_be_shown_says_why(query: Any, owner: Client, tenant: Tenant) -> None:
    answer = owner.get(WHERE, {"span": "90"} | query)
    assert answer.status_code == 400 and "<p>" in answer.content.decode()


def test_the_month_is_foretold(tenant: Tenant) -> None:
    assert forecast(tenant).at_end is None  # an hour has not passed
    Tenant.objects.filter(pk=tenant.pk).update(created_at="2020-01-01T00:00:00Z")
    tenant.refresh_from_db()
    called(tenant, 0.01, charge=7_000_000)
    foretold = forecast(tenant)
    assert foretold.so_far == 7_000_000
    assert foretold.at_end is not None and foretold.so_far <= foretold.at_end <= 38_000_000


@pytest.mark.parametrize("day", [3, 20])  # the month begins within the last week, or before it
def test_the_forecast_goes_on_as_the_last_week(day: int, tenant: Tenant) -> None:
    with time_machine.travel(dt.datetime(2026, 11, day, tzinfo=dt.UTC), tick=False):
        Tenant.objects.filter(pk=tenant.pk).update(created_at="2020-01-01T00:00:00Z")
        tenant.refresh_from_db()
        for hours in (1, 100, 300):
            called(tenant, hours, charge=7_000_000)
        so_far = 7_000_000 if day == 3 else 21_000_000
        left = 31 - day
        assert forecast(tenant).so_far == so_far
        assert forecast(tenant).at_end == so_far + 2 * 1_000_000 * left
