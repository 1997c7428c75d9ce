"""`GET /models`: what this key may call, in OpenAI's shape with our facts beside it."""

from __future__ import annotations

from typing import Any

import orjson

from accounts.identity import Identity
from billing.book import PriceBook
from lib.money import marked_up, to_usd
from lib.problems import NotFound
from providers.operations import OF_MODELS
from providers.snapshot import ModelSpec, RouteSpec, Snapshot, TargetSpec
from tenants.keys import Mode


def models(
    snapshot: Snapshot, identity: Identity, model: str, *, prices: PriceBook, now: float
) -> bytes:
    """The list, or one entry when `model` names it. Raises NotFound."""
    if model:
        route = _one(snapshot, identity, model)
        return orjson.dumps(_entry(route, _told_prices(route, identity, prices, now)))
    routes = [*snapshot.routes.values(), *snapshot.models.values()]
    entries = [
        _entry(route, _told_prices(route, identity, prices, now))
        for route in routes
        if _callable(route, identity)
    ]
    return orjson.dumps({"object": "list", "data": sorted(entries, key=lambda e: str(e["id"]))})


def _one(snapshot: Snapshot, identity: Identity, name: str) -> RouteSpec:
    for operation in sorted(OF_MODELS):
        route = snapshot.route(operation, name)
        if route is not None and _callable(route, identity):
            return route
    raise NotFound(
        f"There is no model {name[:80]!r}. `GET /api/v1/models` lists those you may call.",
        param="model",
    )


def _callable(route: RouteSpec, identity: Identity) -> bool:
    """Whether one target at least would be tried. Data operations are no models."""
    if not identity.may(route.operation) or not any(target.model for target in route.targets):
        return False
    if identity.mode is Mode.TEST:
        return True
    return any(target.live(identity.tenant_id) for target in route.targets)


def _first(route: RouteSpec) -> tuple[TargetSpec, ModelSpec]:
    return next((target, target.model) for target in route.targets if target.model)


def _told_prices(
    route: RouteSpec, identity: Identity, prices: PriceBook, now: float
) -> dict[str, str | None]:
    """What this caller pays at the first target, the plan's markup included, in USD a million."""
    first, model = _first(route)
    known = prices.price(first.provider.slug, model.model_id, route.operation, now).prices
    return {
        kind: None if price is None else to_usd(marked_up(price, identity.markup))
        for kind, price in (("input", known.input), ("output", known.output), ("unit", known.unit))
        if kind != "unit" or price is not None
    }


def _entry(route: RouteSpec, prices: dict[str, str | None]) -> dict[str, Any]:
    first, model = _first(route)
    return {
        "id": route.name,
        "object": "model",
        "created": 0,
        "owned_by": first.provider.slug,
        "operation": route.operation,
        "context_length": model.context,
        "max_output": model.max_output,
        "capabilities": sorted(model.capabilities),
        "prices_usd_per_million": prices,
        "targets": [target.name for target in route.targets],
    }
