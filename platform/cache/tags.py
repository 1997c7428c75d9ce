"""Invalidation by tag, in one step however many entries have it.

A worker counts the invalidations it hears of: that count is its *moment*. An entry remembers the
moment before its answer was asked for, and a tag the moment of its last invalidation; an entry
with a tag whose moment is the later one is no longer valid. So an answer that was asked for
before an invalidation and comes after it is refused too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from cache.entry import Entry

ID_BYTES = 16
MOST_TAGS = 100_000
MOST_IDS = 50_000


def of_key(key: bytes) -> bytes:
    """The id that an answer has of its own: by it one answer is invalidated, as others are by a
    tag. It tells nothing about the request either."""
    return key[:ID_BYTES]


class TagIds:
    """A tag's id: of one length whatever its name, and telling nothing about it."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.blake2b(secret, digest_size=32, person=b"patchbay cache t").digest()
        self._known: dict[str, bytes] = {}

    def of(self, names: Iterable[str]) -> tuple[bytes, ...]:
        """In order, each once. The same id is one object: entries share it."""
        return tuple(sorted({self._known.get(name) or self._make(name) for name in names}))

    def _make(self, name: str) -> bytes:
        if len(self._known) >= MOST_IDS:
            self._known.clear()
        made = hashlib.blake2b(name.encode(), key=self._secret, digest_size=ID_BYTES).digest()
        self._known[name] = made
        return made


class Stamps:
    """One worker's moments. Of the tags invalidated longest ago it forgets which they were, and
    then takes all entries of that time for invalid."""

    def __init__(self, most: int = MOST_TAGS) -> None:
        self.moment = 0
        self._most = most
        self._floor = 0
        self._stamps: dict[bytes, int] = {}  # the oldest first

    def valid(self, entry: Entry) -> bool:
        """Whether no tag of it was invalidated since its answer was asked for."""
        made = entry.made
        if made >= self.moment:
            return True
        if made < self._floor:
            return False
        stamps = self._stamps
        return not any([stamps.get(tag, 0) > made for tag in entry.tags])

    def valid_for(self, entry: Entry, moment: int) -> bool:
        """Whether one who asked at `moment` may have it. What was asked for later than it came
        is what it wants, whatever has been invalidated since."""
        return entry.made >= moment or self.valid(entry)

    def invalidate(self, ids: Iterable[bytes]) -> None:
        self.moment += 1
        for tag in ids:
            self._stamps.pop(tag, None)
            self._stamps[tag] = self.moment
        while len(self._stamps) > self._most:
            oldest = next(iter(self._stamps))
            self._floor = self._stamps.pop(oldest)

    def invalidate_all(self) -> None:
        self.moment += 1
        self._floor = self.moment
        self._stamps.clear()
