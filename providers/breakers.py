"""All breakers of a process: two stand before every call, its provider's and its target's.

While they are CLOSED that costs no store and no waiting. What they come to is told to the
other workers, and when one would let probes through, all workers together have the permitted
number of them in flight (`Shared`). While nobody can be asked, each worker decides alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from lib.clock import Clock
from lib.ids import uuid7
from lib.stores import StoreAway
from providers.breaker import FORCED, Breaker, Override, Permit, Result, State
from providers.breaker_policy import Policy
from providers.call import Outcome

MOST = 10_000  # breakers kept; of test mode's, those that hold nothing back go
OF_A_TENANT = "test:"  # begins the name of a breaker that is one tenant's own


class Told(NamedTuple):
    """What all workers' breaker of a name has come to."""

    name: str
    state: State
    seconds_left: float = 0.0
    granted: bool = False


OnTold = Callable[[Told], None]


class Shared(Protocol):
    """What the workers' breakers have in common. `on_told` hears of every change, once, before
    whoever asked has the answer."""

    on_told: OnTold

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def probe(self, name: str, lease: str, seconds: float, policy: Policy) -> Told | None:
        """Ask for one of the permitted probes, for `seconds` at most. None: decide alone.
        Raises StoreAway."""
        ...

    def end(self, name: str, lease: str, result: Result, *, slow: bool, policy: Policy) -> None:
        """A probe's result."""
        ...

    def tell(self, name: str, state: State, seconds: float) -> None:
        """A breaker of this worker has opened for `seconds`, or closed."""
        ...


class Alone:
    """This process is the only one."""

    def __init__(self) -> None:
        self.on_told: OnTold = lambda _: None

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def probe(self, name: str, lease: str, seconds: float, policy: Policy) -> Told | None:
        return None

    def end(self, name: str, lease: str, result: Result, *, slow: bool, policy: Policy) -> None:
        pass

    def tell(self, name: str, state: State, seconds: float) -> None:
        pass


class Permits:
    """Leave for one call, of every breaker before it. Whoever holds it says how the call ended:
    `record`, or `release` where that tells nothing; what comes after the first is not heard.

    Where all breakers are CLOSED, as nearly always, they are `closed`, and no permit is made."""

    __slots__ = ("_breakers", "_closed", "_each", "_over", "_seconds", "_started", "_turns")

    def __init__(
        self, breakers: Breakers, each: Sequence[Permit] = (), closed: Sequence[Breaker] = ()
    ) -> None:
        self._breakers = breakers
        self._each = each
        self._closed = closed
        self._turns = [breaker.turn for breaker in closed]
        self._started = breakers.clock.monotonic()
        self._seconds: float | None = None
        self._over = False

    def began(self) -> None:
        """The first event of a stream has come: what a slow call is judged by, and enough of a
        result for a probe."""
        self._seconds = seconds = self._breakers.clock.monotonic() - self._started
        for permit in self._each:
            if permit.probe and not permit.over:
                self._breakers.end(permit, Result.SUCCESS, seconds)
                permit.go_on()

    def record(self, outcome: Outcome) -> None:
        if not self._over:
            self._end(Result.of(outcome))

    def release(self) -> None:
        if not self._over:
            self._end(Result.IGNORED)

    def _end(self, result: Result) -> None:
        self._over = True
        now = self._breakers.clock.monotonic()
        seconds = now - self._started if self._seconds is None else self._seconds
        well = result is Result.SUCCESS
        for breaker, turn in zip(self._closed, self._turns, strict=True):
            if not (well and breaker.ended_well(turn, seconds, now)):
                self._breakers.end(Permit(breaker, turn), result, seconds)
        for permit in self._each:
            self._breakers.end(permit, result, seconds)


@dataclass(frozen=True, slots=True)
class Figures:
    """A breaker, as people are told. Rates are per cent, None while there are too few calls."""

    name: str
    state: State
    seconds_left: float
    failures_in_a_row: int
    buffered_calls: int
    failed_calls: int
    slow_calls: int
    failure_rate: float | None
    slow_call_rate: float | None
    successful_total: int
    failed_total: int
    ignored_total: int
    not_permitted_total: int
    policy: Mapping[str, Any]

    @classmethod
    def of(cls, breaker: Breaker) -> Figures:
        calls, failures, slow = breaker.buffered
        failure_rate, slow_call_rate = (None if rate < 0 else rate for rate in breaker.rates())
        totals = breaker.totals
        return cls(
            name=breaker.name,
            state=breaker.state,
            seconds_left=breaker.seconds_left(),
            failures_in_a_row=breaker.failures_in_a_row,
            buffered_calls=calls,
            failed_calls=failures,
            slow_calls=slow,
            failure_rate=failure_rate,
            slow_call_rate=slow_call_rate,
            successful_total=totals.successful,
            failed_total=totals.failed,
            ignored_total=totals.ignored,
            not_permitted_total=totals.not_permitted,
            policy=breaker.policy.as_json(),
        )


class Breakers:
    """One breaker a name, made when first asked for."""

    def __init__(self, clock: Clock, shared: Shared | None = None) -> None:
        self.clock = clock
        self._shared = shared or Alone()
        self._shared.on_told = self.follow
        self._breakers: dict[str, Breaker] = {}
        self._overrides: Mapping[str, Override] | None = None

    def of(self, name: str, policy: Policy | None = None) -> Breaker:
        """The breaker of a name, which goes by `policy` from now on if one is given."""
        breaker = self._breakers.get(name)
        if breaker is None:
            self._make_room()
            breaker = self._breakers[name] = Breaker(self.clock, policy, name)
        elif policy is not None and policy is not breaker.policy:
            breaker.configure(policy)
        return breaker

    async def admit(self, breakers: Sequence[Breaker], lease: float = 60.0) -> Permits | None:
        """Leave of all of them or none. `lease`: seconds within which a call that is a probe has
        its result; after that another may go in its stead."""
        if all([breaker.is_closed for breaker in breakers]):
            return Permits(self, closed=breakers)
        for breaker in breakers:
            if breaker.rests:
                breaker.totals.not_permitted += 1
                return None
        given: list[Permit] = []
        try:
            for breaker in breakers:
                permit = (
                    await self._probe(breaker, lease) if breaker.wants_probe else breaker.permit()
                )
                if permit is None:
                    break
                given.append(permit)
        finally:
            if len(given) < len(breakers):
                Permits(self, given).release()
        return Permits(self, given) if len(given) == len(breakers) else None

    def end(self, permit: Permit, result: Result, seconds: float) -> None:
        """One breaker's part of a call's end, and what all workers must hear of it."""
        breaker, turn = permit.breaker, permit.breaker.turn
        if permit.over:
            return
        breaker.end(permit, result, seconds)
        if permit.lease:
            slow = seconds > breaker.policy.slow_call_seconds
            self._shared.end(breaker.name, permit.lease, result, slow=slow, policy=breaker.policy)
        elif breaker.turn != turn:
            self._tell(breaker)

    def follow(self, told: Told) -> None:
        """Take over what the workers came to."""
        if told.name in self._breakers or told.state is not State.CLOSED:
            self.of(told.name).follow(told.state, told.seconds_left)

    def apply(self, overrides: Mapping[str, Override]) -> None:
        """Staff's words, as they are now, by name. CLOSED is done once, when it is new."""
        known, self._overrides = self._overrides, overrides
        for name in (known or {}).keys() | overrides.keys():
            override = overrides.get(name)
            if known is not None and override == known.get(name):
                continue
            if override is None or override.state in FORCED:
                self._force(name, override)
            elif known is not None and name in self._breakers:
                self._breakers[name].force(override)
                self._shared.tell(name, State.CLOSED, 0.0)

    def rests(self, name: str) -> bool:
        """Whether a target's breaker, or its provider's, lets nobody through just now."""
        whole = name.partition("/")[0]
        found = (self._breakers.get(one) for one in (whole, name))
        return any(breaker is not None and breaker.rests for breaker in found)

    def states(self) -> dict[str, State]:
        """Of all there are. Any thread may ask: it reads from a copy made in one step."""
        return {name: breaker.state for name, breaker in list(self._breakers.items())}

    def figures(self) -> list[Figures]:
        """Of all that are not a tenant's own. Any thread may ask."""
        return [
            Figures.of(breaker)
            for name, breaker in list(self._breakers.items())
            if not name.startswith(OF_A_TENANT)
        ]

    def _force(self, name: str, override: Override | None) -> None:
        if override is None:
            if name in self._breakers and self._breakers[name].state in FORCED:
                self._breakers[name].force(None)
            return
        self.of(name).force(override)
        # What was seen before staff spoke counts for nobody afterwards.
        self._shared.tell(name, State.CLOSED, 0.0)

    async def _probe(self, breaker: Breaker, seconds: float) -> Permit | None:
        name, policy, lease = breaker.name, breaker.policy, uuid7()
        try:
            told = await self._shared.probe(name, lease, seconds, policy)
        except StoreAway:
            told = None
        except BaseException:
            self._shared.end(name, lease, Result.IGNORED, slow=False, policy=policy)
            raise
        if told is None:
            return breaker.permit()
        if told.granted:
            permit = breaker.lease(lease)
            if permit is not None:
                return permit
            self._shared.end(name, lease, Result.IGNORED, slow=False, policy=policy)
        if breaker.wants_probe:  # the others have them all
            breaker.totals.not_permitted += 1
            return None
        return breaker.permit()

    def _tell(self, breaker: Breaker) -> None:
        if breaker.state in (State.OPEN, State.CLOSED):
            self._shared.tell(breaker.name, breaker.state, breaker.seconds_left())

    def _make_room(self) -> None:
        if len(self._breakers) < MOST:
            return
        for name, breaker in list(self._breakers.items()):
            if name.startswith(OF_A_TENANT) and not breaker.rests:
                del self._breakers[name]
