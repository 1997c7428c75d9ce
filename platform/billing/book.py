"""The price book: all price versions in memory, and which one is in force when.

A version that is announced for later takes effect by itself at its moment, for nothing has to
be loaded then. The data path keeps a book beside its snapshot (gateway/live.py).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter

from billing import models
from providers import amounts
from providers.call import Usage
from providers.prices import Prices

Thing = tuple[str, str, str]  # provider's slug, model id, operation


@dataclass(frozen=True, slots=True)
class PriceVersion:
    """`id` is what ledger rows keep; None when no price is known. `since` is unix seconds."""

    id: int | None = None
    prices: Prices = field(default_factory=Prices)
    since: float = 0.0


UNKNOWN = PriceVersion()
MAX_REMEMBERED = 10_000
_since = attrgetter("since")


class PriceBook:
    """Versions by what they are the price of."""

    def __init__(self, versions: Iterable[tuple[Thing, PriceVersion]] = ()) -> None:
        by_thing: dict[Thing, list[PriceVersion]] = {}
        for thing, version in versions:
            by_thing.setdefault(thing, []).append(version)
        self._versions: Mapping[Thing, list[PriceVersion]] = {
            thing: sorted(found, key=_since) for thing, found in by_thing.items()
        }
        self._changes = sorted({each.since for found in by_thing.values() for each in found})
        self._latest: dict[Thing, tuple[float, float, PriceVersion]] = {}

    def price(self, provider: str, model: str, operation: str, at: float) -> PriceVersion:
        """The version in force at `at` (unix seconds): the model's own, or else the provider's
        for all models; of each first the operation's. UNKNOWN where there is none."""
        thing = (provider, model, operation)
        known = self._latest.get(thing)
        if known is None or not known[0] <= at < known[1]:
            if len(self._latest) >= MAX_REMEMBERED:
                self._latest.clear()
            known = self._latest[thing] = (*self._span(at), self._price(*thing, at))
        return known[2]

    def _span(self, at: float) -> tuple[float, float]:
        """From the last change of any price until the next one."""
        index = bisect_right(self._changes, at)
        return (
            self._changes[index - 1] if index else -math.inf,
            self._changes[index] if index < len(self._changes) else math.inf,
        )

    def _price(self, provider: str, model: str, operation: str, at: float) -> PriceVersion:
        names = (model, models.EVERY_MODEL) if model else ("",)
        for name in names:
            for of in (operation, ""):
                versions = self._versions.get((provider, name, of))
                if versions is None:
                    continue
                index = bisect_right(versions, at, key=_since)
                if index and versions[index - 1].prices.known:
                    return versions[index - 1]
        return UNKNOWN

    def worst(
        self, provider: str, model: str, operation: str, usage: Usage, at: float
    ) -> int | None:
        """µUSD that a call which uses no more than `usage` will not pass, before any markup.
        None when the price of something in it is not known."""
        prices = self.price(provider, model, operation, at).prices
        if operation in amounts.OF:
            usage = prices.billed(usage)
        return prices.worst(usage) if prices.covers(usage) else None

    def differing(self, other: PriceBook) -> set[tuple[str, str]]:
        """The providers, each with a model or with "" for all, of which `other` tells otherwise."""
        ours, theirs = self._versions, other._versions
        return {
            (provider, "" if model == models.EVERY_MODEL else model)
            for provider, model, operation in ours.keys() | theirs.keys()
            if ours.get((provider, model, operation)) != theirs.get((provider, model, operation))
        }


def load() -> PriceBook:
    """All versions, the past ones included (blocking)."""
    rows = models.Price.objects.select_related("provider").iterator(chunk_size=2000)
    return PriceBook(
        (
            (row.provider.slug, row.model_id, row.operation),
            PriceVersion(row.pk, row.prices, row.effective_from.timestamp()),
        )
        for row in rows
    )
