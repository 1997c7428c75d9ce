"""What answers from the cache saved since this worker began, and which are asked for most.

For staff to read: bounded whatever is asked, and a hit pays two look-ups and a few additions.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter

from cache.entry import Entry
from usage.record import Record

MOST_PAIRS = 10_000
MOST_ASKED = 4096
OTHERS = 0  # no tenant's id: all of an operation for which there was no room


@dataclass(slots=True)
class Saved:
    """By fresh answers: `cost` is the µUSD that the provider took for each when it was asked,
    `ms` how long that took, `bytes` those of the bodies as clients had them or nearly so."""

    hits: int = 0
    cost: int = 0
    ms: int = 0
    bytes: int = 0

    def more(self, other: Saved) -> None:
        self.hits += other.hits
        self.cost += other.cost
        self.ms += other.ms
        self.bytes += other.bytes


@dataclass(slots=True)
class Asked:
    """An answer's key, and the shape of the request it is for: how many `fields` that has, never
    what they are."""

    key: bytes
    operation: str
    route: str
    fields: int
    hits: int = 0


class Savings:
    """By operation and tenant, and by key. Any thread may read."""

    def __init__(self) -> None:
        self._saved: dict[tuple[str, int], Saved] = {}
        self._asked: dict[bytes, Asked] = {}

    def add(self, key: bytes, record: Record, fields: int, entry: Entry) -> None:
        """A call was answered with a fresh entry."""
        pair, origin = (record.operation, record.tenant_id), entry.origin
        saved = self._saved.get(pair) or self._begin(pair)
        saved.hits += 1
        saved.cost += origin.cost
        saved.ms += origin.took_ms
        saved.bytes += entry.plain_size
        asked = self._asked.get(key) or self._first(key, record, fields)
        asked.hits += 1

    def saved(self) -> Mapping[tuple[str, int], Saved]:
        return dict(self._saved)

    def most_asked(self, most: int) -> list[Asked]:
        """The one with the most hits first."""
        return heapq.nlargest(most, list(self._asked.values()), key=attrgetter("hits"))

    def _begin(self, pair: tuple[str, int]) -> Saved:
        if len(self._saved) >= MOST_PAIRS:
            pair = pair[0], OTHERS
        return self._saved.setdefault(pair, Saved())

    def _first(self, key: bytes, record: Record, fields: int) -> Asked:
        if len(self._asked) >= MOST_ASKED:
            self._make_room()
        asked = self._asked[key] = Asked(key, record.operation, record.route, fields)
        return asked

    def _make_room(self) -> None:
        """For half of them: those that are asked for most stay, with their counts."""
        kept = self.most_asked(MOST_ASKED // 2)
        self._asked = {asked.key: asked for asked in kept}
