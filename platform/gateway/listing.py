"""`GET /models`: what this key may call, in OpenAI's shape with our facts beside it."""

from __future__ import annotations

from typing import Any

import orjson

from accounts.identity import Identity
from lib.money import to_usd
from lib.problems import NotFound
from providers.snapshot import RouteSpec, Snapshot
from tenants.keys import Mode


def models(snapshot: Snapshot, identity: Identity, model: str) -> bytes:
    """The list, or one entry when `model` names it. Raises NotFound."""
    if model:
        return orjson.dumps(_one(snapshot, identity, model))
    routes = [*snapshot.routes.values(), *snapshot.models.values()]
    entries = [_entry(route) for route in routes if _callable(route, identity)]
    return orjson.dumps({"object": "list", "data": sorted(entries, key=lambda e: str(e["id"]))})


def _one(snapshot: Snapshot, identity: Identity, name: str) -> dict[str, Any]:
    for operation in ("chat.completions", "embeddings"):
        route = snapshot.route(operation, name)
        if route is not None and _callable(route, identity):
            return _entry(route)
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


def _entry(route: RouteSpec) -> dict[str, Any]:
    first = next(target for target in route.targets if target.model)
    assert first.model is not None  # noqa: S101 - chosen so on the line above
    prices = first.prices
    return {
        "id": route.name,
        "object": "model",
        "created": 0,
        "owned_by": first.provider.slug,
        "operation": route.operation,
        "context_length": first.model.context,
        "max_output": first.model.max_output,
        "capabilities": sorted(first.model.capabilities),
        "prices_usd_per_million": {
            kind: None if price is None else to_usd(price)
            for kind, price in (("input", prices.input), ("output", prices.output))
        },
        "targets": [target.name for target in route.targets],
    }
