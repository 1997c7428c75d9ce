"""One call's look into the cache, from the second level to the provider's answer.

What it says: serve `entry`, or ask a provider and `keep` what comes. As a scope it lets the next
in line have its turn, however it is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

import structlog

from cache.entry import Entry
from cache.flight import LEAD, Flight
from cache.freshness import Headers, State, Times, conditional
from cache.keys import Place
from cache.policy import CachePolicy, Wish
from cache.shared import LEASE_SECONDS, Lease, Since
from cache.tags import of_key
from lib.ids import uuid7
from lib.later import Later
from lib.problems import DeadlineExceeded, NotFound, Problem
from lib.stores import StoreAway

if TYPE_CHECKING:
    from cache.cache import Answer, Cache

log = structlog.get_logger("patchbay.cache")

SHORTEST_PAUSE, LONGEST_PAUSE = 0.01, 0.05  # seconds between two looks for another worker's answer
_HELD = Later(LEASE_SECONDS / 3)  # leases that live on


class Ask(NamedTuple):
    """What one call looks for: Cache.ask makes it."""

    key: bytes
    policy: CachePolicy
    wish: Wish
    until: float
    tags: Sequence[str]
    asked_with: Headers
    place: Place


class Look:
    """`entry` is what to serve, if anything is, and `state` how fresh that is. `leads`: this call
    is the one to ask a provider; where there is an entry too, it does so with `refresh`. Who has
    neither asks for itself alone, unless it wanted nothing but what is kept.

    `known` is the kept answer that a provider may say still holds; `since` and `made` are moments
    before it is asked (shared.py, tags.py).
    """

    __slots__ = (
        "_cache",
        "_flight",
        "ask",
        "entry",
        "known",
        "lease",
        "made",
        "since",
        "state",
    )

    def __init__(self, cache: Cache, ask: Ask) -> None:
        self.ask = ask
        self.entry: Entry | None = None
        self.state = State.DEAD
        self.known: Entry | None = None
        self.made = 0
        self.since: Since | None = None
        self.lease = ""
        self._cache = cache
        self._flight: Flight | None = None

    @property
    def leads(self) -> bool:
        return self._flight is not None

    @property
    def spare(self) -> Entry | None:
        """What may be served although it is stale, when no provider can answer."""
        known, wish = self.known, self.ask.wish
        if known is None or wish.no_cache or not self._cache.stamps.valid(known):
            return None
        now = self._cache.clock.now()
        return known if known.freshness.state(now, wish.max_age) < State.DEAD else None

    @property
    def conditional(self) -> dict[str, str]:
        """Request headers that ask the provider whether `known` still holds."""
        return conditional(dict(self.known.headers)) if self.known is not None else {}

    async def __aenter__(self) -> Self:
        """Raises DeadlineExceeded, and the Problem of a leader with whom all fail together."""
        try:
            await self._find()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def keep(self, answer: Answer) -> Entry | None:
        """Keep the answer and give it to those who wait; None where it is for nobody else."""
        return self._land(self._cache.entry_of(answer, self))

    def still_holds(
        self, headers: Headers, times: Times, policy: CachePolicy | None = None
    ) -> Entry | None:
        """A provider, whose `policy` it is, answered 304 with these headers. None: that was about
        another answer than the one that is kept; ask again without conditions."""
        entry = self._cache.renewed(headers, times, self, policy or self.ask.policy)
        if entry is None:
            return None
        self._cache.figures.revalidated += 1
        return self._land(entry)

    def failed(self, problem: Problem) -> Entry | None:
        """No provider could answer: the stale answer that is served instead, to those who wait
        too, or None. Whose own time is over says nothing to those who have more of it."""
        if isinstance(problem, DeadlineExceeded):
            self.close()
        spare = self.spare
        if spare is None:
            self._fail(problem)
            return None
        self._serve(spare)
        if self._flight is not None:
            self._flight.land(spare)
            self._let_go(self._flight)
        return spare

    def refused(self, problem: Problem) -> None:
        """Nobody who asks the same is answered otherwise; and what is kept of it holds no longer,
        where a provider says that there is no such thing."""
        if self.known is not None and problem.status == NotFound.status:
            self._cache.do_behind(self._cache.invalidate((), [of_key(self.ask.key)]))
        self._fail(problem)

    def refresh(self, fetch: Callable[[Look], Awaitable[None]]) -> None:
        """Have `fetch` ask the provider behind, while `entry` is served."""
        behind = Look(self._cache, self.ask)
        behind.known, behind.made, behind.since = self.known, self.made, self.since
        behind.lease, behind._flight, self._flight = self.lease, self._flight, None
        _HELD.remove(self)
        behind._hold()
        self._cache.do_behind(behind._refresh(fetch))

    async def peek(self, until: float) -> Entry | None:
        """What is kept, fresh or not; from the second level only where memory has nothing that is
        fresh until then (unix seconds). Nobody is served, and no figure counts it."""
        cache = self._cache
        self.made = cache.stamps.moment
        self._learn(cache.memory.get(self.ask.key))
        if self.known is None or self.known.freshness.ends <= until:
            await self._ask_second_level("")
        return self.known

    def lead(self) -> bool:
        """Ask a provider although what is kept may be fresh. False: another call does already."""
        flights = self._cache.flights
        if self._flight is not None or flights.get(self.ask.key) is not None:
            return False
        self._flight = flights.begin(self.ask.key, uuid7())
        return True

    def close(self) -> None:
        """Let the next in line have its turn."""
        if self._flight is not None:
            self._flight.leave()
            self._let_go(self._flight)

    def due(self) -> None:
        """It has led for a while: other workers are told that it lives."""
        self._cache.shared.renew(self.ask.key, self.lease)
        self._hold()

    async def _find(self) -> None:
        flights, wish = self._cache.flights, self.ask.wish
        self._learn(self._cache.memory.get(self.ask.key))
        if self.state is State.FRESH and not wish.no_cache:
            self._serve(self.known)
        elif wish.no_cache or wish.only_if_cached:
            await self._find_apart()
        elif flights.are_apart(self.ask.key):
            self._go_alone()
        elif (flight := flights.get(self.ask.key)) is None:
            await self._lead(flights.begin(self.ask.key, uuid7()))
        elif self.state is State.WHILE_REVALIDATING:
            self._serve(self.known)
        else:
            await self._wait(flight)

    async def _find_apart(self) -> None:
        """For one who takes only what is kept, or nothing that is."""
        await self._ask_second_level("")
        if not self.ask.wish.no_cache and self.state <= State.WHILE_REVALIDATING:
            self._serve(self.known)
        else:
            self._cache.figures.misses += 1

    async def _wait(self, flight: Flight) -> None:
        try:
            news = await flight.wait(self.ask.until)
        except DeadlineExceeded as problem:
            news = problem
        if news is LEAD:
            await self._lead(flight)
        elif isinstance(news, Entry):
            self._take(news)
        elif isinstance(news, Problem):
            self._serve_instead_of(news)
        else:
            self._go_alone()

    def _take(self, entry: Entry) -> None:
        """What another call has fetched, or has found to be the best there is."""
        state = entry.freshness.state(self._cache.clock.now(), self.ask.wish.max_age)
        if state is State.DEAD or not entry.suits(self.ask.asked_with):
            return self._go_alone()
        self.known, self.state = entry, state
        self.entry = entry
        self._cache.figures.waited += 1
        return None

    def _go_alone(self) -> None:
        self.made = self._cache.stamps.moment
        self._cache.figures.misses += 1

    async def _lead(self, flight: Flight) -> None:
        """Until an answer turns up in the second level, or it is ours to fetch."""
        self._flight = flight
        pause = SHORTEST_PAUSE
        while not await self._ask_second_level(flight.lease):
            if self.state <= State.WHILE_REVALIDATING:  # where it is stale, another refreshes it
                self._serve(self.known)
                return self._land_what_is_known(flight)
            if asyncio.get_running_loop().time() + pause > self.ask.until:
                self._serve_instead_of(DeadlineExceeded())
                return self.close()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        self._hold()
        if self.state is State.FRESH:
            self._serve(self.known)
            return self._land_what_is_known(flight)
        if self.state is State.WHILE_REVALIDATING and self.known is not None:
            self._serve(self.known)
            return flight.serve(self.known)
        self._cache.figures.misses += 1
        return None

    async def _ask_second_level(self, lease: str) -> bool:
        """Learn what it has. Whether nobody else, in any worker, is fetching the answer: then
        that is for this call to do, if it gave a lease."""
        self.made = self._cache.stamps.moment
        if not self.ask.policy.shared or not self._cache.shared.usable:
            return True
        try:
            whose = await self._get(lease)
            if lease and whose is Lease.NOT_NEEDED and self.state is not State.FRESH:
                # Fresh by the store's clock, but not by ours, or not for this client.
                whose = await self._get(lease, anyway=True)
        except StoreAway:
            return True
        return whose is Lease.GRANTED

    async def _get(self, lease: str, *, anyway: bool = False) -> Lease:
        cache, key = self._cache, self.ask.key
        kept = await cache.shared.get(key, lease, anyway=anyway)
        self.since = kept.since
        if kept.lease is Lease.GRANTED:
            self.lease = lease
        entry = cache.read(key, kept.data, self.made) if kept.data else None
        if entry is not None and self._learn(entry):
            cache.memory.put(key, entry)
        return kept.lease

    def _learn(self, entry: Entry | None) -> bool:
        """Whether it is newer than what is known, and nothing in it was invalidated."""
        cache, known, now = self._cache, self.known, self._cache.clock.now()
        if entry is None or not cache.stamps.valid(entry) or not entry.suits(self.ask.asked_with):
            return False
        if known is not None and entry.freshness.at < known.freshness.at:
            return False
        if entry.freshness.must_go(now):
            return False
        self.known = entry
        self.state = entry.freshness.state(now, self.ask.wish.max_age)
        return True

    def _serve(self, entry: Entry | None) -> None:
        if entry is None:
            return
        cache, figures = self._cache, self._cache.figures
        self.entry = entry
        self.state = entry.freshness.state(cache.clock.now(), self.ask.wish.max_age)
        figures.shared_hits += self.state is State.FRESH and self.since is not None
        figures.hits += self.state is State.FRESH and self.since is None
        figures.stale += self.state is State.WHILE_REVALIDATING
        figures.on_error += self.state is State.ON_ERROR

    def _serve_instead_of(self, problem: Problem) -> None:
        """A stale answer, if one may be served when no new one can be had. Raises the problem."""
        if self.spare is None:
            raise problem
        self._serve(self.spare)

    def _land(self, entry: Entry | None) -> Entry | None:
        """What may not be kept, or is stale already, is for nobody else."""
        cache, flight = self._cache, self._flight
        if entry is None:
            cache.figures.not_kept += 1
        else:
            cache.store(entry, self)
        if flight is not None:
            now = cache.clock.now()
            if entry is None or entry.freshness.state(now) > State.WHILE_REVALIDATING:
                flight.disperse()
            else:
                flight.land(entry)
            self._let_go(flight)
        return entry

    def _fail(self, problem: Problem) -> None:
        if self._flight is not None and self.ask.policy.fails_together:
            self._flight.fail(problem)
            self._let_go(self._flight)

    def _land_what_is_known(self, flight: Flight) -> None:
        if self.known is not None:
            flight.land(self.known)
            self._let_go(flight)

    def _let_go(self, flight: Flight) -> None:
        """It is over, or another one leads it."""
        self._flight = None
        _HELD.remove(self)
        if flight.landed:
            self._cache.shared.release(self.ask.key, self.lease)

    def _hold(self) -> None:
        if self.lease:
            _HELD.add(self)

    async def _refresh(self, fetch: Callable[[Look], Awaitable[None]]) -> None:
        try:
            await fetch(self)
        except Problem as problem:
            log.info("refresh_failed", code=problem.code)
        except Exception:
            log.exception("refresh_failed")
        finally:
            self.close()
