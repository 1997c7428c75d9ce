"""The first level: a worker's own entries, within a bound in bytes; what was used longest ago
goes first.

Not cachebox: docs/adr/0013-a-cache-memory-of-our-own.md says why.
"""

from __future__ import annotations

from collections import OrderedDict

from cache.entry import Entry

LARGEST_PART = 8  # an entry above an eighth of the bound would push out all the others


class Memory:
    """`limit` and `size` in bytes, of all that is kept here, overhead included. `evicted` counts
    what had to go for others to come."""

    __slots__ = ("_entries", "evicted", "limit", "size")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.evicted = 0
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Entry | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def peek(self, key: bytes) -> Entry | None:
        """Any thread may ask, and it is no use of the entry."""
        return self._entries.get(key)

    def entries(self) -> list[tuple[bytes, Entry]]:
        """As they are now."""
        return list(self._entries.items())

    def put(self, key: bytes, entry: Entry) -> None:
        self.drop(key)
        if entry.size * LARGEST_PART > self.limit:
            return
        self._entries[key] = entry
        self.size += entry.size
        while self.size > self.limit:
            self.size -= self._entries.popitem(last=False)[1].size
            self.evicted += 1

    def drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= entry.size

    def clear(self) -> None:
        self._entries.clear()
        self.size = 0
