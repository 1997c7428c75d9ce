"""What will be asked for again: learned from how many asked for it at which hour of the day.

Pure: every moment is passed in, in unix seconds. Keys are the cache's; what a question is, only
who asks it again needs to know. Memory is bounded: of those seen, the ones asked for least often
are forgotten whenever there are twice as many as are kept (as in lossy counting).
"""

from __future__ import annotations

import heapq
from array import array
from dataclasses import dataclass
from typing import Any

HOUR, DAY = 3600.0, 86_400.0
HOURS = 24
MOST = 2048  # keys that are kept; up to twice as many for a while
LATEST = 0.5  # the last day's part in an hour's mean; the day before it has half of the rest
TRUSTED = 1800.0  # what earlier days say of an hour counts like so many seconds of it
LONGEST_SILENCE = 7 * HOURS  # hours after which nothing is left of a key's past


@dataclass(slots=True)
class Gain:
    """`hits`: calls that found an answer which warming kept at hand; but for it, the first of each
    such span would have found it stale, or gone, and have had it fetched. `useful`: spans with such
    a first call, and so what warming gained."""

    hits: int = 0
    useful: int = 0


class Askers:
    """Those of one key: their mean number in each hour of the day (UTC), and this hour's so far."""

    __slots__ = ("_count", "_first", "_hour", "_means", "question", "unused", "warm")

    def __init__(self, question: Any, now: float) -> None:
        self.question = question
        self.warm = (0.0, 0.0)  # while it is at hand thanks to warming
        self.unused = False
        self._first = now
        self._hour = int(now // HOUR)
        self._count = 0
        self._means = array("f", bytes(4 * HOURS))

    def note(self, now: float) -> None:
        self._reach(now)
        self._count += 1

    def weight(self, now: float) -> float:
        self._reach(now)
        return sum(self._means) + self._count

    def expected(self, since: float, until: float) -> float:
        """How many will ask; of a span longer than a day, by what one day brings."""
        self._reach(since)
        days = max(1.0, (until - since) / DAY)
        at, until = since, min(until, since + DAY)
        askers = 0.0
        while at < until:
            hour = int(at // HOUR)
            end = min(until, (hour + 1) * HOUR)
            askers += self._rate(hour, since) * (end - at)
            at = end
        return askers * days

    def _rate(self, hour: int, now: float) -> float:
        """Askers a second. What is not known of an hour yet is as it is now."""
        is_known = hour - HOURS >= self._first // HOUR
        mean = self._means[hour % HOURS] / HOUR if is_known else 0.0
        if is_known and hour > self._hour:
            return mean
        if hour > self._hour:
            return self._rate(self._hour, now)
        begun = max(self._hour * HOUR, self._first)
        return (TRUSTED * mean + self._count) / (TRUSTED + max(0.0, now - begun))

    def _reach(self, now: float) -> None:
        """Close the hours that are over."""
        hour = int(now // HOUR)
        if hour - self._hour > LONGEST_SILENCE:
            self._first, self._hour, self._count = now, hour, 0
            self._means = array("f", bytes(4 * HOURS))
        while self._hour < hour:
            place = self._hour % HOURS
            self._means[place] += LATEST * (self._count - self._means[place])
            self._hour, self._count = self._hour + 1, 0


class Foresight:
    """All that is known of keys, and when each is to be looked at again."""

    def __init__(self, most: int = MOST) -> None:
        self.gain = Gain()
        self._most = most
        self._known: dict[bytes, Askers] = {}
        self._planned: dict[bytes, float] = {}
        self._queue: list[tuple[float, bytes]] = []  # of what is planned, and some that is not

    def __len__(self) -> int:
        return len(self._known)

    def note(self, key: bytes, question: Any, now: float) -> None:
        """Somebody asked for it. From the second time on it is worth a look."""
        askers = self._known.get(key)
        if askers is None:
            if len(self._known) >= 2 * self._most:
                self._forget_half(now)
            askers = self._known[key] = Askers(question, now)
            askers.note(now)
            return
        askers.note(now)
        since, until = askers.warm
        if since <= now < until:
            self.gain.hits += 1
            self.gain.useful += askers.unused
            askers.unused = False
        if key not in self._planned:
            self.plan(key, now)

    def question(self, key: bytes) -> Any:
        """None for a key that is not known, or not any more."""
        askers = self._known.get(key)
        return askers.question if askers is not None else None

    def expected(self, key: bytes, since: float, until: float) -> float:
        """How many will ask for it."""
        askers = self._known.get(key)
        return askers.expected(since, until) if askers is not None else 0.0

    def warmed(self, key: bytes, since: float, until: float) -> None:
        """It would have been stale, or gone, from `since` on, and is not until then."""
        askers = self._known.get(key)
        if askers is not None:
            askers.warm, askers.unused = (since, until), True

    def plan(self, key: bytes, at: float) -> None:
        """Have a look at it then, and no earlier."""
        if key in self._known:
            self._planned[key] = at
            heapq.heappush(self._queue, (at, key))

    def due(self, now: float) -> list[bytes]:
        """What is to be looked at, the most urgent first. Each is told once."""
        found = []
        while self._queue and self._queue[0][0] <= now:
            at, key = heapq.heappop(self._queue)
            if self._planned.get(key) == at:
                del self._planned[key]
                found.append(key)
        return found

    def _forget_half(self, now: float) -> None:
        weights = {key: askers.weight(now) for key, askers in self._known.items()}
        kept = heapq.nlargest(self._most, weights, key=weights.__getitem__)
        self._known = {key: self._known[key] for key in kept}
        self._planned = {key: at for key, at in self._planned.items() if key in self._known}
        self._queue = [(at, key) for key, at in self._planned.items()]
        heapq.heapify(self._queue)
