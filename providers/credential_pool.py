"""Which of our credentials may be used now: those that a provider limited rest, those that it
refused are drained.

A worker keeps what it saw in memory. A refusal is written to the database as well, from where
all workers learn of it with their next snapshot (`settled`), and where staff may take it back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lib.clock import Clock
from providers.breakers import OF_A_TENANT
from providers.call import Outcome, Upstream, Verdict

REST = 1.0  # seconds, where the provider does not say for how long
MOST_REST = 3600.0  # seconds after which it is worth asking again, whatever the provider said
MOST = 10_000  # credentials remembered as resting

_RESTS = frozenset({Verdict.RATE_LIMITED, Verdict.QUOTA_EXHAUSTED})
OF_THE_CREDENTIAL = _RESTS | {Verdict.AUTH}  # another credential may fare better


class CredentialPool:
    """Of all providers. A credential goes by its name; what has none (""), a provider that needs
    none, never rests."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}  # the clock's monotonic seconds; drained: for ever
        self._turns: dict[str, int] = {}
        self._settled: set[str] = set()

    def pick(self, upstreams: Sequence[Upstream]) -> Upstream | None:
        """The one whose turn it is among the healthy ones of the same target and owner."""
        if self._until:
            upstreams = [each for each in upstreams if not self.rests(each.credential)]
        if len(upstreams) <= 1:
            return upstreams[0] if upstreams else None
        first = upstreams[0].credential
        turn = self._turns[first] = self._turns.get(first, -1) + 1
        return upstreams[turn % len(upstreams)]

    def seconds_left(self, upstreams: Sequence[Upstream]) -> float:
        """Until one of them may be used: 0 is now, infinity not before somebody acts."""
        if not self._until and upstreams:
            return 0.0
        now = self._clock.monotonic()
        left = (self._until.get(each.credential, now) - now for each in upstreams)
        return max(0.0, min(left, default=math.inf))

    def note(self, credential: str, outcome: Outcome) -> bool:
        """How an attempt with it failed. Whether it is drained by that, which is then news."""
        if not credential:
            return False
        if outcome.verdict is Verdict.AUTH:
            if credential.startswith(OF_A_TENANT):
                return False  # a scripted refusal: the sandbox has no credential to lose
            news = self._until.get(credential) != math.inf
            self._until[credential] = math.inf
            return news
        if outcome.verdict in _RESTS:
            self._rest(credential, REST if outcome.retry_after is None else outcome.retry_after)
        return False

    def rests(self, credential: str) -> bool:
        until = self._until.get(credential)
        if until is None:
            return False
        if until > self._clock.monotonic():
            return True
        del self._until[credential]
        return False

    def written(self, credential: str) -> None:
        """That it is drained is in the database: the next snapshot knows better than we do."""
        self._settled.add(credential)

    def settled(self) -> None:
        """A snapshot has come that was read after what was `written`."""
        for credential in self._settled:
            self._until.pop(credential, None)
        self._settled.clear()

    def _rest(self, credential: str, seconds: float) -> None:
        if len(self._until) >= MOST:
            self._forget()
        until = self._clock.monotonic() + min(seconds, MOST_REST)
        self._until[credential] = max(until, self._until.get(credential, until))

    def _forget(self) -> None:
        """Those that are over; all that merely rest, where that is not enough."""
        now = self._clock.monotonic()
        kept = {name: until for name, until in self._until.items() if until > now}
        if len(kept) >= MOST:
            kept = {name: until for name, until in kept.items() if until == math.inf}
        self._until = kept
