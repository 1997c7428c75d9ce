"""A circuit breaker per target: after failures in a row it rests, then one probe decides.

resilience4j's words. This process keeps its own; only the provider's faults count.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from lib.clock import Clock
from providers.call import Outcome


class State(enum.StrEnum):
    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


@dataclass(frozen=True, slots=True)
class Policy:
    """`failures` in a row open the breaker for `wait` seconds."""

    failures: int = 5
    wait: float = 60.0


class Breaker:
    def __init__(self, clock: Clock, policy: Policy | None = None) -> None:
        self._clock = clock
        self._policy = policy or Policy()
        self._failures = 0
        self._opened_at = 0.0
        self._probing = False
        self.state = State.CLOSED

    def permits(self) -> bool:
        """Whether a call may go. A permission given while HALF_OPEN is the one probe: its
        holder must `record` or `release`."""
        if self.state is State.CLOSED:
            return True
        if self.state is State.OPEN and self._rested():
            self.state = State.HALF_OPEN
        if self.state is State.HALF_OPEN and not self._probing:
            self._probing = True
            return True
        return False

    def record(self, outcome: Outcome) -> None:
        """An attempt's end. What is neither an answer nor the provider's fault counts neither
        way; nor does what began before the breaker opened, and ends only now."""
        if self.state is State.OPEN:
            return
        self._probing = False
        if outcome.is_provider_fault:
            self._failures += 1
            if self.state is State.HALF_OPEN or self._failures >= self._policy.failures:
                self.state, self._opened_at = State.OPEN, self._clock.monotonic()
        elif outcome.is_answer:
            self._failures, self.state = 0, State.CLOSED

    def release(self) -> None:
        """The attempt ended with no verdict (the client left)."""
        self._probing = False

    def seconds_left(self) -> float:
        if self.state is not State.OPEN:
            return 0.0
        return max(0.0, self._opened_at + self._policy.wait - self._clock.monotonic())

    def _rested(self) -> bool:
        return self.seconds_left() <= 0


class Breakers:
    """One breaker a target name, made when first asked for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._breakers: dict[str, Breaker] = {}

    def of(self, name: str) -> Breaker:
        breaker = self._breakers.get(name)
        if breaker is None:
            breaker = self._breakers[name] = Breaker(self._clock)
        return breaker

    def states(self) -> dict[str, State]:
        """Of all there are. Any thread may ask: it reads from a copy made in one step."""
        return {name: breaker.state for name, breaker in list(self._breakers.items())}
