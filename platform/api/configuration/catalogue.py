"""Brings the shipped catalogue into the database. What staff changed is theirs and stays.

Rows it made are `source=builtin`; the first edit by staff makes them `operator`, and then it
passes them over. What disappears from the catalogue is switched off, never deleted: staff's
routes may lead there.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from api.configuration import staff_roles
from api.configuration.prices import OF_MODELS
from api.configuration.routes import replace_targets
from api.configuration.run import Change, Kind
from billing.models import PER_THOUSAND
from billing.services import add_price, prices_in_force
from lib import audit
from lib.money import to_micro
from providers.catalogue import CatalogueFile
from providers.definitions import record_shipped
from providers.models import Model, Operation, Provider, Route
from providers.operations import Kind as OperationKind
from providers.operations import registry
from providers.prices import Prices

BUILTIN = Provider.Source.BUILTIN


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
        rows = {row.slug: row for row in Provider.objects.all()}
        for file in files:
            _load_provider(file, rows.get(file.slug), loaded)
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


def _load_provider(file: CatalogueFile, row: Provider | None, loaded: Loaded) -> None:
    if row is None:
        row = Provider(slug=file.slug, source=BUILTIN, enabled=file.enabled)
        kind = Kind.ADDED
    elif row.source != BUILTIN:
        loaded.kept += 1
        return
    elif row.checksum == file.checksum:
        return
    else:
        kind = Kind.CHANGED
    for name, value in columns(file).items():
        setattr(row, name, value)
    row.save()
    count = load_models(file, row)
    load_prices(file, row)
    loaded.tell(kind, f"provider {file.slug}", [f"{count} models"] if count else ())


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


def load_models(file: CatalogueFile, provider: Provider) -> int:
    rows = {row.model_id: row for row in Model.objects.filter(provider=provider)}
    for item in file.models:
        row = rows.get(item["id"]) or Model(provider=provider, model_id=item["id"], source=BUILTIN)
        if row.source == BUILTIN:
            for name, value in _model_columns(item).items():
                setattr(row, name, value)
            row.save()
    gone = Model.objects.filter(provider=provider, source=BUILTIN, enabled=True)
    gone.exclude(model_id__in=[item["id"] for item in file.models]).update(enabled=False)
    return len(file.models)


def _model_columns(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "operation": item["operation"],
        "context": item.get("context"),
        "max_output": item.get("max_output"),
        "capabilities": item["capabilities"],
    }


def load_prices(file: CatalogueFile, provider: Provider) -> None:
    """What ships is a new version where it differs from the one in force, unless that is
    staff's. What a data provider's free plan allows costs nothing."""
    present = prices_in_force(provider)
    shipped = {(item["id"], ""): shipped_prices(item) for item in file.models}
    if file.manifest:
        shipped["", ""] = Prices(unit=0)
    for (model_id, operation), prices in shipped.items():
        version = present.get((model_id, operation))
        if not prices.known or (version and version.source != BUILTIN):
            continue
        if version is None or version.prices != prices:
            add_price(
                provider=provider,
                model_id=model_id,
                operation=operation,
                prices=prices,
                source=BUILTIN,
                note=file.document.get("prices", {}).get("source", ""),
            )


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
    for name, operation in registry().items():
        row = rows.pop(name, None)
        if row and (row.category, row.summary) == (operation.category, operation.summary):
            continue
        kind = Kind.CHANGED if row else Kind.ADDED
        row = row or Operation(name=name)
        row.category, row.summary = operation.category, operation.summary
        row.save()
        loaded.tell(kind, f"operation {name}")
    for name, row in rows.items():
        row.delete()
        loaded.tell(Kind.REMOVED, f"operation {name}")


def _load_routes(files: Sequence[CatalogueFile], loaded: Loaded) -> None:
    """Each data operation's route: every provider that serves it, keyless ones first, and then
    those that staff's definitions brought."""
    providers = {row.slug: row for row in Provider.objects.all()}
    shipped = [providers[file.slug] for file in in_order(files)]
    own = [row for row in providers.values() if row.source != BUILTIN]
    for name, operation in registry().items():
        if operation.kind is OperationKind.DATA:
            serving = [row.pk for row in shipped if name in served_by(row)]
            also = {row.pk for row in own if name in served_by(row)}
            _load_route(name, serving, also, loaded)


def in_order(files: Sequence[CatalogueFile]) -> list[CatalogueFile]:
    """As a shipped route has them: those that are on first, and of these the keyless ones."""
    return sorted(files, key=lambda file: (not file.enabled, file.needs_credential, file.slug))


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
        _replace(route, wanted)
        led.extend([route.operation] if serves else [])


def _load_route(
    operation: str, providers: Sequence[int], also: Container[int], loaded: Loaded
) -> None:
    """`also` may be among its targets, and then stay behind what ships."""
    route, is_new = Route.objects.get_or_create(
        operation=operation, alias="", defaults={"source": BUILTIN}
    )
    present = list(route.targets.values_list("provider_id", flat=True))
    wanted = [*providers, *(pk for pk in present if pk in also and pk not in providers)]
    if route.source != BUILTIN or present == wanted:
        return
    _replace(route, wanted)
    loaded.tell(
        Kind.ADDED if is_new else Kind.CHANGED, f"route {operation}", [f"{len(wanted)} targets"]
    )


def _replace(route: Route, providers: Sequence[int]) -> None:
    replace_targets(
        route, [{"provider_id": pk, "position": index} for index, pk in enumerate(providers)]
    )
