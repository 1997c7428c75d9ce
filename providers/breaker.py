"""A circuit breaker: it rests what fails, and lets a few probes say when that is over.

resilience4j's words and rules, with failures in a row besides. Pure: no store, no I/O, no time
but its clock's. Each permission is a Permit that knows in which turn of the breaker it was
given: what ends after the state has changed says nothing any more.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from lib.clock import Clock
from providers.breaker_policy import Policy
from providers.call import Outcome


class State(enum.StrEnum):
    """In resilience4j's order, whose places are the numbers it gives them."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"
    DISABLED = "DISABLED"
    FORCED_OPEN = "FORCED_OPEN"


FORCED = frozenset({State.DISABLED, State.FORCED_OPEN})  # by staff; nothing is counted meanwhile
_NEVER = -1  # the turn of a permit that counts nothing


class Result(enum.Enum):
    """What a call says about its provider."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"

    @classmethod
    def of(cls, outcome: Outcome) -> Result:
        """Only a provider's own fault is a failure, and what is no answer either is ignored."""
        if outcome.is_answer:
            return cls.SUCCESS
        return cls.FAILURE if outcome.is_provider_fault else cls.IGNORED


class Buffered(NamedTuple):
    """What a window holds."""

    calls: int = 0
    failures: int = 0
    slow: int = 0


class _Window(Protocol):
    """`calls`, `failures` and `slow` are as of the last `add`."""

    calls: int
    failures: int
    slow: int

    def add(self, now: float, failed: bool, slow: bool) -> None: ...

    def buffered(self, now: float) -> Buffered: ...


class _CountWindow:
    """The last `size` calls, of which only those that failed or were slow are kept."""

    __slots__ = ("_kept", "_size", "_total", "calls", "failures", "slow")

    def __init__(self, size: int) -> None:
        self._size = size
        self._total = 0
        self._kept: deque[tuple[int, bool, bool]] = deque()  # a call's number, failed, slow
        self.calls = self.failures = self.slow = 0

    def add(self, now: float, failed: bool, slow: bool) -> None:
        self._total += 1
        if self.calls < self._size:
            self.calls += 1
        if failed or slow:
            self._kept.append((self._total, failed, slow))
            self.failures += failed
            self.slow += slow
        if self._kept and self._kept[0][0] <= self._total - self._size:
            _, had_failed, was_slow = self._kept.popleft()
            self.failures -= had_failed
            self.slow -= was_slow

    def buffered(self, now: float) -> Buffered:
        return Buffered(self.calls, self.failures, self.slow)


class _TimeWindow:
    """The calls of the last `size` seconds, the present one included, by whole seconds."""

    __slots__ = ("_kept", "_size", "calls", "failures", "slow")

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: deque[list[int]] = deque()  # second, calls, failures, slow
        self.calls = self.failures = self.slow = 0

    def add(self, now: float, failed: bool, slow: bool) -> None:
        second, kept = int(now), self._kept
        while kept and kept[0][0] <= second - self._size:
            _, calls, failures, slows = kept.popleft()
            self.calls -= calls
            self.failures -= failures
            self.slow -= slows
        if not kept or kept[-1][0] != second:
            kept.append([second, 0, 0, 0])
        here = kept[-1]
        here[1] += 1
        here[2] += failed
        here[3] += slow
        self.calls += 1
        self.failures += failed
        self.slow += slow

    def buffered(self, now: float) -> Buffered:
        oldest = int(now) - self._size
        kept = [each for each in tuple(self._kept) if each[0] > oldest]
        return Buffered(*(sum(each[place] for each in kept) for place in (1, 2, 3)))


@dataclass(slots=True)
class Totals:
    """Since the process began."""

    successful: int = 0
    failed: int = 0
    ignored: int = 0
    not_permitted: int = 0


@dataclass(slots=True)
class Permit:
    """Leave for one call. Whoever holds it ends it, once: `Breaker.end`.

    `lease` is what the store of all workers knows a probe by, where it gave the permission.
    """

    breaker: Breaker
    turn: int
    probe: bool = False
    lease: str = ""
    over: bool = False

    def go_on(self) -> None:
        """A probe had its result when its stream began well; what the stream comes to counts in
        the state that follows, if that is CLOSED."""
        self.turn, self.probe, self.lease, self.over = self.turn + 1, False, "", False


@dataclass(frozen=True, slots=True)
class Override:
    """Staff's word on a breaker: FORCED_OPEN or DISABLED until `expires_at` (unix seconds; None:
    until they say otherwise), or CLOSED, once, with nothing counted so far."""

    state: State
    expires_at: float | None = None
    id: int = 0

    def ended(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now


class Breaker:
    """One provider's, or one target's. `turn` grows with every change of its state."""

    __slots__ = (
        "_clock",
        "_ended",
        "_failed",
        "_forced",
        "_issued",
        "_row",
        "_slow",
        "_state",
        "_until",
        "_window",
        "is_closed",
        "name",
        "policy",
        "totals",
        "turn",
    )

    def __init__(self, clock: Clock, policy: Policy | None = None, name: str = "") -> None:
        self.name = name
        self.policy = policy or Policy()
        self.totals = Totals()
        self.turn = 0
        self._clock = clock
        self._until = 0.0  # by the monotonic clock: OPEN ends
        self._forced: Override | None = None
        self._row = 0
        self._enter(State.CLOSED)

    @property
    def state(self) -> State:
        if self._forced is not None and self._forced.ended(self._clock.now()):
            return State.CLOSED
        return self._state

    @property
    def rests(self) -> bool:
        """Whether nobody may call now, not even to try."""
        state = self._state
        if state is State.CLOSED:
            return False
        if state is State.FORCED_OPEN:
            return self.state is State.FORCED_OPEN
        return state is State.OPEN and self.seconds_left() > 0

    @property
    def wants_probe(self) -> bool:
        """Whether the next permission would be a probe's."""
        state = self._state
        return state is State.HALF_OPEN or (state is State.OPEN and self.seconds_left() <= 0)

    def seconds_left(self) -> float:
        """Until somebody may try. Of what staff hold open, until that ends."""
        if self._state is State.OPEN:
            return max(0.0, self._until - self._clock.monotonic())
        if self.state is State.FORCED_OPEN and self._forced is not None:
            expires = self._forced.expires_at
            return self.policy.open_seconds if expires is None else expires - self._clock.now()
        return 0.0

    def permit(self) -> Permit | None:
        """Leave for one call, or None. While HALF_OPEN it is a probe."""
        if self._state is State.CLOSED:
            return Permit(self, self.turn)
        permit = self._permit_one()
        if permit is None:
            self.totals.not_permitted += 1
        return permit

    def lease(self, lease: str) -> Permit | None:
        """A probe that the store of all workers allowed, whose result is the store's to count.
        None where staff decided otherwise meanwhile."""
        if self.wants_probe and self._state is State.OPEN:
            self._enter(State.HALF_OPEN)
        if self._state is not State.HALF_OPEN:
            return None
        self._issued += 1
        return Permit(self, self.turn, probe=True, lease=lease)

    def end(self, permit: Permit, result: Result, seconds: float = 0.0) -> None:
        """A call's end, `seconds` after its beginning. A second end of one permit is none."""
        if permit.over:
            return
        permit.over = True
        totals = self.totals
        if result is Result.SUCCESS:
            totals.successful += 1
        elif result is Result.FAILURE:
            totals.failed += 1
        else:
            totals.ignored += 1
        if permit.turn != self.turn:
            return  # it began in another state
        if permit.probe:
            self._end_probe(permit, result, seconds)
        elif result is not Result.IGNORED:
            self._judge(result is Result.FAILURE, seconds)

    def ended_well(self, turn: int, seconds: float, now: float) -> bool:
        """What the end of nearly all calls comes to, in fewer steps: a quick success of one that
        began in that turn, while CLOSED, of which no failure or slow call is remembered. `now` is
        the monotonic clock's. False: it is none, and not ended."""
        window = self._window
        if (
            turn != self.turn
            or seconds > self.policy.slow_call_seconds
            or window.failures
            or window.slow
        ):
            return False
        self.totals.successful += 1
        self._row = 0
        window.add(now, False, False)
        return True

    def configure(self, policy: Policy) -> None:
        """Go by another policy from now on; what was counted by the old one is forgotten."""
        changed, self.policy = policy != self.policy, policy
        if changed and self._state is State.HALF_OPEN:
            self._enter(State.HALF_OPEN)  # the probes under way would not be the right number
        elif changed:
            self._forget()

    def follow(self, state: State, seconds_left: float = 0.0) -> None:
        """Take over what the other workers' breaker came to. Staff's word goes before it."""
        if self.state in FORCED:
            return
        if state is not self.state:
            self._enter(state)
        if state is State.OPEN:
            self._until = self._clock.monotonic() + seconds_left

    def force(self, override: Override | None) -> None:
        """Do as staff say; None is the end of what they said."""
        if override is None or override.state not in FORCED:
            self._enter(State.CLOSED)
        elif not override.ended(self._clock.now()):
            self._enter(override.state)
            self._forced = override

    @property
    def buffered(self) -> Buffered:
        """What the rates are of."""
        if self.state is State.HALF_OPEN:
            return Buffered(self._ended, self._failed, self._slow)
        return self._window.buffered(self._clock.monotonic())

    @property
    def failures_in_a_row(self) -> int:
        return self._row

    def rates(self) -> tuple[float, float]:
        """Failed and slow calls, per cent; -1 while there are too few to say."""
        calls, failures, slow = self.buffered
        if not calls or calls < self._minimum:
            return -1.0, -1.0
        return failures * 100 / calls, slow * 100 / calls

    @property
    def _minimum(self) -> int:
        policy = self.policy
        if self._state is State.HALF_OPEN:
            return policy.permitted_probes
        if policy.window.type == "count":
            return min(policy.minimum_calls, policy.window.size)
        return policy.minimum_calls

    def _permit_one(self) -> Permit | None:
        if self._state in FORCED and self.state is State.CLOSED:
            self._enter(State.CLOSED)
            return Permit(self, self.turn)
        if self._state is State.DISABLED:
            return Permit(self, _NEVER)
        if self.rests:
            return None
        if self._state is State.OPEN:
            self._enter(State.HALF_OPEN)
        if self._issued >= self.policy.permitted_probes:
            return None
        self._issued += 1
        return Permit(self, self.turn, probe=True)

    def _judge(self, failed: bool, seconds: float) -> None:
        """A result while CLOSED."""
        policy, window = self.policy, self._window
        self._row = self._row + 1 if failed else 0
        window.add(self._clock.monotonic(), failed, seconds > policy.slow_call_seconds)
        if not (window.failures or window.slow):
            return
        if self._row >= policy.consecutive_failures or (
            window.calls >= self._minimum
            and policy.exceeded(window.calls, window.failures, window.slow)
        ):
            self._enter(State.OPEN)

    def _end_probe(self, permit: Permit, result: Result, seconds: float) -> None:
        """A result while HALF_OPEN: all the permitted probes' results decide together."""
        if permit.lease or result is Result.IGNORED:
            self._issued -= 1
            return
        policy = self.policy
        self._ended += 1
        self._failed += result is Result.FAILURE
        self._slow += seconds > policy.slow_call_seconds
        if self._ended >= policy.permitted_probes:
            failed = policy.exceeded(self._ended, self._failed, self._slow)
            self._enter(State.OPEN if failed else State.CLOSED)

    def _enter(self, state: State) -> None:
        self._state = state
        self.is_closed = state is State.CLOSED
        self._forced = None
        self.turn += 1
        self._issued = self._ended = self._failed = self._slow = 0
        if state is State.OPEN:
            self._until = self._clock.monotonic() + self.policy.open_seconds
        else:
            self._forget()

    def _forget(self) -> None:
        window = self.policy.window
        make = _CountWindow if window.type == "count" else _TimeWindow
        self._window: _Window = make(window.size)
        self._row = 0
