"""Brings the shipped catalogue into the database. What staff changed is theirs and stays.

Rows it made are `source=builtin`; the first edit by staff makes them `operator`, and then it
passes them over. What disappears from the catalogue is switched off, never deleted: staff's
routes may lead there.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import transaction

from api.configuration import staff_roles
from api.configuration.prices import OF_MODELS
from api.configuration.routes import replace_targets
from api.configuration.run import Change, Kind
from billing.models import PER_THOUSAND, Price
from billing.services import add_prices, all_in_force
from lib import audit
from lib.money import to_micro
from providers.catalogue import CatalogueFile
from providers.definitions import record_shipped
from providers.models import Model, Operation, Provider, Route
from providers.operations import Kind as OperationKind
from providers.operations import registry
from providers.prices import Prices
from providers.services import add_providers

BUILTIN = Provider.Source.BUILTIN
Shipped = tuple[CatalogueFile, Provider]


@dataclass(slots=True)
class Loaded:
    """What was changed; `kept` counts providers that staff changed and that stayed as they are."""

    changes: list[Change] = field(default_factory=list)
    kept: int = 0

    def tell(self, kind: Kind, what: str, details: Iterable[str] = ()) -> None:
        self.changes.append(Change(kind, what, tuple(details)))


@transaction.atomic
def load(files: Sequence[CatalogueFile]) -> Loaded:
    """All or nothing, and nothing at all when nothing differs."""
    loaded = Loaded()
    with audit.as_one():
        _load_providers(files, loaded)
        _switch_off(Provider, {file.slug for file in files}, loaded)
        following = {row.slug: row.source == BUILTIN for row in Provider.objects.all()}
        record_shipped(files, following)
        _load_operations(loaded)
        _load_routes(files, loaded)
    for name in staff_roles.bring():
        loaded.tell(Kind.CHANGED, f"role {name}")
    if loaded.changes:
        told = [str(change) for change in loaded.changes]
        audit.event("loaded", kind="catalogue", after={"changes": told})
    return loaded


def _load_providers(files: Sequence[CatalogueFile], loaded: Loaded) -> None:
    rows = {row.slug: row for row in Provider.objects.all()}
    new: list[Shipped] = []
    changed: list[Shipped] = []
    for file in files:
        row = rows.get(file.slug)
        if row is None:
            new.append((file, Provider(slug=file.slug, source=BUILTIN, enabled=file.enabled)))
            _tell(Kind.ADDED, file, loaded)
        elif row.source != BUILTIN:
            loaded.kept += 1
        elif row.checksum != file.checksum:
            changed.append((file, row))
            _tell(Kind.CHANGED, file, loaded)
    add_providers([_following(file, row) for file, row in new])
    for file, row in changed:
        _following(file, row).save()
    load_models([*new, *changed])
    load_prices([*new, *changed])


def _tell(kind: Kind, file: CatalogueFile, loaded: Loaded) -> None:
    count = len(file.models)
    loaded.tell(kind, f"provider {file.slug}", [f"{count} models"] if count else ())


def _following(file: CatalogueFile, row: Provider) -> Provider:
    for name, value in columns(file).items():
        setattr(row, name, value)
    return row


def columns(file: CatalogueFile) -> dict[str, Any]:
    document = file.document
    return {
        "name": document["name"],
        "category": document["category"],
        "adapter": file.adapter,
        "base_url": document["base_url"],
        "docs_url": document["docs_url"],
        "settings": document.get("settings", {}),
        "manifest": dict(document) if file.manifest else None,
        "needs_credential": file.needs_credential,
        "allow_private_network": document.get("allow_private_network", False),
        "checksum": file.checksum,
    }


def load_models(shipped: Sequence[Shipped]) -> None:
    """All together: a first start has hundreds. What a file does not name is switched off."""
    rows = Model.objects.filter(provider__in=[provider.pk for _, provider in shipped])
    present = {(row.provider_id, row.model_id): row for row in rows}
    new = []
    for file, provider in shipped:
        for item in file.models:
            values = _model_columns(item)
            row = present.pop((provider.pk, item["id"]), None)
            if row is None:
                new.append(Model(provider=provider, model_id=item["id"], source=BUILTIN, **values))
            elif row.source == BUILTIN:
                for name, value in values.items():
                    setattr(row, name, value)
                row.save()
    if new:
        Model.objects.bulk_create(new)
    if gone := [row.pk for row in present.values() if row.source == BUILTIN and row.enabled]:
        Model.objects.filter(pk__in=gone).update(enabled=False)


def _model_columns(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "operation": item["operation"],
        "context": item.get("context"),
        "max_output": item.get("max_output"),
        "capabilities": item["capabilities"],
    }


def load_prices(shipped: Sequence[Shipped]) -> None:
    """What ships is a new version where it differs from the one in force, unless that is
    staff's. What a data provider's free plan allows costs nothing."""
    present = all_in_force([provider for _, provider in shipped])
    add_prices(
        Price(
            provider=provider,
            model_id=model_id,
            source=BUILTIN,
            note=file.document.get("prices", {}).get("source", ""),
            **asdict(prices),
        )
        for file, provider in shipped
        for model_id, prices in _prices(file)
        if _is_news(prices, present[provider.pk].get((model_id, "")))
    )


def _prices(file: CatalogueFile) -> Iterator[tuple[str, Prices]]:
    """By model id; "" for a data provider's units."""
    yield from ((item["id"], shipped_prices(item)) for item in file.models)
    if file.manifest:
        yield "", Prices(unit=0)


def _is_news(prices: Prices, version: Price | None) -> bool:
    if version is None:
        return prices.known
    return prices.known and version.source == BUILTIN and version.prices != prices


def shipped_prices(item: Mapping[str, Any]) -> Prices:
    """A model's in the catalogue."""
    return Prices(
        **{
            kind: to_micro(item[name]) * (PER_THOUSAND if kind == "unit" else 1)
            for name, kind in OF_MODELS.items()
            if name in item
        }
    )


def _switch_off(model: type[Provider], present: set[str], loaded: Loaded) -> None:
    gone = model.objects.filter(source=BUILTIN, enabled=True).exclude(slug__in=present)
    for row in gone.exclude(checksum=""):
        row.enabled = False
        row.checksum = ""  # so it is done once: whom staff switch on again stays on
        row.save()
        loaded.tell(Kind.REMOVED, f"provider {row.slug}", ["no longer shipped, switched off"])


def _load_operations(loaded: Loaded) -> None:
    rows = {row.name: row for row in Operation.objects.all()}
    new = []
    for name, operation in registry().items():
        row = rows.pop(name, None)
        if row is None:
            row = Operation(name=name, category=operation.category, summary=operation.summary)
            new.append(row)
            loaded.tell(Kind.ADDED, f"operation {name}")
        elif (row.category, row.summary) != (operation.category, operation.summary):
            row.category, row.summary = operation.category, operation.summary
            row.save()
            loaded.tell(Kind.CHANGED, f"operation {name}")
    if new:
        Operation.objects.bulk_create(new)
    for name, row in rows.items():
        row.delete()
        loaded.tell(Kind.REMOVED, f"operation {name}")


def _load_routes(files: Sequence[CatalogueFile], loaded: Loaded) -> None:
    """Each data operation's route: every provider that serves it, keyless ones first, and then
    those that staff's definitions brought, which stay behind what ships."""
    new = _add_routes()
    providers = {row.slug: row for row in Provider.objects.all()}
    own = [row for row in providers.values() if row.source != BUILTIN]
    changed: dict[Route, Sequence[int]] = {}
    for route in _shipped_routes():
        name, present = route.operation, [target.provider_id for target in route.targets.all()]
        shipped = [providers[file.slug] for file in in_order(files, name)]
        serving = [row.pk for row in shipped if name in served_by(row)]
        also = {row.pk for row in own if name in served_by(row)}
        wanted = [*serving, *(pk for pk in present if pk in also and pk not in serving)]
        if present != wanted:
            changed[route] = wanted
            kind = Kind.ADDED if name in new else Kind.CHANGED
            loaded.tell(kind, f"route {name}", [f"{len(wanted)} targets"])
    _replace(changed)


def _shipped_routes() -> Iterable[Route]:
    """Those of data operations that staff did not make theirs, in the order of the operations."""
    routes = Route.objects.filter(alias="", source=BUILTIN).prefetch_related("targets")
    return [route for route in routes.order_by("operation") if route.operation in registry()]


def _add_routes() -> set[str]:
    """One for every data operation; those for which there was none."""
    present = Route.objects.filter(alias="").values_list("operation", flat=True)
    wanted = {name for name, each in registry().items() if each.kind is OperationKind.DATA}
    new = wanted.difference(present)
    if new:
        Route.objects.bulk_create(Route(operation=n, source=BUILTIN) for n in sorted(new))
    return new


def in_order(files: Sequence[CatalogueFile], operation: str) -> list[CatalogueFile]:
    """As its shipped route has them: those that are on first, of these the keyless ones, and of
    each kind last those that know a part only."""
    return sorted(files, key=lambda file: _rank(file, operation))


def _rank(file: CatalogueFile, operation: str) -> tuple[bool, bool, bool, str]:
    plan = file.document.get("operations", {}).get(operation, {})
    return not file.enabled, file.needs_credential, plan.get("narrow", False), file.slug


def served_by(provider: Provider) -> Container[str]:
    """The data operations in its definition that is in force."""
    operations: Container[str] = (provider.manifest or {}).get("operations", ())
    return operations


def follow_routes(provider: Provider, led: list[str], left: list[str]) -> None:
    """The shipped routes of what it serves lead there, last, and those of what it does not serve
    no longer. `led` gets the operations that are new; `left` those whose routes are staff's."""
    for route in Route.objects.filter(alias="").prefetch_related("targets"):
        present = [target.provider_id for target in route.targets.all()]
        serves, leads = route.operation in served_by(provider), provider.pk in present
        if serves == leads:
            continue
        if route.source != BUILTIN:
            left.extend([route.operation] if serves else [])
            continue
        wanted = [pk for pk in present if pk != provider.pk] + [provider.pk] * serves
        _replace({route: wanted})
        led.extend([route.operation] if serves else [])


def _replace(wanted: Mapping[Route, Sequence[int]]) -> None:
    """Have each route lead to these providers, in this order."""
    replace_targets(
        {
            route: [{"provider_id": pk, "position": index} for index, pk in enumerate(providers)]
            for route, providers in wanted.items()
        }
    )
