"""Rate limits as staff write them: a JSON list, checked by one schema."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import jsonschema_rs
from django.core.exceptions import ValidationError


class Scope(enum.StrEnum):
    """Who shares one allowance. An endpoint's and a model's are each tenant's own, but those in
    a provider's list are shared by all who call it."""

    IP = "ip"
    KEY = "key"
    USER = "user"
    PROJECT = "project"
    TENANT = "tenant"
    ENDPOINT = "endpoint"
    MODEL = "model"
    PROVIDER = "provider"


class LimitMetric(enum.StrEnum):
    """What is counted: calls begun, tokens used, or calls at the same time."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENCY = "concurrency"


MAX_ITEMS = 50
OPERATIONS_SCHEMA = {
    "type": "array",
    "maxItems": 500,
    "items": {"type": "string", "minLength": 1},
}


def rate_limits_schema(scopes: Iterable[Scope], implied: Scope | None = None) -> Any:
    """The JSON Schema of a list with only these scopes, of which one may be left unsaid."""
    return {
        "type": "array",
        "maxItems": MAX_ITEMS,
        "items": {
            "type": "object",
            "required": ["limit"] if implied else ["scope", "limit"],
            "additionalProperties": False,
            "properties": {
                "scope": {"enum": [scope.value for scope in scopes]},
                "metric": {"enum": [metric.value for metric in LimitMetric]},
                "limit": {"type": "integer", "minimum": 1, "maximum": 1_000_000_000},
                "per_seconds": {"type": "integer", "minimum": 1, "maximum": 31_622_400},
                "operations": OPERATIONS_SCHEMA,
            },
        },
    }


RATE_LIMITS_SCHEMA = rate_limits_schema(scope for scope in Scope if scope is not Scope.PROVIDER)
PROVIDER_RATE_LIMITS_SCHEMA = rate_limits_schema([Scope.PROVIDER, Scope.MODEL], Scope.PROVIDER)
HOUSE_RATE_LIMITS_SCHEMA = rate_limits_schema(Scope)
_of_tenants = jsonschema_rs.validator_for(RATE_LIMITS_SCHEMA)
_of_providers = jsonschema_rs.validator_for(PROVIDER_RATE_LIMITS_SCHEMA)
_of_house = jsonschema_rs.validator_for(HOUSE_RATE_LIMITS_SCHEMA)

DEFAULT_RATE_LIMITS: list[dict[str, Any]] = [
    {"scope": "ip", "limit": 60, "per_seconds": 60, "operations": ["chat.completions"]},
    {"scope": "ip", "limit": 30, "per_seconds": 60, "operations": ["embeddings"]},
    {
        "scope": "ip",
        "limit": 100,
        "per_seconds": 60,
        "operations": ["!chat.completions", "!embeddings"],
    },
    {"scope": "key", "limit": 60, "per_seconds": 60},
    {"scope": "key", "limit": 1000, "per_seconds": 3600},
]


class ItemFault(ValidationError):
    """What is wrong in a list, and where: `path` leads to it, `text` says it without that."""

    def __init__(self, path: tuple[str | int, ...], text: str, whole: str = "") -> None:
        super().__init__(f"{'/'.join(map(str, path)) or whole}: {text}")
        self.path = path
        self.text = text


def check_items(value: Any, validator: jsonschema_rs.Validator, whole: str) -> None:
    """Raises ItemFault for the first place that is not as the schema says."""
    for error in validator.iter_errors(value):
        raise ItemFault(tuple(error.instance_path), error.message, whole)


def validate_rate_limits(value: Any) -> None:
    """A plan's, tenant's or key's list; None is none of its own. Raises ItemFault, as all of
    these do, for the first fault."""
    if value is not None:
        _check(value, _of_tenants)


def validate_provider_rate_limits(value: Any) -> None:
    """A provider's list: scope model, or provider, said or not."""
    _check(value, _of_providers)


def validate_house_rate_limits(value: Any) -> None:
    """The house's list: any scope."""
    _check(value, _of_house)


def _check(value: Any, validator: jsonschema_rs.Validator) -> None:
    check_items(value, validator, "rate_limits")
    for index, item in enumerate(value):
        at_once = item.get("metric") == LimitMetric.CONCURRENCY
        if at_once == ("per_seconds" in item):
            raise ItemFault(
                (index,),
                '"concurrency" is counted at every moment: leave out "per_seconds".'
                if at_once
                else 'Say "per_seconds", the length of the span.',
            )


_SPANS = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}


def covers(operations: frozenset[str], operation: str) -> bool:
    """Whether an operation is among these: empty for all; with a leading `!` one is left out."""
    if not operations:
        return True
    if f"!{operation}" in operations:
        return False
    return operation in operations or all(name.startswith("!") for name in operations)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Never more than `limit` of `metric` in any span of `per_seconds`, per `scope`.

    Of concurrency never more than `limit` at any moment; `per_seconds` is 0. `operations` is
    empty for all; a name with a leading `!` is left out.
    """

    scope: Scope
    limit: int
    per_seconds: int
    operations: frozenset[str] = frozenset()
    metric: LimitMetric = LimitMetric.REQUESTS
    name: str = field(init=False, compare=False)
    key: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """`name` is the policy's name in headers and problems, such as `key-minute`, `ip-10s`,
        `key-minute-tokens` or `key-concurrency`; `key` tells this limit from all others."""
        of = "" if self.metric is LimitMetric.REQUESTS else self.metric.value
        at_once = self.metric is LimitMetric.CONCURRENCY
        span = "" if at_once else _SPANS.get(self.per_seconds, f"{self.per_seconds}s")
        operations = ",".join(sorted(self.operations))
        key = f"{self.scope}/{self.limit}/{self.per_seconds}/{operations}"
        object.__setattr__(self, "name", "-".join(filter(None, (self.scope.value, span, of))))
        object.__setattr__(self, "key", f"{of}/{key}" if of else key)

    def covers(self, operation: str) -> bool:
        return covers(self.operations, operation)


def compile_rate_limits(
    value: Iterable[dict[str, Any]], implied: Scope | None = None
) -> tuple[RateLimit, ...]:
    """Limits from their checked JSON form, each once: the same one twice would count a call
    twice. `implied` is the scope left unsaid."""
    limits = (
        RateLimit(
            scope=Scope(item.get("scope", implied) if implied else item["scope"]),
            limit=int(item["limit"]),  # to the schema, 60.0 is a whole number too
            per_seconds=int(item.get("per_seconds", 0)),
            operations=frozenset(item.get("operations", ())),
            metric=LimitMetric(item.get("metric", LimitMetric.REQUESTS)),
        )
        for item in value
    )
    return tuple(dict.fromkeys(limits))
