"""JSON schemas as Anthropic's structured outputs want them."""

from __future__ import annotations

from typing import Any

_NAMED = ("properties", "$defs", "definitions")
_LISTED = ("anyOf", "oneOf", "prefixItems")
_DEEPEST = 64  # deeper than any schema that is meant; what lies below goes as it is


def closed(schema: Any, depth: int = 0) -> Any:
    """A copy in which every object says that it has no further properties, unless it says
    otherwise. Anthropic demands it, and what fits the closed schema fits the open one.

    The branches of `allOf` stay open: closed, each would forbid what the others ask for.
    """
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return schema
    made = dict(schema)
    for name in _NAMED:
        if isinstance(made.get(name), dict):
            made[name] = {key: closed(each, depth + 1) for key, each in made[name].items()}
    for name in _LISTED:
        if isinstance(made.get(name), list):
            made[name] = [closed(each, depth + 1) for each in made[name]]
    if "items" in made:
        made["items"] = closed(made["items"], depth + 1)
    if made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made
