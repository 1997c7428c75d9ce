"""One kept answer, with all that its next reader and the ledger need to know of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from cache.compression import unpack
from cache.freshness import Freshness, Headers, Pairs
from providers.call import Usage

# Bytes of an entry besides its texts, its place in memory and its key included: what CPython's
# objects take (tests/cache/test_memory.py measures it).
OVERHEAD = 1000
PER_TAG, PER_PAIR, PER_EVENT = 60, 180, 40
_NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class Origin:
    """Whence an answer came and what it took: for the ledger's row of a hit, and for what the
    cache saved. `cost` in µUSD, `took_ms` until the provider's answer was there."""

    provider: str = ""
    model: str = ""
    as_of: str = ""
    cost: int = 0
    price_id: int | None = None
    took_ms: int = 0
    usage: Usage = _NO_USAGE


@dataclass(frozen=True, slots=True)
class Entry:
    """`packed` is the body as compression.pack made it, of `plain_size` bytes. A stream is kept
    as its events, one after another; `events` has their lengths.

    `etag` names the content. `headers` are the provider's that say how fresh it is, `vary` the
    request headers that it depends on besides its key. `ttl` is what an adaptive one is now.
    `empty`: it says that there is nothing.
    `made` is this worker's moment before it was asked for (tags.py); `tags` are ids.
    """

    packed: bytes
    plain_size: int
    freshness: Freshness
    etag: str
    origin: Origin = field(default_factory=Origin)
    status: int = 200
    events: tuple[int, ...] = ()
    headers: Pairs = ()
    vary: Pairs = ()
    ttl: float = 0.0
    empty: bool = False
    made: int = 0
    tags: tuple[bytes, ...] = ()
    size: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _size(self))

    @property
    def is_stream(self) -> bool:
        return bool(self.events)

    def suits(self, asked_with: Headers) -> bool:
        """Whether a request with these headers may have it (RFC 9111 §4.1)."""
        return all([asked_with.get(name, "") == value for name, value in self.vary])

    def body(self) -> bytes:
        """Raises Torn."""
        return unpack(self.packed, self.plain_size)

    def stream(self) -> list[bytes]:
        """The events, each as it was. Raises Torn."""
        body = self.body()
        ends = accumulate(self.events, initial=0)
        return [body[start:end] for start, end in pairwise(ends)]


def _size(entry: Entry) -> int:
    pairs = (*entry.headers, *entry.vary)
    origin = entry.origin
    texts = (entry.etag, origin.provider, origin.model, origin.as_of)
    return (
        OVERHEAD
        + len(entry.packed)
        + sum(map(len, texts))
        + PER_TAG * len(entry.tags)
        + PER_EVENT * len(entry.events)
        + sum([PER_PAIR + len(name) + len(value) for name, value in pairs])
    )
