"""The file's `routes`: what a client asks for, and the targets that answer it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from api.configuration.document import Place
from api.configuration.run import Kind, Run
from providers import soundness
from providers.models import Model, Provider, Route, Target
from providers.operations import Kind as OperationKind
from providers.operations import registry
from providers.operations.models import vectors_clash

FIELDS = ("strategy", "rescue", "hedge", "fan_out", "checks", "cache", "timeouts", "enabled")
CHAT = "chat.completions"


def apply_route(run: Run, item: Mapping[str, Any], place: Place) -> None:
    operation, alias = item.get("operation", CHAT), item.get("alias", "")
    _check_operation(run, operation, alias, place)
    what = f"route {alias or operation}"
    row = Route.objects.filter(operation=operation, alias=alias).first()
    if row is None:
        if "targets" not in item:
            raise run.fault(place, "`targets` is missing: this route is new.")
        row = Route(operation=operation, alias=alias)
    run.put(row, {n: item[n] for n in FIELDS if n in item}, what=what, place=place)
    if "targets" in item:
        _apply_targets(run, row, item["targets"], (*place, "targets"))


def _check_operation(run: Run, operation: str, alias: str, place: Place) -> None:
    if fault := soundness.of_route(operation, alias):
        raise run.fault((*place, fault.field), fault.text)


def _apply_targets(
    run: Run, route: Route, items: Sequence[Mapping[str, Any]], place: Place
) -> None:
    wanted = [
        _target(run, route, item, (*place, index)) | {"position": index}
        for index, item in enumerate(items)
    ]
    if registry()[route.operation].kind is OperationKind.EMBEDDINGS:
        _check_vectors(run, items, place)
    present = [_columns(target) for target in route.targets.all()]
    if wanted == present:
        return
    replace_targets({route: wanted})
    if route.source == Provider.Source.BUILTIN:
        route.source = Provider.Source.OPERATOR
        route.save(update_fields=["source"])
    _tell(run, route, present, wanted)


def _check_vectors(run: Run, items: Sequence[Mapping[str, Any]], place: Place) -> None:
    """Vectors of two models cannot be compared, so there is no falling back between them."""
    for index, item in enumerate(items):
        if clash := vectors_clash(items[0]["model"], item["model"]):
            raise run.fault((*place, index, "model"), clash)


def replace_targets(wanted: Mapping[Route, Sequence[Mapping[str, Any]]]) -> None:
    """Of each route all; a target is told by its row's columns."""
    if wanted:
        Target.objects.filter(route__in=wanted.keys()).delete()
        Target.objects.bulk_create(
            Target(route=route, **columns)
            for route, targets in wanted.items()
            for columns in targets
        )


def _target(run: Run, route: Route, item: Mapping[str, Any], place: Place) -> dict[str, Any]:
    provider = Provider.objects.filter(slug=item["provider"]).first()
    if provider is None:
        raise run.fault((*place, "provider"), f"There is no provider {item['provider']}.")
    return {
        "provider_id": provider.pk,
        "model_id": _model(run, route, provider, item, place),
        "weight": item.get("weight", 1),
        "enabled": item.get("enabled", True),
    }


def _model(
    run: Run, route: Route, provider: Provider, item: Mapping[str, Any], place: Place
) -> int | None:
    model = None
    if name := item.get("model"):
        model = Model.objects.filter(provider=provider, model_id=name).first()
        model = model or Model(provider=provider, model_id=name, operation="")
    if fault := soundness.of_target(route.operation, provider, model):
        raise run.fault((*place, fault.field), fault.text)
    return model.pk if model else None


def _columns(target: Target) -> dict[str, Any]:
    names = ("provider_id", "model_id", "weight", "enabled", "position")
    return {name: getattr(target, name) for name in names}


def _tell(
    run: Run,
    route: Route,
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
) -> None:
    old, new = [_name(target) for target in before], [_name(target) for target in after]
    for name in sorted(set(old) - set(new)):
        run.tell(Kind.REMOVED, f"target of {route}: {name}")
    for name in [name for name in new if name not in old]:
        run.tell(Kind.ADDED, f"target of {route}: {name}")
    if set(old) == set(new):
        run.tell(Kind.CHANGED, f"targets of {route}", [f"now {', '.join(new)}"])


def _name(columns: Mapping[str, Any]) -> str:
    provider = Provider.objects.get(pk=columns["provider_id"]).slug
    if columns["model_id"]:
        provider += f"/{Model.objects.get(pk=columns['model_id']).model_id}"
    weight = f" ×{columns['weight']}" if columns["weight"] != 1 else ""
    return provider + weight + ("" if columns["enabled"] else " (off)")
