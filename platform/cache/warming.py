"""Has answers fetched before anybody has to wait for them.

What may be asked of whom, and how, is `fetch`'s to know; here is when it is worth asking.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

from cache.cache import Ask, Cache, Look
from cache.foresight import Foresight
from cache.freshness import Freshness

Fetch = Callable[[Look], Awaitable[str]]
"""Asks a provider and has the look keep the answer. `OK`, or a problem's code."""

OK: Final = "ok"
FRESH: Final = "fresh"  # it stays so until the next time
UNDER_WAY: Final = "under_way"  # another call, or another worker, fetches it
LEFT: Final = "left"  # nobody is expected to ask in time

LEAD = 2.0  # seconds before an answer gets stale, at which it is fetched again
SHORTEST = 4 * LEAD  # seconds; what is fresh for less is left to those who ask
CLAIM_SECONDS = 30.0


class Warmer:
    """One worker's. `foresight` knows what is asked, and when to look at what."""

    def __init__(self, cache: Cache, foresight: Foresight) -> None:
        self.cache = cache
        self.foresight = foresight

    async def ensure(self, ask: Ask, fetch: Fetch, *, until: float) -> str:
        """Fetch it unless what is kept stays fresh until then (unix seconds)."""
        look = self.cache.look(ask)
        try:
            known = await look.peek(until)
            if known is not None and known.freshness.ends > until:
                return FRESH
            return await fetch(look) if look.lead() else UNDER_WAY
        finally:
            look.close()

    async def refresh(self, ask: Ask, fetch: Fetch) -> str:
        """Fetch it again, or plan when to look next, if that is worth it."""
        look, now = self.cache.look(ask), self.cache.clock.now()
        try:
            known = await look.peek(now + LEAD)
            if known is None or known.freshness.gone <= now:
                return LEFT
            at = self._due(ask.key, known.freshness)
            if at is None:
                return LEFT
            if at > now + LEAD:  # by when it gets stale, more may be known
                ends = known.freshness.ends
                self.foresight.plan(ask.key, (ends if ends > now + LEAD else at) - LEAD)
                return FRESH
            result = UNDER_WAY
            if await self._is_ours(ask.key, at) and look.lead():
                result = await fetch(look)
            return self._done(ask.key, at, result)
        finally:
            look.close()

    def _due(self, key: bytes, fresh: Freshness) -> float | None:
        """When a new answer ought to be there: where on average at least one will ask for it while
        it is fresh, when this one gets stale. Else, where one will while it is served at all, when
        this one no longer is: until then whoever asks is served it, and has it fetched."""
        if fresh.fresh_for < SHORTEST:
            return None
        ends, gone = fresh.ends, fresh.gone
        if self.foresight.expected(key, ends, ends + fresh.fresh_for) >= 1:
            return ends
        served = gone - fresh.at
        return gone if self.foresight.expected(key, gone, gone + served) >= 1 else None

    async def _is_ours(self, key: bytes, at: float) -> bool:
        """Of all workers that know of it, one fetches it."""
        name = hashlib.blake2b(b"%.3f" % at, key=key, digest_size=32).digest()
        return await self.cache.shared.claim(name, CLAIM_SECONDS)

    def _done(self, key: bytes, at: float, result: str) -> str:
        entry = self.cache.memory.get(key)
        if result == OK and entry is not None and entry.freshness.ends > at:
            fresh = entry.freshness
            self.foresight.warmed(key, at, self._due(key, fresh) or fresh.ends)
            self.foresight.plan(key, fresh.ends - LEAD)
        elif result == UNDER_WAY:
            self.foresight.plan(key, at)
        return result
