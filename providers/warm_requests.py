"""Requests that are to be kept warm: asked again and again, so that nobody waits for a provider.

Staff write them down with their parameters as a caller would say them. What is wrong with one is
told here, so that nothing that can never be answered is asked for every few minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lib.problems import InvalidRequest
from providers import cache_rules
from providers.operations import Kind, parse_query, registry, validate
from providers.operations.query import written

LEAST_SECONDS: Final = 10
USUAL_SECONDS: Final = 300
MOST_SECONDS: Final = 7 * 86_400


class WarmSpec(NamedTuple):
    """`tenant_id` is None for the house. `every` is in seconds; at `asked_at` (unix seconds) staff
    wanted it at once."""

    id: int
    tenant_id: int | None
    operation: str
    params: Mapping[str, Any]
    every: int
    asked_at: float = 0.0


class WarmFault(ValueError):
    """What is wrong, and in which field; `path` leads to it within that."""

    def __init__(self, field: str, text: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(text)
        self.field = field
        self.path = path


def check(
    operation: str, params: Any, *, is_house: bool, route_cache: Mapping[str, Any] | None = None
) -> None:
    """Whether it can be asked. `route_cache` are the rules of the operation's own route, if it
    has one. Raises WarmFault."""
    known = registry().get(operation)
    if known is None:
        raise WarmFault("operation", f"There is no operation {operation}.")
    if not isinstance(params, Mapping):
        raise WarmFault("params", 'Write an object, such as {"base": "EUR", "quote": "USD"}.')
    rules = cache_rules.merged(known.cache, route_cache or {})
    if is_house and not (known.kind is Kind.DATA and rules.get("public")):
        raise WarmFault(
            "operation",
            f"Answers of {operation} are their tenant's alone. Name the tenant that asks.",
        )
    if known.kind is Kind.DATA and not rules.get("ttl"):
        raise WarmFault("operation", f"Answers of {operation} are not kept: its `ttl` is 0.")
    try:
        asked = parse_query(known, written(params)) if known.kind is Kind.DATA else params
        validate(known, asked)
    except InvalidRequest as problem:
        raise _fault(problem) from None


def declared(slug: str, manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What a provider's manifest declares, by name, as columns."""
    return {
        f"{slug}:{operation}:{number}": {
            "operation": operation,
            "params": item["params"],
            "every": item.get("every", USUAL_SECONDS),
        }
        for operation, source in manifest["operations"].items()
        for number, item in enumerate(source.get("warm", ()), 1)
    }


def _fault(problem: InvalidRequest) -> WarmFault:
    first = problem.extra["errors"][0]
    path = tuple(step for step in first["pointer"].split("/") if step)
    return WarmFault("params", first["detail"], path)
