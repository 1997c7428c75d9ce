"""Rate limits as staff write them: a JSON list, checked by one schema."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import jsonschema_rs
from django.core.exceptions import ValidationError


class Scope(enum.StrEnum):
    """Who shares one allowance."""

    IP = "ip"
    KEY = "key"
    USER = "user"
    PROJECT = "project"
    TENANT = "tenant"


RATE_LIMITS_SCHEMA = {
    "type": "array",
    "maxItems": 50,
    "items": {
        "type": "object",
        "required": ["scope", "limit", "per_seconds"],
        "additionalProperties": False,
        "properties": {
            "scope": {"enum": [scope.value for scope in Scope]},
            "limit": {"type": "integer", "minimum": 1, "maximum": 1_000_000_000},
            "per_seconds": {"type": "integer", "minimum": 1, "maximum": 31_622_400},
            "operations": {"type": "array", "items": {"type": "string", "minLength": 1}},
        },
    },
}
_validator = jsonschema_rs.validator_for(RATE_LIMITS_SCHEMA)

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


def validate_rate_limits(value: Any) -> None:
    """Raises Django's ValidationError with the place of the first fault."""
    if value is None:
        return
    for error in _validator.iter_errors(value):
        path = "/".join(str(part) for part in error.instance_path)
        raise ValidationError(f"{path or 'rate_limits'}: {error.message}")


_SPANS = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Never more than `limit` calls in any span of `per_seconds`, per `scope`.

    `operations` is empty for all; a name with a leading `!` is left out.
    """

    scope: Scope
    limit: int
    per_seconds: int
    operations: frozenset[str] = frozenset()
    name: str = field(init=False, compare=False)
    key: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """`name` is the policy's name in headers and problems, such as `key-minute` or
        `ip-10s`; `key` tells this limit from all others."""
        span = _SPANS.get(self.per_seconds, f"{self.per_seconds}s")
        operations = ",".join(sorted(self.operations))
        object.__setattr__(self, "name", f"{self.scope}-{span}")
        object.__setattr__(
            self, "key", f"{self.scope}/{self.limit}/{self.per_seconds}/{operations}"
        )

    def covers(self, operation: str) -> bool:
        if not self.operations:
            return True
        if f"!{operation}" in self.operations:
            return False
        return operation in self.operations or all(o.startswith("!") for o in self.operations)


def compile_rate_limits(value: list[dict[str, Any]]) -> tuple[RateLimit, ...]:
    """Limits from their checked JSON form, each once: the same one twice would count a call
    twice."""
    limits = (
        RateLimit(
            scope=Scope(item["scope"]),
            limit=int(item["limit"]),  # to the schema, 60.0 is a whole number too
            per_seconds=int(item["per_seconds"]),
            operations=frozenset(item.get("operations", ())),
        )
        for item in value
    )
    return tuple(dict.fromkeys(limits))
