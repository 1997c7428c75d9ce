"""Warm requests in the file and in the tables: what can be kept warm, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from django.core.exceptions import ValidationError

from api.configuration.applying import apply
from api.configuration.document import ConfigurationFault, read
from api.configuration.exporting import export
from lib.models import Revision, Topic
from providers import services, snapshot
from providers.models import Route
from providers.warm_models import WarmRequest
from providers.warm_requests import WarmSpec
from tenants.models import Plan, Tenant

EURO = {"name": "euro", "operation": "finance.fx_rate", "params": {"base": "EUR", "quote": "SEK"}}
OSLO = {"name": "oslo", "operation": "geo.geocode", "params": {"q": "Oslo", "limit": 3}}


@pytest.fixture
def acme(db: None) -> Tenant:
    plan = Plan.objects.create(slug="p", name="P", rate_limits=[])
    return Tenant.objects.create(slug="acme", name="Acme", plan=plan)


def told(*items: dict[str, Any]) -> list[str]:
    run = apply(read(yaml.safe_dump({"warm": list(items)}), {}))
    return [str(change) for change in run.changes]


def refused(*items: dict[str, Any]) -> str:
    with pytest.raises(ConfigurationFault) as fault:
        told(*items)
    return str(fault.value)


def test_what_is_declared_reaches_the_gateways_and_reads_back(acme: Tenant) -> None:
    assert told(EURO, OSLO | {"tenant": "acme", "every": 60}) == [
        "+ warm request euro",
        "+ warm request oslo",
    ]
    euro, oslo = snapshot.load().warm_requests
    assert euro == WarmSpec(euro.id, None, EURO["operation"], EURO["params"], 300)
    assert oslo == WarmSpec(oslo.id, acme.pk, OSLO["operation"], OSLO["params"], 60)
    file = yaml.safe_load(export())
    assert file["warm"][1] == OSLO | {"tenant": "acme", "every": 60, "enabled": True}
    assert told(*file["warm"]) == []


def test_one_that_is_switched_off_runs_nowhere(acme: Tenant) -> None:
    told(EURO)
    told({"name": "euro", "enabled": False})
    assert snapshot.load().warm_requests == ()


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (EURO | {"operation": "finance.nothing"}, "There is no operation finance.nothing."),
        (EURO | {"params": {"base": "EUR"}}, "This is required."),
        (EURO | {"params": EURO["params"] | {"nope": 1}}, "warm[0].params.nope"),
        (EURO | {"params": {"base": "EUR", "quote": "?"}}, "warm[0].params.quote"),
        (EURO | {"every": 9}, "warm[0].every"),
        (EURO | {"tenant": "nobody"}, "There is no tenant nobody."),
        (OSLO, "Name the tenant that asks."),
        ({"name": "new"}, "`operation` is missing"),
        (
            {"name": "chat", "operation": "chat.completions", "params": {"model": "m"}},
            "Name the tenant that asks.",
        ),
        (
            {"name": "chat", "operation": "chat.completions", "tenant": "acme"},
            "This is required.",
        ),
    ],
)
def test_what_can_never_be_answered_is_refused(
    acme: Tenant, item: dict[str, Any], says: str
) -> None:
    assert says in refused(item)
    assert not WarmRequest.objects.exists()


def test_a_route_may_make_answers_everybodys_or_keep_none(acme: Tenant) -> None:
    Route.objects.create(operation="geo.geocode", cache={"public": True})
    told(OSLO)
    Route.objects.create(operation="finance.fx_rate", cache={"ttl": 0})
    assert "are not kept" in refused(EURO)


def test_the_admin_hears_which_field_is_wrong(acme: Tenant) -> None:
    row = WarmRequest(**EURO | {"params": ["EUR"]})
    with pytest.raises(ValidationError) as fault:
        row.full_clean()
    assert set(fault.value.message_dict) == {"params"}


def test_an_outcome_is_noted_without_a_reload(acme: Tenant) -> None:
    told(EURO)
    row, before = WarmRequest.objects.get(), Revision.numbers()[Topic.ROUTING]
    services.note_warmed(row.pk, "rate_limit_exceeded" + "x" * 100)
    row.refresh_from_db()
    assert row.ran_at is not None and row.outcome.startswith("rate_limit")
    assert Revision.numbers()[Topic.ROUTING] == before


def test_tenants_say_whether_their_habits_may_be_learned(acme: Tenant) -> None:
    apply(read("tenants: [{slug: acme, keep_warm: true}]", {}))
    acme.refresh_from_db()
    assert acme.keep_warm and "keep_warm: true" in export()
