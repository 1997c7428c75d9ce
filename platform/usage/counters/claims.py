"""What a call claims of the counters, and what they answer.

All amounts are integers: requests, tokens, µUSD, credits, bytes. All moments of the counters are
whole microseconds, so that both implementations calculate alike to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from tenants.limits import RateLimit
from tenants.quotas import Metric, Quota
from tenants.windows import Period

SLICES = 64  # a span is counted in so many parts; one of 65 is what exactness costs
MICROSECONDS = 1_000_000
CLOCKS_APART = 60 * MICROSECONDS  # no two gateways' clocks, nor the store's, differ by more


class Amounts(NamedTuple):
    """How much of each metric a call, or one try at a provider, uses or reserves."""

    requests: int = 0
    tokens: int = 0
    cost: int = 0
    credits: int = 0
    bytes: int = 0

    def plus(self, other: Amounts) -> Amounts:
        return Amounts(*(one + another for one, another in zip(self, other, strict=True)))


NOTHING = Amounts()
_PLACE = {metric: Amounts._fields.index(metric.value) for metric in Metric}


@dataclass(frozen=True, slots=True)
class RateClaim:
    """A place in a rate limit: never more than `limit` in any span of its length.

    What is counted is requests, which nobody gives back, or tokens, which are settled.
    """

    limit: RateLimit
    key: str
    width: int = field(init=False)
    metric: Metric = field(init=False)
    settles: bool = field(init=False)
    place: int = field(init=False)

    def __post_init__(self) -> None:
        metric = Metric(self.limit.metric.value)
        object.__setattr__(self, "width", self.limit.per_seconds * MICROSECONDS // SLICES)
        object.__setattr__(self, "metric", metric)
        object.__setattr__(self, "settles", metric is not Metric.REQUESTS)
        object.__setattr__(self, "place", _PLACE[metric])

    def amount(self, amounts: Amounts) -> int:
        return amounts[self.place]


@dataclass(frozen=True, slots=True)
class QuotaClaim:
    """An amount of a quota's current window.

    `key` and `counter`, together `cell`, name the counter. `since` (µs) is when every gateway
    had begun to count by this quota as it is now: a counter that is missing then stands for
    nothing used only if its window began later; else it is filled from the ledger (`subject`
    says by which columns).
    """

    quota: Quota
    key: str
    period: Period
    since: int
    subject: tuple[tuple[str, int | str], ...]
    weight: int = 1
    cell: tuple[str, str] = field(init=False)
    place: int = field(init=False)

    settles = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "cell", (self.key, self.quota.counter))
        object.__setattr__(self, "place", _PLACE[self.quota.metric])

    @property
    def counter(self) -> str:
        return self.quota.counter

    @property
    def begins(self) -> int:
        """µs by anybody's clock: before, no gateway has counted in this window."""
        return int(self.period.starts * MICROSECONDS) - CLOCKS_APART

    @property
    def fresh(self) -> bool:
        return self.begins >= self.since

    def amount(self, amounts: Amounts) -> int:
        return amounts[self.place] * self.weight


@dataclass(frozen=True, slots=True)
class SlotClaim:
    """One of `limit` places for calls at the same time."""

    limit: RateLimit
    key: str

    settles = True

    def amount(self, amounts: Amounts) -> int:
        return 1


Claim = RateClaim | QuotaClaim | SlotClaim


@dataclass(slots=True)
class Part:
    """Claims that are granted all or none, with what is reserved for each of them. `provider`
    is empty for the call's own part, and else whose try it is."""

    claims: Sequence[Claim]
    amounts: Amounts
    provider: str = ""


@dataclass(slots=True)
class Hold:
    """What one call has been granted: its own part first, then one for each try at a provider.

    `id` is the request id. `moment` (µs, the counters' clock) is when it was granted. `settles`:
    whether anything is left to say about it at the end.
    """

    id: str
    parts: list[Part] = field(default_factory=list)
    moment: int = 0
    settles: bool = False

    def take(self, part: Part) -> None:
        self.parts.append(part)
        self.settles = self.settles or any([claim.settles for claim in part.claims])


class State(NamedTuple):
    """One claim after a decision: what is left, and the µs until its first place is free
    (where it refused) or until the allowance is whole again."""

    claim: Claim
    left: int
    wait: int
    refused: bool = False


class Admission(NamedTuple):
    """The decision. `chosen` is the option taken, -1 where there were none or none fits.

    `missing` are counters that must be filled from the ledger before anyone can say.
    """

    granted: bool
    states: tuple[State, ...]
    chosen: int = -1
    missing: tuple[QuotaClaim, ...] = ()


class LastWord(NamedTuple):
    """What is left to this gateway of a rate limit, for all it knows: its share of what was left
    `age` seconds ago."""

    claim: RateClaim
    left: int
    age: float


class Used(NamedTuple):
    """A quota's counter: settled, reserved."""

    used: int
    reserved: int


ByProvider = Mapping[str, Amounts]  # "" is the call itself


class Truth(Protocol):
    """What is asked of the database, which knows for certain. All raise StoreAway."""

    async def sum(self, claim: QuotaClaim, among: Sequence[str]) -> tuple[int, Sequence[str]]:
        """What the ledger says a quota's window has used, and which of the given calls are in
        that sum, both as of one moment."""
        ...

    async def used(self, request_ids: Sequence[str]) -> Mapping[str, ByProvider]:
        """What the ledger says that calls used; those without a row are left out."""
        ...

    async def beat(self) -> None:
        """This gateway lives."""
        ...

    async def leave(self) -> None:
        """This gateway ends, and has nothing left to settle."""
        ...

    async def processes(self) -> Sequence[str]:
        """Gateways that may have something to settle, dead or alive, this one included."""
        ...

    async def note_threshold(self, claim: QuotaClaim, threshold: int, used: int) -> None:
        """A quota's window has used `threshold` per cent of its limit; kept once."""
        ...

    async def dead(self, process: str) -> bool:
        """Whether it is certain that a gateway is dead. Then its open calls are closed."""
        ...

    async def forget(self, process: str) -> None:
        """Nothing of a dead gateway is left to settle."""
        ...


class CountersAway(Exception):
    """The store of the counters cannot be asked now. `wait`: seconds within which it probably
    can again, 0 where nobody knows. `late`: it is there, and was not asked because it owes
    answers."""

    def __init__(self, reason: str, wait: float = 0.0, *, late: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        self.late = late


OnUse = Callable[[QuotaClaim, int], None]


def nobody_listens(claim: QuotaClaim, used: int) -> None:
    """Until somebody wants to know."""


class Counters(Protocol):
    """Those that ask raise CountersAway.

    `on_use` is told what a quota's window has used in all whenever a call was added to it.
    """

    on_use: OnUse

    @property
    def ready(self) -> bool:
        """Whether they can be asked now, as far as is known, and answer in time."""
        ...

    async def start(self) -> None: ...

    async def close(self) -> None:
        """Settle what is left to settle, and let go."""
        ...

    async def admit(self, hold: Hold, base: Part, options: Sequence[Part] = ()) -> Admission:
        """Grant all of `base` and, where there are options, all of the first that fits; or
        nothing. What is granted joins the hold's parts."""
        ...

    def last_words(self, claims: Sequence[Claim]) -> Iterable[LastWord]:
        """What was said of these rate limits when the store last answered; each word once."""
        ...

    def count_unheard(self, part: Part) -> None:
        """It was let in without asking a store that is late: have its requests counted."""
        ...

    def settle(self, hold: Hold, used: Sequence[Amounts]) -> None:
        """The end of a hold: what each of its parts used, for what it had reserved. It is done
        once, now or as soon as the store can be asked."""
        ...

    async def begin_filling(self, claim: QuotaClaim) -> tuple[int, Sequence[str]]:
        """A number to be given back to `fill`, and the holds that claim of this counter. Until
        it is filled nobody claims of it; -1: it is by now."""
        ...

    async def fill(self, claim: QuotaClaim, number: int, used: int, final: Sequence[str]) -> bool:
        """Set a missing counter to what the ledger says. `final` are those holds which the
        ledger's sum has in it already. False: it changed meanwhile; begin again."""
        ...

    async def drop(self, claim: QuotaClaim) -> None:
        """What a counter says is no longer right: it is missing."""
        ...

    async def read(self, claims: Sequence[QuotaClaim]) -> list[Used | None]:
        """What the counters say; None for one that is missing."""
        ...
