"""Questions by what they mean: which earlier one of the same tenant's is nearly the same.

Only the text of a conversation's last message is compared; all else must be equal, which the
name of a *shelf* sees to. The index says under which key the answer lies. Whether it still does,
and may be served, is for the cache itself to say. Each worker has its own index, of what it
fetched itself.
"""

from __future__ import annotations

import base64
import binascii
import heapq
import math
import sys
from array import array
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter, mul
from typing import Any, NamedTuple, TypeAlias

from cache.lexical import facts, is_readable, told_apart

LONGEST = 2000  # characters of a question: a longer one's vector says little of its details
MOST_ON_SHELF = 1024  # questions; to look through them takes less than a millisecond
RESCORED = 8  # whose similarity is computed, of those whose sketches are nearest
MOST_DIMENSIONS = 8192
PER_QUESTION, PER_SHELF = 400, 700  # bytes besides what getsizeof sees (test_semantic.py)

Vector: TypeAlias = "array[float]"


def split(params: Mapping[str, Any]) -> tuple[dict[str, Any], str] | None:
    """All of a chat request but the text of its last message, and that text. None where that
    message is no question in words alone, or none that can be compared."""
    *earlier, last = params["messages"]
    content = last.get("content")
    if last.get("role") != "user":
        return None
    if isinstance(content, list):
        if len(content) != 1 or content[0].keys() != {"type", "text"}:
            return None
        text = content[0]["text"]
    else:
        text = content
    if not isinstance(text, str) or not 0 < len(text.strip()) <= len(text) <= LONGEST:
        return None
    if not is_readable(text):
        return None
    left = {**last, "content": [""] if isinstance(content, list) else ""}
    return {**params, "messages": [*earlier, left]}, text


def vector_of(encoded: Any) -> Vector | None:
    """One of length 1, from 32-bit floats in base64 or from numbers; None for what is none."""
    try:
        raw = _decoded(encoded) if isinstance(encoded, str) else array("f", encoded)
    except (TypeError, ValueError, OverflowError, binascii.Error):
        return None
    length = math.sqrt(math.fsum(map(mul, raw, raw)))
    if not math.isfinite(length) or not length or len(raw) > MOST_DIMENSIONS:
        return None
    return array("f", [each / length for each in raw])


def similarity(one: Vector, other: Vector) -> float:
    """The cosine of two vectors of length 1; -1 where they are of different spaces."""
    return sum(map(mul, one, other)) if len(one) == len(other) else -1.0


class Kept(NamedTuple):
    """A question whose answer is kept under `key`. `sketch` has a bit for each dimension, whether
    it is above 0: near vectors have near sketches."""

    key: bytes
    text: str
    vector: Vector
    sketch: int

    @property
    def size(self) -> int:
        return PER_QUESTION + sum(map(sys.getsizeof, (self.text, self.vector, self.sketch)))


class Near(NamedTuple):
    similarity: float
    key: bytes


Shelf = tuple[bytes, str]
"""A digest of all that must be equal, and the space that the vectors are of: who made them."""


@dataclass(slots=True)
class Scores:
    """Of one route, since this worker began: questions that were compared. `failed`: no embedding
    could be had in time. Some hits were asked for all the same, and both answers `agreed` or
    `differed`. `similarity` is the sum of the hits'."""

    hits: int = 0
    misses: int = 0
    failed: int = 0
    agreed: int = 0
    differed: int = 0
    similarity: float = 0.0

    def more(self, other: Scores) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Index:
    """`limit` and `size` in bytes, of all that is kept here. The shelf that was used longest ago
    is emptied first, and of each the question that came first. `scores` are by route."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.scores: defaultdict[str, Scores] = defaultdict(Scores)
        self._shelves: OrderedDict[Shelf, dict[bytes, Kept]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._shelves.values()))

    def total(self) -> Scores:
        """Any thread may ask."""
        total = Scores()
        for each in list(self.scores.values()):
            total.more(each)
        return total

    def near(self, shelf: Shelf, vector: Vector, text: str, threshold: float) -> list[Near]:
        """Which questions are the same as `text` in all but words, the nearest first."""
        kept = self._shelves.get(shelf)
        if kept is None:
            return []
        self._shelves.move_to_end(shelf)
        sketch = _sketch(vector)
        likely = heapq.nsmallest(
            RESCORED, kept.values(), key=lambda each: (each.sketch ^ sketch).bit_count()
        )
        scored = [(similarity(vector, each.vector), each) for each in likely]
        found = [(score, each) for score, each in scored if score >= threshold]
        if not found:
            return []
        asked = facts(text)
        same = [
            Near(min(score, 1.0), each.key)
            for score, each in found
            if not told_apart(asked, facts(each.text))
        ]
        return sorted(same, key=attrgetter("similarity"), reverse=True)

    def add(self, shelf: Shelf, vector: Vector, text: str, key: bytes) -> None:
        self.drop(shelf, key)
        kept = Kept(key, text, vector, _sketch(vector))
        if kept.size + PER_SHELF > self.limit:
            return
        on_shelf = self._shelves.get(shelf)
        if on_shelf is None:
            on_shelf = self._shelves[shelf] = {}
            self.size += PER_SHELF + len(shelf[1])
        on_shelf[key] = kept
        self.size += kept.size
        self._shelves.move_to_end(shelf)
        if len(on_shelf) > MOST_ON_SHELF:
            self.drop(shelf, next(iter(on_shelf)))
        while self.size > self.limit:
            oldest = next(iter(self._shelves))
            self.drop(oldest, next(iter(self._shelves[oldest])))

    def drop(self, shelf: Shelf, key: bytes) -> None:
        on_shelf = self._shelves.get(shelf, {})
        gone = on_shelf.pop(key, None)
        if gone is None:
            return
        self.size -= gone.size
        if not on_shelf:
            del self._shelves[shelf]
            self.size -= PER_SHELF + len(shelf[1])

    def clear(self) -> None:
        self._shelves.clear()
        self.size = 0


def _decoded(text: str) -> Vector:
    raw = array("f")
    raw.frombytes(base64.b64decode(text, validate=True))
    if sys.byteorder == "big":
        raw.byteswap()
    return raw


def _sketch(vector: Vector) -> int:
    return int("".join(["1" if each > 0 else "0" for each in vector]), 2)
