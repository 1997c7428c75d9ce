"""A version in force: on every worker by the snapshot, proved first, and never overwritten."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from api.configuration import catalogue
from api.configuration.activating import activate, roll_back
from api.configuration.applying import apply
from api.configuration.document import read
from billing.services import prices_in_force
from lib.models import Revision, Topic
from providers import definitions, snapshot
from providers.catalogue import CatalogueFile, parse_document
from providers.definition_models import Definition
from providers.models import Model, Provider, Route
from tests.providers.definitions import rates

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("shipped")]
FX = "finance.fx_rate"
SHIPPED = frozenset({"alpha-vantage", "fixer", "frankfurter", "open-er-api", "openai", "anthropic"})


def made(slug: str = "my-rates", **changes: str) -> Definition:
    document, examples = rates(slug, **changes)
    return definitions.create(slug=slug, document=document, examples=examples, by="ann")


def edited(slug: str, old: str, new: str) -> Definition:
    """A copy of what is in force, changed."""
    active = in_force(slug)
    assert old in active.document
    return definitions.create(
        slug=slug,
        document=active.document.replace(old, new),
        examples=definitions.examples_of(active),
        by="ann",
    )


def in_force(slug: str) -> Definition:
    return Definition.objects.get(slug=slug, state="active")


def targets(operation: str = FX) -> list[str]:
    route = Route.objects.get(operation=operation, alias="")
    return [target.provider.slug for target in route.targets.all()]


def newer(shipped: Sequence[CatalogueFile], slug: str) -> list[CatalogueFile]:
    """A later release, with another name for one provider."""
    file = next(file for file in shipped if file.slug == slug)
    text = file.text.replace(f"name: {file.document['name']}", "name: Newer")
    new = parse_document(text, Path(f"{slug}.yaml"))
    return [new if each is file else each for each in shipped]


def test_what_ships_is_recorded_as_it_was_written(shipped: Sequence[CatalogueFile]) -> None:
    assert Definition.objects.count() == len(shipped)
    for file in shipped:
        row = in_force(file.slug)
        assert (row.version, row.source, row.checksum) == (1, "builtin", file.checksum)
        assert row.document == file.text
    catalogue.load(shipped)
    assert Definition.objects.count() == len(shipped)


def test_a_new_provider_is_routed_once_it_is_activated() -> None:
    row, before = made(), Revision.numbers()[Topic.ROUTING]
    assert "my-rates" not in snapshot.load().providers and not row.activated_at
    done = activate(definition=row, by="ann")
    assert (done.routes, done.left) == ([FX], [])
    assert targets()[-1] == "my-rates"
    assert Revision.numbers()[Topic.ROUTING] > before
    loaded = snapshot.load()
    assert loaded.providers["my-rates"].base_url == "https://api.example.com/v1"
    route = loaded.route(FX, "")
    assert route and route.targets[-1].provider.slug == "my-rates"
    assert done.provider.source == "operator" and not done.provider.needs_credential


def test_a_new_provider_stays_when_the_catalogue_is_loaded(
    shipped: Sequence[CatalogueFile],
) -> None:
    activate(definition=made(), by="ann")
    assert not catalogue.load(shipped).changes
    assert targets()[-1] == "my-rates"


def test_a_route_of_staffs_is_left_to_them() -> None:
    Route.objects.filter(operation=FX).update(source="operator")
    done = activate(definition=made(), by="ann")
    assert (done.routes, done.left) == ([], [FX])
    assert "my-rates" not in targets()


@pytest.mark.parametrize("change", [{"path": "wrong"}, {"path": "'rates['"}, {"name": "x" * 121}])
def test_what_does_not_hold_is_not_activated(change: Any) -> None:
    row = made(**change)
    with pytest.raises(ValidationError) as caught:
        activate(definition=row, by="ann")
    assert ".yaml:" in caught.value.messages[0] or ".json:" in caught.value.messages[0]
    assert not Provider.objects.filter(slug="my-rates").exists()
    assert Definition.objects.get(pk=row.pk).state == "draft"


def test_nothing_is_activated_without_an_example() -> None:
    document, _ = rates()
    row = definitions.create(slug="my-rates", document=document, examples=[], by="ann")
    with pytest.raises(ValidationError, match="no example"):
        activate(definition=row, by="ann")


@pytest.mark.parametrize(
    "base_url",
    ["http://127.0.0.1:9/v1", "https://10.0.0.1/v1", "https://[::1]/v1", "https://localhost/v1",
     "https://metadata.internal/v1", "https://0x7f.1/v1", "https://2130706433/v1"],
)  # fmt: skip
def test_a_base_url_that_leads_inside_is_refused(base_url: str) -> None:
    with pytest.raises(ValidationError, match=r"private or loopback|base_url"):
        activate(definition=made(base_url=base_url), by="ann")
    assert not Provider.objects.filter(slug="my-rates").exists()


def test_no_document_allows_itself_a_private_network() -> None:
    document, examples = definitions.template("ai", "lab")
    document = document.replace("https://api.example.com/v1", "http://127.0.0.1:9/v1")
    document += "allow_private_network: true\n"
    row = definitions.create(slug="lab", document=document, examples=examples, by="ann")
    with pytest.raises(ValidationError, match="private or loopback"):
        activate(definition=row, by="ann")


def test_an_ai_provider_comes_with_models_and_prices() -> None:
    document, examples = definitions.template("ai", "lab")
    row = definitions.create(slug="lab", document=document, examples=examples, by="ann")
    provider = activate(definition=row, by="ann").provider
    assert provider.needs_credential and provider.manifest is None
    assert Model.objects.get(provider=provider).model_id == "example-model"
    assert prices_in_force(provider)["example-model", ""].input == 500_000


def test_an_edited_copy_is_in_force_and_rolled_back() -> None:
    row = edited("frankfurter", "name: Frankfurter", "name: Ours")
    assert Provider.objects.get(slug="frankfurter").name == "Frankfurter"
    activate(definition=row, by="ann")
    provider = Provider.objects.get(slug="frankfurter")
    assert (provider.name, provider.source) == ("Ours", "operator")
    assert targets().count("frankfurter") == 1
    done = roll_back(slug="frankfurter", by="bob")
    assert (done.definition.version, done.provider.name) == (1, "Frankfurter")
    assert done.provider.source == "builtin", "it follows the catalogue again"
    assert roll_back(slug="frankfurter", by="bob").definition == row


def test_there_is_nothing_to_roll_back_to_at_first() -> None:
    for slug in ("frankfurter", "nobody"):
        with pytest.raises(ValidationError, match="Nothing was in force before"):
            roll_back(slug=slug, by="bob")


def test_a_newer_shipped_version_waits_behind_staffs(shipped: Sequence[CatalogueFile]) -> None:
    mine = edited("frankfurter", "name: Frankfurter", "name: Ours")
    activate(definition=mine, by="ann")
    later = newer(shipped, "frankfurter")
    catalogue.load(later)
    assert Provider.objects.get(slug="frankfurter").name == "Ours"
    assert in_force("frankfurter") == mine
    waiting = definitions.newer_shipped(mine)
    assert waiting and (waiting.version, waiting.state) == (3, "draft")
    catalogue.load(later)
    assert Definition.objects.filter(slug="frankfurter").count() == 3
    done = activate(definition=waiting, by="ann")
    assert (done.provider.name, done.provider.source) == ("Newer", "builtin")
    assert definitions.newer_shipped(waiting) is None


def test_a_provider_that_nobody_edited_follows_what_ships(shipped: Sequence[CatalogueFile]) -> None:
    catalogue.load(newer(shipped, "frankfurter"))
    assert Provider.objects.get(slug="frankfurter").name == "Newer"
    assert in_force("frankfurter").version == 2
    done = roll_back(slug="frankfurter", by="ann")
    assert (done.provider.name, done.provider.source) == ("Frankfurter", "operator")
    catalogue.load(newer(shipped, "frankfurter"))
    assert Provider.objects.get(slug="frankfurter").name == "Frankfurter", "staff's word stays"


def test_what_no_version_brought_is_kept_before_it_goes() -> None:
    provider = Provider.objects.get(slug="frankfurter")
    provider.manifest = {**(provider.manifest or {}), "name": "By apply"}
    provider.source = "operator"
    provider.save()
    activate(definition=edited("frankfurter", "name: Frankfurter", "name: Ours"), by="ann")
    kept = Definition.objects.get(slug="frankfurter", note__contains="As it was found")
    assert kept.state == "retired" and "By apply" in kept.document and not kept.examples
    assert roll_back(slug="frankfurter", by="bob").provider.name == "By apply"


def test_what_is_in_force_by_a_version_is_not_kept_twice(shipped: Sequence[CatalogueFile]) -> None:
    """Also where YAML's keys are numbers, which a row of the database has as texts."""
    count = Definition.objects.count()
    for provider in Provider.objects.exclude(manifest=None):
        definitions.adopt(provider=provider, by="x")
    assert Definition.objects.count() == count


def test_a_configuration_file_brings_a_version() -> None:
    manifest = {**(Provider.objects.get(slug="frankfurter").manifest or {}), "name": "By file"}
    document = {"providers": [{"slug": "frankfurter", "manifest": manifest}]}
    for _ in range(2):
        apply(read(json.dumps(document), {}))
    row = in_force("frankfurter")
    assert (row.version, row.by) == (2, "manage.py apply") and "By file" in row.document
    assert roll_back(slug="frankfurter", by="bob").definition.version == 1
    assert Provider.objects.get(slug="frankfurter").name == "Frankfurter"


def test_an_operation_that_is_no_longer_served_leaves_its_route() -> None:
    row = edited("frankfurter", "slug: frankfurter", "slug: frankfurter")
    Definition.objects.filter(pk=row.pk).update(document=row.document)
    activate(definition=row, by="ann")
    assert "frankfurter" in targets()
    provider = Provider.objects.get(slug="frankfurter")
    provider.manifest = {**(provider.manifest or {}), "operations": {}}
    catalogue.follow_routes(provider, [], [])
    assert "frankfurter" not in targets()


def test_the_last_ten_versions_are_kept_and_what_is_in_force_and_ships() -> None:
    for number in range(15):
        edited("frankfurter", "name: Frankfurter", f"name: Copy {number}")
    rows = list(Definition.objects.filter(slug="frankfurter"))
    assert [row.version for row in rows] == [*range(16, 6, -1), 1]
    assert rows[-1].state == "active"
    gone = Definition(pk=10**9, slug="frankfurter", version=3)
    with pytest.raises(ValidationError, match="not kept any more"):
        activate(definition=gone, by="ann")


def test_two_versions_differ_by_lines() -> None:
    row = edited("frankfurter", "name: Frankfurter", "name: Ours")
    lines = definitions.difference(in_force("frankfurter"), row)
    assert "-name: Frankfurter" in lines and "+name: Ours" in lines
    assert definitions.difference(row, row) == []


@pytest.mark.parametrize(
    ("document", "examples"),
    [("x" * 200_000, []), ("a\0b", []), ("a: \ud800", []), ("a: 1", [{"a": "\ud800"}]), ("a: 1", {}), ("a: 1", [1]), ("a: 1", [{"a": "\0"}]),
     ("a: 1", [{"a": "x" * 2_000_000}])],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused(document: str, examples: Any) -> None:
    with pytest.raises(ValidationError):
        definitions.create(slug="x", document=document, examples=examples, by="ann")
    assert not Definition.objects.filter(slug="x").exists()
