"""How breakers and retries of a provider go: who says what about it, and whose word counts.

Each layer says what it likes as JSON, `{"breaker": {…}, "retry": {…}}`, and later layers win,
number by number: the defaults, the environment's preset, the house's policy, the provider's
own. Within one layer its preset comes first. Pure: providers/effective.py finds the layers.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from jsonschema_rs import Draft202012Validator

from providers import breaker_policy
from providers.breaker_policy import RULES, Policies, Policy, PolicyFault, policy_of
from providers.operations import checking
from providers.presets import PRESETS
from providers.retry_policy import RetryPolicy

_WAIT = {"type": "number", "minimum": 0, "maximum": 60}
RETRY_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "max_attempts": {"type": "integer", "minimum": 1, "maximum": 10},
        "base_seconds": _WAIT,
        "max_seconds": _WAIT,
        "budget_percent": {"type": "number", "minimum": 0, "maximum": 100},
    },
}
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"breaker": breaker_policy.SCHEMA, "retry": RETRY_SCHEMA},
}
_validator = Draft202012Validator(dict(SCHEMA))


RETRY, TARGET, WHOLE = PARTS = ("retry", "breaker", "breaker/provider")


class Whose(enum.StrEnum):
    """The layers, in the order in which they win."""

    DEFAULT = "default"
    ENVIRONMENT = "environment"  # the setting RESILIENCE_PRESET
    HOUSE = "house"  # the setting RESILIENCE
    PROVIDER = "provider"


class Layer(NamedTuple):
    """What one of them says: JSON without faults."""

    whose: Whose
    said: Mapping[str, Any]


class Origin(NamedTuple):
    """Where a number comes from; `preset` where that layer named a preset and not the number."""

    whose: Whose
    preset: str | None = None

    def __str__(self) -> str:
        return f"{self.whose}, preset {self.preset}" if self.preset else str(self.whose)


class Number(NamedTuple):
    """One rule in force. `path` is such as retry/max_attempts or breaker/provider/window."""

    path: str
    value: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class Resilience:
    """What is in force, and by part and name where each number comes from."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    breaker: Policies = field(default_factory=Policies)
    origins: Mapping[str, Mapping[str, Origin]] = field(default_factory=dict)

    def numbers(self) -> list[Number]:
        """All rules; of the provider's own breaker those only that are not its targets' too."""
        parts = {
            RETRY: asdict(self.retry),
            TARGET: self.breaker.target.as_json(),
            WHOLE: _differing(self.breaker),
        }
        return [
            Number(f"{part}/{name}", value, self.origins[part][name])
            for part, rules in parts.items()
            for name, value in rules.items()
        ]

    def as_json(self) -> dict[str, Any]:
        """As a layer says it."""
        whole = _differing(self.breaker)
        breaker = self.breaker.target.as_json() | ({"provider": whole} if whole else {})
        return {"breaker": breaker, "retry": asdict(self.retry)}


def merge(layers: Iterable[Layer]) -> Resilience:
    """One policy of layers without faults, the last one's word counting most."""
    numbers: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    origins: dict[str, dict[str, Origin]] = {part: {} for part in PARTS}
    for origin, said in _steps(layers):
        for part, rules in _by_part(said):
            numbers[part] |= rules
            origins[part] |= dict.fromkeys(rules, origin)
    return Resilience(
        retry=_retry_of(numbers[RETRY]),
        breaker=Policies(policy_of(numbers[TARGET]), policy_of(numbers[WHOLE])),
        origins=origins,
    )


def faults(said: Any) -> list[PolicyFault]:
    """All that is wrong with what a layer says."""
    schema_faults = checking.faults(_validator, said)
    found = [PolicyFault(path, words, "the policy") for words, path in schema_faults]
    if found or "breaker" not in said:
        return found
    windows = breaker_policy.faults(said["breaker"])
    return [PolicyFault(("breaker", *fault.path), fault.text) for fault in windows]


def without_faults(said: Mapping[str, Any]) -> dict[str, Any]:
    """Of breaker and retry those that can be read."""
    return {part: rules for part, rules in said.items() if not faults({part: rules})}


_DEFAULTS = {"breaker": Policy().as_json(), "retry": asdict(RetryPolicy())}


def _steps(layers: Iterable[Layer]) -> Iterator[tuple[Origin, Mapping[str, Any]]]:
    """The defaults, and each layer's preset before what it says itself."""
    yield Origin(Whose.DEFAULT), _DEFAULTS
    for whose, said in layers:
        preset = said.get("breaker", {}).get("preset")
        if preset is not None:
            yield Origin(whose, preset), PRESETS[preset]
        yield Origin(whose), said


def _by_part(said: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What is said of the targets' breakers is said of the provider's too, where `provider`
    says nothing else."""
    breaker = said.get("breaker", {})
    target = {name: value for name, value in breaker.items() if name in RULES}
    yield RETRY, said.get("retry", {})
    yield TARGET, target
    yield WHOLE, target | breaker.get("provider", {})


def _retry_of(rules: Mapping[str, Any]) -> RetryPolicy:
    return RetryPolicy(**{**rules, "max_attempts": int(rules["max_attempts"])})


def _differing(policies: Policies) -> dict[str, Any]:
    target, whole = policies.target.as_json(), policies.provider.as_json()
    return {name: value for name, value in whole.items() if value != target[name]}
