"""Has answers fetched before anybody has to wait for them.

What may be asked of whom, and how, is `fetch`'s to know; here is when it is worth asking.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

from cache.cache import Ask, Cache, Look
from cache.foresight import Foresight

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
        """Fetch again what is about to get stale, if on average at least one will ask for it
        while the new answer is fresh. Else plan when to look again, if that is worth it."""
        look, now = self.cache.look(ask), self.cache.clock.now()
        try:
            known = await look.peek(now + LEAD)
            if known is None or known.freshness.ends <= now:
                return LEFT
            ends, span = known.freshness.ends, known.freshness.fresh_for
            if span < SHORTEST:
                return LEFT
            if ends > now + LEAD:
                self.foresight.plan(ask.key, ends - LEAD)
                return FRESH
            if self.foresight.expected(ask.key, ends, ends + span) < 1:
                return LEFT
            result = UNDER_WAY
            if await self._is_ours(ask.key, ends) and look.lead():
                result = await fetch(look)
            return self._done(ask.key, ends, result)
        finally:
            look.close()

    async def _is_ours(self, key: bytes, ends: float) -> bool:
        """Of all workers that know of it, one fetches it."""
        name = hashlib.blake2b(b"%.3f" % ends, key=key, digest_size=32).digest()
        return await self.cache.shared.claim(name, CLAIM_SECONDS)

    def _done(self, key: bytes, ends: float, result: str) -> str:
        entry = self.cache.memory.get(key)
        if result == OK and entry is not None and entry.freshness.ends > ends:
            self.foresight.warmed(key, ends, entry.freshness.ends)
            self.foresight.plan(key, entry.freshness.ends - LEAD)
        elif result == UNDER_WAY:
            self.foresight.plan(key, ends)
        return result
