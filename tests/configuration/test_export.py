"""`manage.py export`: a file that holds no secret and that `apply` reads back unchanged."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path

import pytest
import yaml
from django.core.management import call_command
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from api.configuration.applying import apply
from api.configuration.document import escape, read
from api.configuration.exporting import export
from billing.models import Price
from billing.services import add_price
from providers.models import Credential, Model, Provider, Route, Target
from providers.prices import Prices
from tenants.models import HousePolicy, Plan, Tenant
from tenants.services import create_key, create_project

EXAMPLE = Path(__file__).parents[2] / "docs/examples/patchbay.yaml"
SECRETS = {"LAB_API_KEY": "sk-lab-0123456789abcdef", "LAB_MAIN_SECRET": "sk-lab-0123456789abcdef"}


@pytest.fixture
def odd_rows(db: None) -> None:
    """What a file must be able to say, the unusual included."""
    apply(read(EXAMPLE.read_text(), SECRETS))
    plan = Plan.objects.create(slug="odd", name="Odd ${NAME} plan", rate_limits=[], markup=-1250)
    tenant = Tenant.objects.create(
        slug="odd", name="ö: 'x'", plan=plan, rate_limits=[], allow_house_fallback=True
    )
    HousePolicy(
        rate_limits=[{"scope": "provider", "metric": "concurrency", "limit": 9}],
        quotas=[{"scope": "global", "metric": "cost", "window": "lifetime", "limit_usd": "0.10"}],
        time_zone="Pacific/Apia",
    ).save()
    project = create_project(tenant=tenant, slug="side")
    create_key(project=project, name="both", scopes=["finance.*"], allowed_ips=["2001:db8::/32"])
    create_key(project=project, name="both")
    spending = {"metric": "cost", "window": "day", "limit_usd": "5", "weights": {}}
    create_key(project=project, name="capped", quotas=[spending])
    provider = Provider.objects.create(
        slug="9-odd",
        name="9",
        adapter="openai",
        base_url="https://a.example/v1",
        enabled=False,
        settings={"headers": {"x": "${Y}"}},
        breaker={"preset": "simple", "window": {"type": "time", "seconds": 9}},
        retry={"max_attempts": 1, "base_seconds": 0.5},
        rate_limits=[{"scope": "model", "limit": 5, "per_seconds": 1, "operations": ["!x"]}],
        quotas=[{"metric": "credits", "window": "day", "limit": 8, "weights": {"${Z}": 0}}],
        time_zone="America/Sao_Paulo",
    )
    credential = Credential(provider=provider, tenant=tenant, name="own")
    credential.set_secret("sk-own")
    credential.save()
    free = Model.objects.create(provider=provider, model_id="free", enabled=False)
    Model.objects.create(provider=provider, model_id="voice", operation="audio.speech")
    later = timezone.now() + dt.timedelta(days=9)
    for model_id, operation, moment, prices in (
        ("free", "", None, Prices(0)),
        ("free", "", later, Prices(5, unit=3000)),
        ("*", "", None, Prices(1, 2, 3, 4, 5, call=7)),
        ("odd", "embeddings", None, Prices(1)),
        ("", "", None, Prices(unit=1_000)),
        ("voice", "", None, Prices(unit=15_000)),
    ):
        add_price(
            provider=provider,
            model_id=model_id,
            operation=operation,
            prices=prices,
            effective_from=moment,
        )
    route = Route.objects.create(
        operation="chat.completions",
        alias="on/off",
        enabled=False,
        hedge=True,
        checks={"schema": {"const": "${X}"}, "forbidden": ["^\\$\\{"], "max_characters": 5},
    )
    Target.objects.create(route=route, provider=provider, model=free, enabled=False)


def test_applying_what_was_exported_changes_nothing(odd_rows: None) -> None:
    environment = SECRETS | {"ODD_9_ODD_OWN_SECRET": "sk-own"}
    for everything in (False, True):
        assert apply(read(export(everything=everything), environment)).changes == []


@pytest.mark.unmeasured
def test_what_was_exported_makes_the_same_in_an_empty_database(odd_rows: None) -> None:
    text = export()
    Price.objects.all()._raw_delete("default")  # nothing else can
    for model in (Route, Provider, Tenant, Plan, HousePolicy):
        model.objects.all().delete()
    apply(read(text, SECRETS | {"ODD_9_ODD_OWN_SECRET": "sk-own"}))
    assert export() == text


def test_no_secret_is_exported(odd_rows: None) -> None:
    out = io.StringIO()
    call_command("export", "--all", stdout=out)
    assert "sk-" not in out.getvalue() and "pb_live" not in out.getvalue()
    assert "${LAB_MAIN_SECRET}" in out.getvalue()
    for credential in Credential.objects.all():
        assert credential.sealed not in out.getvalue()


def test_what_ships_unchanged_is_left_out(db: None) -> None:
    provider = Provider.objects.create(
        slug="shipped", name="S", adapter="openai", base_url="https://a.example", source="builtin"
    )
    assert yaml.safe_load(export()) == {}
    assert yaml.safe_load(export(everything=True))["providers"][0]["slug"] == "shipped"
    for model_id, source in (("theirs", "builtin"), ("mine", "operator")):
        add_price(
            provider=provider, model_id=model_id, operation="", prices=Prices(1), source=source
        )
    mine = yaml.safe_load(export())["providers"][0]["prices"]
    assert [(price["model"], price["input_usd_per_million"]) for price in mine] == [
        ("mine", "0.000001")
    ]
    assert len(yaml.safe_load(export(everything=True))["providers"][0]["prices"]) == 2
    Price.objects.all()._raw_delete("default")
    credential = Credential(provider=provider, name="main")
    credential.set_secret("x")
    credential.save()
    exported = yaml.safe_load(export())["providers"]
    assert exported == [
        {
            "slug": "shipped",
            "credentials": [{"name": "main", "secret": "${SHIPPED_MAIN_SECRET}", "enabled": True}],
        }
    ]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=40))
def test_any_text_comes_back_as_it_was(text: str) -> None:
    content = yaml.safe_dump({"plans": [{"slug": "a", "name": escape(text)}]}, allow_unicode=True)
    assert read(content, {}).content["plans"][0]["name"] == text
