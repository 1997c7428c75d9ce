"""When a breaker opens, and how it closes again: the rules that staff write as JSON.

The words and defaults are resilience4j's (CircuitBreakerConfig), but for failures in a row,
which it does not count, and for one probe instead of ten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import jsonschema_rs

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "simple": {"retries": 3, "consecutive_failures": 5, "open_seconds": 60},
    "development": {"retries": 2, "consecutive_failures": 3, "open_seconds": 30},
    "production": {"retries": 5, "consecutive_failures": 10, "open_seconds": 120},
}
_OF_RETRIES = {"retries"}

MOST_SECONDS = 86_400
_THRESHOLD = {"type": "number", "exclusiveMinimum": 0, "maximum": 100}
_SECONDS = {"type": "number", "minimum": 0.001, "maximum": MOST_SECONDS}
_RULES = {
    "consecutive_failures": {"type": "integer", "minimum": 1, "maximum": 1_000_000},
    "failure_rate_threshold": _THRESHOLD,
    "slow_call_rate_threshold": _THRESHOLD,
    "slow_call_seconds": _SECONDS,
    "minimum_calls": {"type": "integer", "minimum": 1, "maximum": 1_000_000},
    "window": {
        "type": "object",
        "required": ["type"],
        "additionalProperties": False,
        "properties": {
            "type": {"enum": ["count", "time"]},
            "calls": {"type": "integer", "minimum": 1, "maximum": 10_000},
            "seconds": {"type": "integer", "minimum": 1, "maximum": 3600},
        },
    },
    "open_seconds": _SECONDS,
    "permitted_probes": {"type": "integer", "minimum": 1, "maximum": 1000},
}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "preset": {"enum": list(PRESETS)},
        **_RULES,
        "provider": {"type": "object", "additionalProperties": False, "properties": _RULES},
    },
}
_validator = jsonschema_rs.validator_for(SCHEMA)


class PolicyFault(ValueError):
    """What is wrong in a policy's JSON, and where: `path` leads to it."""

    def __init__(self, path: tuple[str | int, ...], text: str) -> None:
        super().__init__(f"{'/'.join(map(str, path)) or 'breaker'}: {text}")
        self.path = path
        self.text = text


@dataclass(frozen=True, slots=True)
class Window:
    """What the rates are of: the last `size` calls, or those of the last `size` seconds."""

    type: str = "count"
    size: int = 100


@dataclass(frozen=True, slots=True)
class Policy:
    """A breaker opens on `consecutive_failures`, or when the window, once it holds
    `minimum_calls`, has at least one of the two rates (per cent). A call is slow when it took
    more than `slow_call_seconds`. `open_seconds` later `permitted_probes` may go; when all of
    them have a result, the same two rates decide.
    """

    consecutive_failures: int = 5
    failure_rate_threshold: float = 50.0
    slow_call_rate_threshold: float = 100.0
    slow_call_seconds: float = 60.0
    minimum_calls: int = 100
    window: Window = field(default_factory=Window)
    open_seconds: float = 60.0
    permitted_probes: int = 1

    def exceeded(self, calls: int, failures: int, slow: int) -> bool:
        """Whether either rate of so many calls has reached its threshold."""
        return (
            failures * 100 >= self.failure_rate_threshold * calls
            or slow * 100 >= self.slow_call_rate_threshold * calls
        )

    def as_json(self) -> dict[str, Any]:
        """As `parse` reads it."""
        size = {"count": "calls", "time": "seconds"}[self.window.type]
        return asdict(self) | {"window": {"type": self.window.type, size: self.window.size}}


@dataclass(frozen=True, slots=True)
class Policies:
    """Of a provider's breakers: each target's, and the provider's own."""

    target: Policy = field(default_factory=Policy)
    provider: Policy = field(default_factory=Policy)


def parse(value: Any) -> Policies:
    """Policies from their JSON form: a preset's numbers, what else is said instead of them, and
    in `provider` what differs for the provider as a whole. Raises PolicyFault."""
    for error in _validator.iter_errors(value):
        raise PolicyFault(tuple(error.instance_path), error.message)
    preset = PRESETS[value["preset"]] if "preset" in value else {}
    base = _over(Policy(), {name: preset[name] for name in preset.keys() - _OF_RETRIES})
    target = _over(base, value)
    return Policies(target, _over(target, value.get("provider", {}), "provider"))


def _over(policy: Policy, rules: Mapping[str, Any], *place: str) -> Policy:
    changes = {name: _RULE_TYPES[name](rules[name]) for name in rules.keys() & _RULE_TYPES.keys()}
    if "window" in rules:
        changes["window"] = _window(rules["window"], (*place, "window"))
    return replace(policy, **changes)


# To the schema, 5.0 is a whole number too.
_RULE_TYPES: Mapping[str, Any] = {
    name: int if rule["type"] == "integer" else float
    for name, rule in _RULES.items()
    if name != "window"
}


def _window(value: Mapping[str, Any], place: tuple[str, ...]) -> Window:
    kind = value["type"]
    size, other = ("calls", "seconds") if kind == "count" else ("seconds", "calls")
    if other in value:
        raise PolicyFault((*place, other), f'A window of type "{kind}" has "{size}" instead.')
    if size not in value:
        raise PolicyFault(place, f'Say "{size}", the length of the window.')
    return Window(kind, int(value[size]))
