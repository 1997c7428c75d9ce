"""How providers stand just now: their breakers, and what the last 24 hours came to."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from django.utils import timezone

from api.caches import ratio
from api.dashboard.figures import DAY, this_minute
from api.vitals import WORKER
from providers.breaker import FORCED, State
from providers.breakers import OF_A_TENANT
from providers.models import BreakerOverride, Provider
from providers.snapshot import allowances
from usage.attempt_sums import attempts_since
from usage.demand import quotas_of_provider
from usage.summaries import latencies

NONE = "–"


class Fullest(NamedTuple):
    """Of a provider's quotas the one of which most is used; `percent` of it, reserved included."""

    name: str
    percent: int


@dataclass(frozen=True, slots=True)
class Standing:
    """One provider's. `error_rate` and `quality` are 0…1, `p95` ms, `cost` µUSD; None: unknown."""

    attempts: int = 0
    failures: int = 0
    error_rate: float | None = None
    p95: int | None = None
    cost: int | None = None
    quality: float | None = None

    def told(self) -> dict[str, str]:
        """Each figure for people."""
        share = NONE if self.error_rate is None else f"{self.error_rate:.1%} of {self.attempts:,}"
        return {
            "failed": share,
            "p95": NONE if self.p95 is None else f"{self.p95:,} ms",
            "cost": NONE if self.cost is None else f"${self.cost / 1_000_000:,.2f}",
            "quality": NONE if self.quality is None else f"{self.quality:.2f}",
        }


def states(said: Iterable[BreakerOverride] | None = None) -> dict[str, State]:
    """Breakers by name: as this worker knows them, and staff's word, which holds for all: `said`,
    where it was read already. One that is not here is CLOSED, or was never needed."""
    rows = BreakerOverride.latest(timezone.now()) if said is None else said
    forced = {row.name: State(row.state) for row in rows if row.state in FORCED}
    live = {
        name: State.CLOSED if state in FORCED else state  # else its word has just ended
        for name, state in WORKER.breakers().items()
        if not name.startswith(OF_A_TENANT)
    }
    return live | forced


def standings() -> dict[str, Standing]:
    """By slug, of all that were tried in the last 24 hours, or whose answers were judged."""
    found = {row["provider"]: _standing(row) for row in attempts_since(this_minute() - DAY)}
    for slug, quality in _qualities().items():
        found[slug] = replace(found.get(slug, Standing()), quality=quality)
    return found


def _standing(row: Mapping[str, Any]) -> Standing:
    return Standing(
        row["attempts"],
        row["failures"],
        ratio(row["failures"], row["attempts"]),
        latencies({**row, "calls": row["attempts"]})["p95"],
        row["cost"],
    )


def _qualities() -> dict[str, float]:
    """The mean over a provider's targets, each counting as much as it was called."""
    sums: dict[str, tuple[float, float]] = {}
    for name, score in WORKER.scores().items():
        quality = score["quality"]
        if quality is not None and not name.startswith(OF_A_TENANT):
            slug, weight = name.partition("/")[0], max(score["calls"], 1.0)
            worth, calls = sums.get(slug, (0.0, 0.0))
            sums[slug] = worth + weight * quality, calls + weight
    return {slug: worth / calls for slug, (worth, calls) in sums.items()}


def fullest(rows: Iterable[Provider]) -> dict[str, Fullest]:
    """By slug. A counter that nobody used since the gateways began is left out: asking the
    ledger for each would take a query each."""
    now = time.time()
    claims = [
        (allowance.slug, claim)
        for allowance in allowances(rows)
        for claim in quotas_of_provider(allowance, now)
    ]
    used = WORKER.counters([claim for _, claim in claims])
    found: dict[str, Fullest] = {}
    for (slug, claim), counter in zip(claims, used, strict=True):
        if counter is not None and claim.quota.limit:
            percent = 100 * sum(counter) // claim.quota.limit
            if slug not in found or percent > found[slug].percent:
                found[slug] = Fullest(claim.quota.name, percent)
    return found
