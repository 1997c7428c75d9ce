"""The usage page: figures that add up, as a table, a chart and a file."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import zoneinfo
from collections import Counter
from typing import Any

import pytest
import time_machine
from django.test import Client
from rest_framework.test import APIClient

from portal.spending import forecast
from portal.usage import GROUPS
from tenants.models import Tenant
from tests.api.test_dashboard import called
from tests.factories import ApiKeyFactory, TenantFactory
from usage.rollups import fold

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


def test_what_costs_most_comes_first(tenant: Tenant, owner: Client) -> None:
    for charge, model in ((1, "a"), (3, "b"), (2, "c"), (0, "d"), (0, "e")):
        called(tenant, 1, model=model, charge=charge)
    called(tenant, 1, model="e", charge=0)
    page = told(owner, by="model")
    assert [name for name, _ in page.context["rows"]] == list("bcaed")
    chart = json.loads(page.context["chart"])
    assert (chart["labels"], chart["x"]) == (list("bcaed"), "model")
    assert chart["series"][0]["data"] == [1, 1, 1, 2, 1]


def test_a_picture_shows_so_many(tenant: Tenant, owner: Client) -> None:
    for charge in range(25):
        called(tenant, 1, model=f"m{charge}", charge=charge)
    page = told(owner, by="model")
    chart = json.loads(page.context["chart"])
    assert chart["labels"] == [f"m{charge}" for charge in range(24, 4, -1)]
    assert "20" in chart["x"] and len(page.context["rows"]) == 25


def test_keys_that_are_gone_are_all_in_the_picture(tenant: Tenant, owner: Client) -> None:
    for key_id in (990, 991):
        called(tenant, 1, key_id=key_id)
    chart = json.loads(told(owner, by="key").context["chart"])
    assert chart["series"][0]["data"] == [1, 1]


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
    with time_machine.travel(dt.datetime(2026, 11, 12, 12, tzinfo=dt.UTC), tick=False):
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


@pytest.mark.parametrize(
    ("zone", "now"),
    [
        ("Pacific/Auckland", "2026-04-06T00:30:00+12:00"),  # a day after one of 25 hours
        ("Pacific/Auckland", "2026-09-28T12:00:00+13:00"),  # and of 23
    ],
)
def test_page_file_and_api_tell_what_the_ledger_does(
    zone: str, now: str, tenant: Tenant, owner: Client
) -> None:
    """Of each of the tenant's days, whose calls are close to its ends."""
    tenant.time_zone = zone
    tenant.save()
    key = ApiKeyFactory(project=tenant.projects.get())
    moment, clock = dt.datetime.fromisoformat(now), zoneinfo.ZoneInfo(zone)
    today, wanted = moment.astimezone(clock).date(), Counter[str]()
    with time_machine.travel(moment, tick=False):
        for n in range(48):
            midnight = dt.datetime.combine(today - dt.timedelta(n % 6), dt.time(), clock)
            at = midnight.astimezone(dt.UTC) + dt.timedelta(seconds=(-1, -0.001, 0, 0.5)[n // 12])
            called(tenant, (moment - at) / dt.timedelta(hours=1), charge=n + 1, key_id=key.pk)
            wanted[at.astimezone(clock).date().isoformat()] += n + 1
            if n == 24:
                fold()
        answer = told(owner, by="day", span="7", format="csv").content.decode()
        file = {row["day"]: row["charge_usd"] for row in csv.DictReader(io.StringIO(answer))}
        page = told(owner, by="day", span="7").context["told"]
        api = APIClient(HTTP_AUTHORIZATION=f"Bearer {key.text}").get("/api/v1/usage?group_by=day")
        so_far = sum(n for day, n in wanted.items() if day[:7] == f"{today:%Y-%m}")
        assert forecast(tenant).so_far == so_far
    for data in (page["data"], api.json()["data"]):
        assert {row["day"]: row["charge_microusd"] for row in data} == wanted
    assert {day: round(float(usd) * 1_000_000) for day, usd in file.items()} == wanted
