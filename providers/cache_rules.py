"""How long answers are kept: the rules of an operation, a route and a manifest, as JSON.

The route's word goes before the manifest's of the provider that answered, and that before the
operation's; but no answer is kept for longer than the provider's terms allow (`max_retention`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jsonschema_rs

Rules = Mapping[str, Any]

YEAR = 31_536_000
_SECONDS = {"type": "integer", "minimum": 0, "maximum": YEAR}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "ttl": _SECONDS,
        "min_ttl": _SECONDS,
        "max_ttl": _SECONDS,
        "stale_while_revalidate": _SECONDS,
        "stale_if_error": _SECONDS,
        "adaptive": {"type": "boolean"},
        "public": {"type": "boolean"},
        "sampled": {"type": "boolean"},
        "semantic": {
            "type": "object",
            "additionalProperties": False,
            "required": ["route"],
            "properties": {
                "route": {"type": "string", "minLength": 1, "maxLength": 200},
                "threshold": {"type": "number", "minimum": 0.5, "maximum": 1},
                "verify": {"type": "number", "minimum": 0, "maximum": 1},
            },
        },
    },
}
_validator = jsonschema_rs.validator_for(SCHEMA)

HOUR, DAY, WEEK = 3600, 86_400, 7 * 86_400


class Semantic(NamedTuple):
    """Answers to questions that are nearly the same: `route` is the embeddings route that
    compares them, `threshold` the least cosine of two that count as one, `verify` the share of
    such answers that a provider is asked for all the same."""

    route: str
    threshold: float = 0.95
    verify: float = 0.05


class CacheFault(ValueError):
    """What is wrong in a route's cache rules, and where: `path` leads to it."""

    def __init__(self, path: tuple[str | int, ...], text: str) -> None:
        super().__init__(f"{'/'.join(map(str, path)) or 'cache'}: {text}")
        self.path = path
        self.text = text


def parse(rules: Any) -> Rules:
    """The rules, once they are known to be some. Raises CacheFault."""
    for error in _validator.iter_errors(rules):
        raise CacheFault(tuple(error.instance_path), error.message)
    least, most = rules.get("min_ttl", 0), rules.get("max_ttl", YEAR)
    if not least <= rules.get("ttl", least) <= most and rules.get("ttl"):
        raise CacheFault(("ttl",), "It must lie between min_ttl and max_ttl.")
    if least > most:
        raise CacheFault(("min_ttl",), "It is more than max_ttl.")
    if rules.get("adaptive") and not {"min_ttl", "max_ttl"} <= rules.keys():
        raise CacheFault(("adaptive",), "Say min_ttl and max_ttl, between which it may move.")
    if rules.get("semantic") and rules.get("public"):
        raise CacheFault(("semantic",), "A tenant's questions answer nobody else's: not `public`.")
    return dict(rules)


def of_manifest(document: Mapping[str, Any] | None, operation: str) -> Rules:
    """What a provider's manifest says of the answers to one of its operations."""
    document = document or {}
    own = document.get("operations", {}).get(operation, {})
    return {**document.get("cache", {}), **own.get("cache", {})}


def semantic(rules: Rules) -> Semantic | None:
    """Of a route's rules."""
    told = rules.get("semantic")
    return Semantic(**told) if told else None


def merged(*layers: Rules) -> Rules:
    """All rules, those of a later layer over the ones before. What none says of stale answers
    goes by how long fresh ones are kept: as long again while a new one is fetched, and sixty
    times, an hour at least and a week at most, where none can be had. A `ttl` of more than a day
    is meant as it is, not as the day that is the bound of what providers say."""
    rules: dict[str, Any] = {}
    for layer in layers:
        rules |= layer
    rules.pop("semantic", None)  # not how long, but what is found: that of the route alone
    ttl = rules.get("ttl", 0)
    told = {
        "stale_while_revalidate": ttl,
        "stale_if_error": min(max(60 * ttl, HOUR), WEEK) if ttl else 0,
    }
    if ttl > DAY:
        told["max_ttl"] = ttl
    return told | rules
