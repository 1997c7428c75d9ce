"""Quotas as staff write them: a JSON list, checked by one schema.

A quota bounds how much is used in a calendar window (tenants/windows.py); a rate limit
(tenants/limits.py) bounds any short span.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import jsonschema_rs

from lib.money import to_micro
from lib.words import Word
from tenants.limits import MAX_ITEMS, OPERATIONS_SCHEMA, ItemFault, check_items, covers
from tenants.windows import Window


class Metric(Word):
    """What is counted. Cost is µUSD, credits are a data provider's units."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    COST = "cost"
    CREDITS = "credits"
    BYTES = "bytes"


class QuotaScope(enum.StrEnum):
    """Who shares one allowance. A route's is each tenant's own."""

    GLOBAL = "global"
    PROVIDER = "provider"
    TENANT = "tenant"
    PROJECT = "project"
    KEY = "key"
    USER = "user"
    ROUTE = "route"


MAX_LIMIT = 2**53 - 1  # the largest integer that every store and client keeps exactly
MAX_WEIGHT = 1_000_000
# From a change of quotas until no call is left that began before it: workers reload within one
# second, a call ends by its deadline, and clocks differ a little.
IN_FORCE_SECONDS = 75
WEIGHTED = frozenset({Metric.REQUESTS, Metric.CREDITS})
EVERY = "*"  # in weights: every operation that is not named


def quotas_schema(scopes: Iterable[QuotaScope], implied: QuotaScope | None = None) -> Any:
    """The JSON Schema of a list with only these scopes, of which one may be left unsaid."""
    return {
        "type": "array",
        "maxItems": MAX_ITEMS,
        "items": {
            "type": "object",
            "required": ["metric", "window"] if implied else ["scope", "metric", "window"],
            "additionalProperties": False,
            "properties": {
                "scope": {"enum": [scope.value for scope in scopes]},
                "metric": {"enum": [metric.value for metric in Metric]},
                "window": {"enum": [window.value for window in Window]},
                "limit": {"type": "integer", "minimum": 0, "maximum": MAX_LIMIT},
                "limit_usd": {"type": "string", "pattern": r"^[0-9]{1,10}(\.[0-9]{1,6})?$"},
                "hard": {"type": "boolean"},
                "thresholds": {
                    "type": "array",
                    "maxItems": 10,
                    "items": {"type": "integer", "minimum": 1, "maximum": 100},
                },
                "weights": {
                    "type": "object",
                    "maxProperties": 500,
                    "propertyNames": {"minLength": 1},
                    "additionalProperties": {
                        "type": "integer",
                        "minimum": 0,
                        "maximum": MAX_WEIGHT,
                    },
                },
                "operations": OPERATIONS_SCHEMA,
            },
        },
    }


TENANT_SCOPES = (
    QuotaScope.TENANT,
    QuotaScope.PROJECT,
    QuotaScope.KEY,
    QuotaScope.USER,
    QuotaScope.ROUTE,
)
QUOTAS_SCHEMA = quotas_schema(TENANT_SCOPES)
KEY_QUOTAS_SCHEMA = quotas_schema([QuotaScope.KEY], QuotaScope.KEY)
PROVIDER_QUOTAS_SCHEMA = quotas_schema([QuotaScope.PROVIDER], QuotaScope.PROVIDER)
HOUSE_QUOTAS_SCHEMA = quotas_schema(QuotaScope)
_of_tenants = jsonschema_rs.validator_for(QUOTAS_SCHEMA)
_of_keys = jsonschema_rs.validator_for(KEY_QUOTAS_SCHEMA)
_of_providers = jsonschema_rs.validator_for(PROVIDER_QUOTAS_SCHEMA)
_of_house = jsonschema_rs.validator_for(HOUSE_QUOTAS_SCHEMA)


def validate_quotas(value: Any) -> None:
    """A plan's or tenant's list. Raises ItemFault, as all of these do, for the first fault."""
    _check(value, _of_tenants)


def validate_key_quotas(value: Any) -> None:
    """A key's list: scope key, said or not."""
    _check(value, _of_keys)


def validate_provider_quotas(value: Any) -> None:
    """A provider's list: scope provider, said or not."""
    _check(value, _of_providers)


def validate_house_quotas(value: Any) -> None:
    """The house's list: any scope."""
    _check(value, _of_house)


def _check(value: Any, validator: jsonschema_rs.Validator) -> None:
    check_items(value, validator, "quotas")
    for index, item in enumerate(value):
        _check_limit(item, index)
        thresholds = item.get("thresholds", [])
        if any(high <= low for low, high in pairwise(thresholds)):
            raise ItemFault((index, "thresholds"), "Write them in increasing order, each once.")
        if item.get("weights") and item["metric"] not in WEIGHTED:
            raise ItemFault((index, "weights"), "Only requests and credits can be weighted.")


def _check_limit(item: dict[str, Any], index: int) -> None:
    if ("limit" in item) == ("limit_usd" in item):
        raise ItemFault((index,), 'Say how much: "limit" or, for cost, "limit_usd".')
    if "limit_usd" not in item:
        return
    if item["metric"] != Metric.COST:
        raise ItemFault((index, "limit_usd"), 'Only a quota of cost is in USD; say "limit".')
    if to_micro(item["limit_usd"]) > MAX_LIMIT:
        raise ItemFault((index, "limit_usd"), f"Must be at most {MAX_LIMIT} µUSD.")


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `limit` of `metric` in each `window`, per `scope`; unless `hard`, it is only told.

    `thresholds` are per cent of the limit. `weights` are what one request or credit of an
    operation counts for, `*` any other's; without it that is 1. `operations` is empty for all; a
    name with a leading `!` is left out. `time_zone` is its windows'; empty: the caller's.
    """

    scope: QuotaScope
    metric: Metric
    window: Window
    limit: int
    hard: bool = True
    thresholds: tuple[int, ...] = (50, 80, 100)
    weights: frozenset[tuple[str, int]] = frozenset()
    operations: frozenset[str] = frozenset()
    time_zone: str = ""
    name: str = field(init=False, compare=False)
    counter: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """`name` is the policy's name in headers and problems, such as `key-cost-month`;
        `counter` is what quotas share that count alike, whatever their limits."""
        object.__setattr__(self, "name", f"{self.scope}-{self.metric}-{self.window}")
        object.__setattr__(self, "counter", self.metric + self._variant())

    def weight(self, operation: str) -> int:
        weights = dict(self.weights)
        return weights.get(operation, weights.get(EVERY, 1))

    def covers(self, operation: str) -> bool:
        return covers(self.operations, operation)

    def _variant(self) -> str:
        other = dict(self.weights).get(EVERY, 1)
        weights = sorted(
            (name, weight)
            for name, weight in self.weights
            if weight != (1 if name == EVERY else other)
        )
        if not weights and not self.operations:
            return ""
        text = json.dumps([weights, sorted(self.operations)])
        return f"-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"


def compile_quotas(
    value: Iterable[dict[str, Any]], implied: QuotaScope | None = None
) -> tuple[Quota, ...]:
    """Quotas from their checked JSON form, each once. `implied` is the scope left unsaid."""
    quotas = (
        Quota(
            scope=QuotaScope(item.get("scope", implied) if implied else item["scope"]),
            metric=Metric(item["metric"]),
            window=Window(item["window"]),
            limit=to_micro(item["limit_usd"]) if "limit_usd" in item else int(item["limit"]),
            hard=item.get("hard", True),
            thresholds=tuple(int(part) for part in item.get("thresholds", (50, 80, 100))),
            weights=frozenset((name, int(w)) for name, w in item.get("weights", {}).items()),
            operations=frozenset(item.get("operations", ())),
        )
        for item in value
    )
    return tuple(dict.fromkeys(quotas))


def merge_quotas(general: Sequence[Quota], particular: Sequence[Quota]) -> tuple[Quota, ...]:
    """Both, but of those about the same thing only the particular ones."""
    said = {_about(quota) for quota in particular}
    return (*(quota for quota in general if _about(quota) not in said), *particular)


def _about(quota: Quota) -> tuple[Any, ...]:
    return quota.scope, quota.metric, quota.window, quota.operations
