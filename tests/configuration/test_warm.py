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
from providers.models import Provider, Route
from providers.warm_models import WarmRequest
from providers.warm_requests import WarmSpec
from tenants.models import Plan, Tenant
from tests.shipped import FILES

EURO = {"name": "euro", "operation": "finance.fx_rate", "params": {"base": "EUR", "quote": "SEK"}}
OSLO = {"name": "oslo", "operation": "geo.geocode", "params": {"q": "Oslo", "limit": 3}}

FRANKFURTER = next(file.document for file in FILES if file.slug == "frankfurter")


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


def served(*warm: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A provider whose manifest declares these."""
    manifest = dict(FRANKFURTER)
    rate = manifest["operations"]["finance.fx_rate"] | {"warm": list(warm)}
    manifest["operations"] = {"finance.fx_rate": rate}
    own = {"slug": "mine", "adapter": "manifest", "base_url": "https://rates.example", **more}
    return {"providers": [{**own, "manifest": manifest}]}


def apply_served(*warm: dict[str, Any], **more: Any) -> None:
    apply(read(yaml.safe_dump(served(*warm, **more)), {}))


SEK = {"params": {"base": "EUR", "quote": "SEK"}}
NOK = {"params": {"base": "EUR", "quote": "NOK"}, "every": 60}


def test_a_manifest_declares_for_the_house_and_its_own_follow_it(acme: Tenant) -> None:
    told(EURO)
    apply_served(SEK, NOK)
    specs = snapshot.load().warm_requests
    assert [(spec.tenant_id, spec.params["quote"], spec.every) for spec in specs] == [
        (None, "SEK", 300),
        (None, "SEK", 300),
        (None, "NOK", 60),
    ]
    assert [item["name"] for item in yaml.safe_load(export())["warm"]] == ["euro"]
    kept = WarmRequest.objects.get(name="mine:finance.fx_rate:1")
    apply_served(SEK)
    assert set(WarmRequest.objects.values_list("name", flat=True)) == {kept.name, "euro"}
    kept.refresh_from_db()  # it is the same row, with what came of it
    apply_served(SEK, enabled=False)
    assert len(snapshot.load().warm_requests) == 1
    apply_served()
    assert WarmRequest.objects.get().name == "euro"


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({}, "warm"),
        ({"params": {"base": "EUR"}}, "This is required."),
        (SEK | {"every": 9}, "every"),
        (SEK | {"tenant": "acme"}, "tenant"),
    ],
)
def test_what_a_manifest_cannot_ask_is_refused_with_it(
    acme: Tenant, item: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigurationFault) as fault:
        apply_served(item)
    assert says in str(fault.value)
    assert not WarmRequest.objects.exists()


def test_a_manifest_that_is_none_declares_nothing_and_breaks_nothing(acme: Tenant) -> None:
    apply_served(SEK)
    provider = Provider.objects.get(slug="mine")
    for junk in (
        {"operations": []},
        {"operations": {"x": 1}},
        [1],
        {"operations": {"x": {"warm": 1}}},
    ):
        provider.manifest = junk
        provider.save()
        assert not WarmRequest.objects.exists()


def test_at_once_is_for_what_runs(acme: Tenant) -> None:
    told(EURO)
    row = WarmRequest.objects.get()
    services.warm_now(request=row, by="me")
    (spec,) = snapshot.load().warm_requests
    assert spec.asked_at == row.asked_at.timestamp() > 0
    told({"name": "euro", "enabled": False})
    with pytest.raises(ValidationError):
        services.warm_now(request=row, by="me")


def test_tenants_say_whether_their_habits_may_be_learned(acme: Tenant) -> None:
    apply(read("tenants: [{slug: acme, keep_warm: true}]", {}))
    acme.refresh_from_db()
    assert acme.keep_warm and "keep_warm: true" in export()
