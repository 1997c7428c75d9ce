"""`manage.py load_catalogue`: the shipped providers arrive, and staff's changes stay."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest
from django.core.management import call_command

from api.configuration import catalogue
from billing.models import Price
from billing.services import add_price, prices_in_force
from lib.models import Revision
from providers.catalogue import CatalogueFile
from providers.models import Credential, Model, Operation, Provider, Route, Target
from providers.operations import Kind, registry
from providers.prices import Prices

pytestmark = pytest.mark.django_db


def changed(file: CatalogueFile, **fields: Any) -> CatalogueFile:
    document = {**file.document, **fields}
    return CatalogueFile(file.path, document, f"{hash(str(document))}", file.manifest)


def price_of(model: Model) -> Price:
    return prices_in_force(model.provider)[model.model_id, ""]


@pytest.mark.unmeasured
def test_again_changes_nothing(shipped: Sequence[CatalogueFile]) -> None:
    revision = Revision.numbers()
    out = io.StringIO()
    call_command("load_catalogue", stdout=out)
    assert "nothing to change" in out.getvalue()
    assert Revision.numbers() == revision


def test_every_data_operation_is_routed_keyless_providers_first(
    shipped: Sequence[CatalogueFile],
) -> None:
    for name, operation in registry().items():
        if operation.kind is not Kind.DATA:
            continue
        route = Route.objects.get(operation=name, alias="")
        providers = [target.provider for target in route.targets.all()]
        assert {p.slug for p in providers} == {f.slug for f in shipped if name in f.operations}
        keys = [(not p.enabled, p.needs_credential) for p in providers]
        assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("operation", "narrow"),
    [("books.isbn", "finna"), ("medical.drug_label", "dailymed"), ("weather.forecast", "nws")],
)
def test_who_knows_a_part_only_is_asked_after_its_kind(
    shipped: Sequence[CatalogueFile], operation: str, narrow: str
) -> None:
    files = catalogue.in_order(shipped, operation)
    serving = [file for file in files if operation in file.operations]
    keyless = [file.slug for file in serving if file.enabled and not file.needs_credential]
    assert keyless.index(narrow) == len(keyless) - 1 > 0


def test_a_new_version_is_taken_over(shipped: Sequence[CatalogueFile]) -> None:
    openai = next(file for file in shipped if file.slug == "openai")
    models = [m for m in openai.models if m["id"] != "gpt-4o-mini"]
    models = [{**m, "context": 7} if m["id"] == "gpt-4.1" else m for m in models]
    Provider.objects.filter(slug="openai").update(enabled=False)
    new = changed(openai, base_url="https://other.example/v1", models=models)
    loaded = catalogue.load([new if file is openai else file for file in shipped])
    assert [str(change) for change in loaded.changes] == [
        f"~ provider openai: {len(models)} models"
    ]
    row = Provider.objects.get(slug="openai")
    assert row.base_url == "https://other.example/v1"
    assert not row.enabled, "staff switched it off"
    assert Model.objects.get(provider=row, model_id="gpt-4.1").context == 7
    assert not Model.objects.get(provider=row, model_id="gpt-4o-mini").enabled


def test_a_changed_price_is_a_new_version(shipped: Sequence[CatalogueFile]) -> None:
    openai = next(file for file in shipped if file.slug == "openai")
    mini = Model.objects.get(provider__slug="openai", model_id="gpt-4o-mini")
    before, count = price_of(mini), Price.objects.count()
    models = [
        {**m, "input_usd_per_million": "0.2"} if m["id"] == "gpt-4o-mini" else m
        for m in openai.models
    ]
    catalogue.load([changed(openai, models=models) if f is openai else f for f in shipped])
    after = price_of(mini)
    assert (before.input, after.input, after.source) == (150_000, 200_000, "builtin")
    assert Price.objects.count() == count + 1
    assert Price.objects.get(pk=before.pk).input == 150_000


def test_a_price_by_the_unit(shipped: Sequence[CatalogueFile]) -> None:
    """$0.006 a minute, kept as whole µUSD for a million seconds."""
    whisper = Model.objects.get(provider__slug="openai", model_id="whisper-1")
    assert price_of(whisper).prices == Prices(unit=100_000_000)


def test_what_staff_changed_stays(shipped: Sequence[CatalogueFile]) -> None:
    openai = next(file for file in shipped if file.slug == "openai")
    Provider.objects.filter(slug="openai").update(
        source="operator", base_url="https://mine.example"
    )
    haiku = Model.objects.get(provider__slug="anthropic", model_id="claude-haiku-4-5")
    add_price(provider=haiku.provider, model_id=haiku.model_id, operation="", prices=Prices(1))
    route = Route.objects.get(operation="finance.fx_rate")
    route.source = "operator"
    route.save()
    Target.objects.filter(route=route).delete()
    anthropic = next(file for file in shipped if file.slug == "anthropic")
    news = {"openai": changed(openai, name="X"), "anthropic": changed(anthropic, name="Y")}
    loaded = catalogue.load([news.get(file.slug, file) for file in shipped])
    assert loaded.kept == 1
    assert Provider.objects.get(slug="openai").base_url == "https://mine.example"
    assert Provider.objects.get(slug="anthropic").name == "Y"
    assert price_of(haiku).prices == Prices(1)
    assert not route.targets.exists()


def test_what_is_no_longer_shipped_is_switched_off_and_not_deleted(
    shipped: Sequence[CatalogueFile],
) -> None:
    credential = Credential(provider=Provider.objects.get(slug="openai"))
    credential.set_secret("x")
    credential.save()
    Operation.objects.create(name="old.one", category="old", summary="Gone.")
    loaded = catalogue.load([file for file in shipped if file.slug != "openai"])
    assert {str(c).partition(":")[0] for c in loaded.changes} == {
        "- provider openai",
        "- operation old.one",
    }
    assert not Provider.objects.get(slug="openai").enabled
    assert Credential.objects.exists()
    assert catalogue.load([f for f in shipped if f.slug != "openai"]).changes == []
    Provider.objects.filter(slug="openai").update(enabled=True)
    assert catalogue.load([f for f in shipped if f.slug != "openai"]).changes == []
    assert Provider.objects.get(slug="openai").enabled, "staff switched it on again"
