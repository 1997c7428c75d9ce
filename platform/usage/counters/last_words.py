"""What the store said last of rate limits: what a gateway goes by while it is late or away.

By it, what the gateways let in together without asking is no more than what was left; each gives
out its share.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from usage.counters.claims import Claim, LastWord, RateClaim, State

MAX_REMEMBERED = 50_000  # rate limits


class LastWords:
    """One gateway's. `gateways` is how many there are."""

    def __init__(self) -> None:
        self.gateways = 1
        self._left: dict[str, tuple[int, float]] = {}  # by the claim's key: what was left, and when
        self._used = 0

    @property
    def used(self) -> int:
        """How often we went by them instead of asking."""
        return self._used

    def hear(self, states: Sequence[State], used: int) -> None:
        """An answer; `used` from when it was asked for, because of what was let in without the
        store after that it says nothing."""
        if used != self._used:
            return
        if len(self._left) >= MAX_REMEMBERED:
            self._left.clear()
        now = time.monotonic()
        for state in states:
            if type(state.claim) is RateClaim:
                self._left[state.claim.key] = (state.left, now)

    def use(self, claims: Sequence[Claim]) -> Iterator[LastWord]:
        """Of these rate limits, each word once."""
        self._used += 1
        now = time.monotonic()
        for claim in claims:
            if type(claim) is RateClaim and claim.key in self._left:
                left, said = self._left.pop(claim.key)
                yield LastWord(claim, left // self.gateways, now - said)
