"""When a breaker opens, and how it closes again: the rules that staff write as JSON.

The words and defaults are resilience4j's (CircuitBreakerConfig), but for failures in a row,
which it does not count, and for one probe instead of ten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from jsonschema_rs import Draft202012Validator

from providers.operations import checking
from providers.presets import PRESETS

MOST_SECONDS = 86_400
_THRESHOLD = {"type": "number", "exclusiveMinimum": 0, "maximum": 100}
_SECONDS = {"type": "number", "minimum": 0.001, "maximum": MOST_SECONDS}
RULES: Mapping[str, Any] = {
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
        **RULES,
        "provider": {"type": "object", "additionalProperties": False, "properties": RULES},
    },
}
_validator = Draft202012Validator(SCHEMA)


class PolicyFault(ValueError):
    """What is wrong in a policy's JSON, and where: `path` leads to it, from the `whole`."""

    def __init__(self, path: tuple[str | int, ...], text: str, whole: str = "breaker") -> None:
        super().__init__(f"{'/'.join(map(str, path)) or whole}: {text}")
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
        size = _SIZES[self.window.type]
        return asdict(self) | {"window": {"type": self.window.type, size: self.window.size}}


@dataclass(frozen=True, slots=True)
class Policies:
    """Of a provider's breakers: each target's, and the provider's own."""

    target: Policy = field(default_factory=Policy)
    provider: Policy = field(default_factory=Policy)


def parse(value: Any) -> Policies:
    """Policies from their JSON form: a preset's numbers, what else is said instead of them, and
    in `provider` what differs for the provider as a whole. Raises PolicyFault."""
    for fault in faults(value):
        raise fault
    preset = PRESETS[value["preset"]]["breaker"] if "preset" in value else {}
    target = {**preset, **{name: value[name] for name in value.keys() & RULES.keys()}}
    return Policies(policy_of(target), policy_of(target | value.get("provider", {})))


def faults(value: Any) -> list[PolicyFault]:
    """All that is wrong with policies' JSON form."""
    found = [PolicyFault(path, words) for words, path in checking.faults(_validator, value)]
    return found or [*_window_faults(value), *_window_faults(value.get("provider", {}), "provider")]


def policy_of(rules: Mapping[str, Any]) -> Policy:
    """The policy of rules that have no faults; what they do not say is as ever."""
    changes = {name: _RULE_TYPES[name](value) for name, value in rules.items()}
    return replace(Policy(), **changes)


def _window_faults(rules: Mapping[str, Any], *place: str) -> Iterator[PolicyFault]:
    """What the schema cannot say in plain words."""
    if "window" not in rules:
        return
    window, place = rules["window"], (*place, "window")
    kind = window["type"]
    size, other = (_SIZES[kind], _SIZES["time" if kind == "count" else "count"])
    if other in window:
        text = f'A window of type "{kind}" has "{size}" instead.'
        yield PolicyFault((*place, other), text)
    if size not in window:
        yield PolicyFault(place, f'Say "{size}", the length of the window.')


def _window(value: Mapping[str, Any]) -> Window:
    return Window(value["type"], int(value[_SIZES[value["type"]]]))


_SIZES = {"count": "calls", "time": "seconds"}
# To the schema, 5.0 is a whole number too.
_RULE_TYPES: Mapping[str, Any] = {"window": _window} | {
    name: int if rule["type"] == "integer" else float
    for name, rule in RULES.items()
    if name != "window"
}
