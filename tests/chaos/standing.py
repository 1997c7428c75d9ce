"""How counters stand when nothing runs any more: nothing reserved, no slot taken, and used what
the ledger says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import redis

from tests.services.system import Site

PREFIX = "{patchbay}:"
SLOTS = 8  # of a tenant of the plan `held`
# The provider's slots are more than die before one life is long enough to bury the dead.
HELD_PROVIDER = """
providers:
  - slug: lab
    rate_limits: [{metric: concurrency, limit: 5000}]
    quotas:
      - {metric: requests, window: day, limit: 1000000}
      - {metric: tokens, window: lifetime, limit: 1000000000}
"""
# Hard quotas of everything that a call counts, and slots.
HELD_PLAN = f"""
plans:
  - slug: held
    rate_limits: [{{scope: tenant, metric: concurrency, limit: {SLOTS}}}]
    quotas:
      - {{scope: tenant, metric: requests, window: day, limit: 1000000}}
      - {{scope: tenant, metric: tokens, window: day, limit: 1000000000}}
      - {{scope: tenant, metric: cost, window: month, limit_usd: "10000"}}
"""


def held_tenants(*slugs: str, mode: str = "live") -> str:
    """Tenants of that plan, to be applied; their keys are named like the mode."""
    each = "{{slug: {0}, plan: held, projects: [{{slug: default}}], keys: [{{name: {1}, mode: {1}, scopes: ['*']}}]}}"
    return "".join(["tenants:\n", *(f"  - {each.format(slug, mode)}\n" for slug in slugs)])


def told(site: Site, url: str, key: str) -> dict[str, tuple[int, int]]:
    """What the gateway says of a tenant's quotas, by metric: used and reserved."""
    status, body = site.get(f"{url}/api/v1/quotas", Authorization=f"Bearer {key}")
    assert status == 200, body
    return {each["metric"]: (each["used"], each["reserved"]) for each in json.loads(body)["data"]}


def by_ledger(site: Site, tenant: str) -> dict[str, tuple[int, int]]:
    """What `told` must say at rest."""
    (row,) = site.rows(
        "SELECT count(*) AS requests, coalesce(sum(input_tokens + output_tokens), 0) AS tokens,"
        " coalesce(sum(charge), 0) AS cost FROM usage_usagerecord"
        " JOIN tenants_tenant ON tenants_tenant.id = tenant_id WHERE slug = ?",
        tenant,
    )
    return {metric: (int(used), 0) for metric, used in row.items()}


def provider_by_ledger(site: Site, provider: str) -> dict[str, int]:
    """What a provider was asked in all; of calls of one attempt each."""
    (row,) = site.rows(
        "SELECT count(*) AS requests, coalesce(sum(input_tokens + output_tokens), 0) AS tokens"
        " FROM usage_usagerecord WHERE provider = ? AND mode = 'live'",
        provider,
    )
    return {metric: int(used) for metric, used in row.items()}


class Store:
    """What Valkey holds of the counters, read key by key, beside our own code."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def unsettled(self) -> dict[str, Any]:
        """Holds, slots and reservations that are still there, by key; empty at rest."""
        found: dict[str, Any] = {}
        for key in self._keys("holds:*"):
            found[key] = self._client.hlen(key)
        for key in self._keys("slots:*"):
            found[key] = self._client.get(key)
        for key, counters in self._quotas():
            reserved = {name: n for name, n in counters.items() if name.endswith(":reserved") and n}
            if reserved:
                found[key] = reserved
        return {key: what for key, what in found.items() if what}

    def used(self, subject: str) -> dict[str, int]:
        """By metric, of the quotas whose keys begin so (one of a metric)."""
        return {
            name.removesuffix(":used"): n
            for key, counters in self._quotas()
            if key.startswith(f"{PREFIX}quota:{subject}:")
            for name, n in counters.items()
            if name.endswith(":used")
        }

    def _quotas(self) -> Iterator[tuple[str, Mapping[str, int]]]:
        for key in self._keys("quota:*"):
            held: Mapping[bytes, bytes] = self._client.hgetall(key)  # type: ignore[assignment]
            yield key, {name.decode(): int(n) for name, n in held.items()}

    def _keys(self, pattern: str) -> list[str]:
        return [key.decode() for key in self._client.scan_iter(f"{PREFIX}{pattern}", count=1000)]
