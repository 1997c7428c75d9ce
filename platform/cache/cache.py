"""The response cache of one worker: two levels, one look-up a call.

entry = cache.fresh(ask)                    a memory hit needs no more than this
async with cache.look(ask) as look:         else: the second level, or who is asking already
    if look.entry: …                        serve it; `look.leads`: refresh it behind
    answer = …                              ask the provider
    look.keep(answer)                       for everybody who waits, and for the next
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from cache.codec import Codec
from cache.compression import MOST_BYTES, Torn, pack
from cache.entry import Entry, Origin
from cache.figures import Figures
from cache.flight import Flights
from cache.freshness import (
    Headers,
    State,
    Times,
    adapted,
    conditional,
    freshness,
    kept_headers,
    tells,
    updated,
    varied,
)
from cache.keys import Keys, Place
from cache.looking import Ask, Look
from cache.memory import Memory
from cache.policy import NO_WISH, CachePolicy, Wish
from cache.savings import Savings
from cache.semantic import Index
from cache.shared import EVERYTHING, PATIENCE, Alone, SecondLevel, SharedCache, Sharing
from cache.tags import Stamps, TagIds, of_key
from lib.clock import Clock, SystemClock

__all__ = ["Answer", "Ask", "Cache", "Look", "Place"]

T = TypeVar("T")

_NO_HEADERS: Headers = {}
QUESTIONS_PART = 8  # of memory, beside it, for finding answers by what is asked
SWEEP_SECONDS = 10.0
SWEPT_AT_ONCE = 500  # entries, in less than half a millisecond


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider answered, in the client's words: a body, or a whole stream's events.

    `headers` are the provider's where they are about this answer (a GET's), `empty` one that says
    there is nothing. `tags` are those that only the answer tells: who served it. `policy` is the
    one of whoever did, where that is not the call's.
    """

    body: bytes
    times: Times
    origin: Origin = field(default_factory=Origin)
    events: Sequence[bytes] = ()
    headers: Headers = field(default_factory=dict)
    tags: Sequence[str] = ()
    status: int = 200
    empty: bool = False
    policy: CachePolicy | None = None

    @classmethod
    def of_stream(cls, events: Sequence[bytes], times: Times, **more: object) -> Answer:
        return cls(b"".join(events), times, events=events, **more)  # type: ignore[arg-type]


class Cache:
    """`secret` and `url` are the same for all workers of an installation. Without a `url` each
    has what is in its own memory. `patience`: seconds that a call waits for the store."""

    def __init__(
        self,
        secret: bytes,
        *,
        url: str = "",
        memory_bytes: int = 64 << 20,
        shared_bytes: int = 256 << 20,
        patience: float = PATIENCE,
        clock: Clock | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.figures = Figures()
        self.savings = Savings()
        self.stamps = Stamps()
        self.memory = Memory(memory_bytes)
        self.questions = Index(memory_bytes // QUESTIONS_PART)
        self.flights = Flights(self.stamps)
        self.shared: SecondLevel = Alone()
        if url:
            self.shared = SharedCache(url, self.stamps, limit=shared_bytes, timeout=patience)
        self.shared.on_lost = self._forget
        self.behind: set[asyncio.Task[Any]] = set()
        self._beside: list[asyncio.Task[None]] = []
        self._keys = Keys(secret)
        self._ids = TagIds(secret)
        self._codec = Codec(secret)

    async def start(self) -> None:
        await self.shared.start()
        self._beside = [asyncio.create_task(self._sweep_again())]

    async def close(self) -> None:
        tasks = [*self.behind, *self._beside]
        for task in tasks:
            task.cancel()
        if tasks:  # once: what is closed again has nothing beside it
            await asyncio.wait(tasks)
            self._beside = []
        await self.shared.close()

    def ask(
        self,
        place: Place,
        params: Mapping[str, object],
        policy: CachePolicy,
        *,
        until: float,
        wish: Wish = NO_WISH,
        tags: Sequence[str] = (),
        asked_with: Headers = _NO_HEADERS,
    ) -> Ask:
        """What to look for. `until` is the loop's time at which the call must have ended, `tags`
        are those that are known beforehand, `asked_with` the request headers that an answer may
        vary by."""
        return Ask(self._keys.key(place, params), policy, wish, until, tags, asked_with, place)

    def shelf(self, place: Place, params: Mapping[str, object]) -> bytes:
        """A digest of what must be equal in questions that are compared (semantic.py)."""
        return self._keys.key(place, params)

    def fresh(self, ask: Ask) -> Entry | None:
        """A fresh answer in memory, if there is one."""
        entry = self.memory.get(ask.key)
        if entry is None or ask.wish.no_cache or not self.stamps.valid(entry):
            return None
        if entry.vary and not entry.suits(ask.asked_with):
            return None
        if entry.freshness.state(self.clock.now(), ask.wish.max_age) is not State.FRESH:
            return None
        self.figures.hits += 1
        return entry

    def look(self, ask: Ask) -> Look:
        return Look(self, ask)

    def do_behind(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """While nobody waits for it; when the cache closes, it is called off."""
        task = asyncio.create_task(work)
        self.behind.add(task)
        task.add_done_callback(self.behind.discard)
        return task

    async def invalidate(self, tags: Collection[str], keys: Collection[bytes] = ()) -> bool:
        """From when this returns, this worker serves nothing that has one of these tags, or the
        id of a key among `keys` (tags.of_key), and was asked for before; nor does any other a
        second later. With the second level lost the others hear of it when it is back: then it
        is False."""
        ids = (*self._ids.of(tags), *keys)
        self.figures.invalidations += len(ids)
        self.stamps.invalidate(ids)
        return await self.shared.invalidate(ids)

    async def invalidate_all(self) -> bool:
        self.figures.invalidations += 1
        self._forget()
        return await self.shared.invalidate([EVERYTHING])

    def read(self, key: bytes, data: bytes, made: int) -> Entry | None:
        """An entry of the second level; None for what cannot be read."""
        try:
            return self._codec.decode(key, data, made=made)
        except Torn:
            self.figures.torn += 1
            return None

    def entry_of(self, answer: Answer, look: Look) -> Entry | None:
        """None where it may not be kept."""
        ask, body, policy = look.ask, answer.body, answer.policy or look.ask.policy
        if len(body) > MOST_BYTES:
            return None
        if answer.empty:
            policy = policy.of_nothing()
        etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        changed = look.known is not None and look.known.etag != etag
        ttl = _ttl(answer, policy, look, changed=changed)
        fresh = freshness(answer.headers, answer.times, policy, ttl=ttl)
        if fresh is None:
            return None
        return Entry(
            packed=pack(body),
            plain_size=len(body),
            freshness=fresh,
            etag=etag,
            origin=answer.origin,
            status=answer.status,
            events=tuple(map(len, answer.events)),
            headers=kept_headers(answer.headers),
            vary=varied(answer.headers, ask.asked_with),
            ttl=ttl,
            empty=answer.empty,
            made=look.made,
            tags=(*self._ids.of((*ask.tags, *answer.tags)), of_key(ask.key)),
        )

    def renewed(
        self, headers: Headers, times: Times, look: Look, policy: CachePolicy
    ) -> Entry | None:
        """The kept entry, of which the provider says that it still holds (304)."""
        known = look.known
        told = updated(dict(known.headers), headers) if known else None
        if known is None or told is None:
            return None
        if known.empty:
            policy = policy.of_nothing()
        ttl = adapted(known.ttl, policy, changed=False) if policy.adaptive else known.ttl
        fresh = freshness(told, times, policy, ttl=ttl)
        if fresh is None:
            return None
        return replace(known, freshness=fresh, headers=kept_headers(told), ttl=ttl, made=look.made)

    def store(self, entry: Entry, look: Look) -> None:
        """In both levels, unless something in it has been invalidated since it was asked for."""
        key, figures = look.ask.key, self.figures
        figures.stored += 1
        figures.stored_bytes += len(entry.packed)
        figures.saved_bytes += max(0, entry.plain_size + 1 - len(entry.packed))
        if self.stamps.valid(entry):
            self.memory.put(key, entry)
        if look.since is not None and look.ask.policy.shared:
            span = entry.freshness.fresh_for
            sharing = Sharing(look.since, entry.tags, span, _kept_for(entry), look.lease)
            look.lease = ""  # it ends with what is put
            self.shared.put(key, self._codec.encode(key, entry), sharing)

    async def sweep(self) -> None:
        """Let go of what must be gone by its provider's terms, a part in each turn of the loop."""
        for number, (key, entry) in enumerate(self.memory.entries(), 1):
            if entry.freshness.must_go(self.clock.now()) and self.memory.peek(key) is entry:
                self.memory.drop(key)
            if not number % SWEPT_AT_ONCE:
                await asyncio.sleep(0)

    async def _sweep_again(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await self.sweep()

    def _forget(self) -> None:
        self.stamps.invalidate_all()
        self.memory.clear()
        self.questions.clear()


def _ttl(answer: Answer, policy: CachePolicy, look: Look, *, changed: bool) -> float:
    known = look.known
    if policy.adaptive and known is not None and known.ttl and not tells(answer.headers):
        return adapted(known.ttl, policy, changed=changed)
    return policy.ttl_for(look.ask.wish)


def _kept_for(entry: Entry) -> float:
    """One that can be revalidated is worth keeping for as long again as it is of use."""
    fresh = entry.freshness
    worth = 2 * fresh.usable_for if conditional(dict(entry.headers)) else fresh.usable_for
    return min(worth, fresh.retention)
