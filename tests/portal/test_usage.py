"""The usage page: figures that add up, as a table, a chart and a file."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from django.test import Client

from portal.spending import forecast
from portal.usage import GROUPS
from tenants.models import Tenant
from tests.api.test_dashboard import called
from tests.factories import TenantFactory

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


def test_as_a_file(tenant: Tenant, owner: Client) -> None:
    called(tenant, 1, model="=cmd()", provider="lab", charge=1_500_000)
    answer = told(owner, by="model", format="csv")
    (row,) = csv.DictReader(io.StringIO(answer.content.decode()))
    assert (row["model"], row["calls"], row["charge_usd"]) == ("'=cmd()", "1", "1.5")


@pytest.mark.parametrize("query", [{"span": "8"}, {"by": "cost"}, {"mode": "x"}, {"by": "hour"}])
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
