"""Equal calls that miss at the same time: one goes to the provider, the others wait for it.

Who waits keeps its own deadline. When the leader leaves without an answer (it was cancelled, its
time was over, or it failed for another reason of its own) the one with most time left leads; what
becomes of a provider's failure, and of an answer that is not for sharing, the leader says.
"""

from __future__ import annotations

import asyncio
import copy
from operator import attrgetter
from typing import NamedTuple

from cache.entry import Entry
from cache.tags import Stamps
from lib.deadline import Deadline
from lib.problems import DeadlineExceeded, Problem

APART_SECONDS = 5.0
MOST_APART = 10_000


class Lead:
    """What a waiter hears when it is its turn."""


class Apart:
    """What it hears when the answer is nobody's but its asker's: everyone asks for itself."""


LEAD, APART = Lead(), Apart()
News = Entry | Lead | Apart | Problem


class _Waiter(NamedTuple):
    news: asyncio.Future[News]
    moment: int  # when it came (tags.py)
    until: float  # the loop's time


class Flight:
    """One key's. `lease` is its name in the second level, where other workers see it."""

    __slots__ = ("_flights", "_waiters", "key", "landed", "lease")

    def __init__(self, flights: Flights, key: bytes, lease: str) -> None:
        self.key = key
        self.lease = lease
        self.landed = False
        self._flights = flights
        self._waiters: list[_Waiter] = []

    def land(self, entry: Entry) -> None:
        """Here is the answer. Those who came after something in it was invalidated have another
        leader, who asks anew."""
        self.serve(entry)
        self.leave()

    def serve(self, entry: Entry) -> None:
        """Here is what those who wait can have meanwhile."""
        stamps = self._flights.stamps
        late: list[_Waiter] = []
        for waiter in self._waiters:
            if stamps.valid_for(entry, waiter.moment):
                _tell(waiter, entry)
            else:
                late.append(waiter)
        self._waiters = late

    def fail(self, problem: Problem) -> None:
        """All who wait now fail as the leader did."""
        for waiter in self._waiters:
            own = copy.copy(problem)
            own.extra = dict(problem.extra)  # each adds what it alone is told
            _tell(waiter, own)
        self._end()

    def disperse(self) -> None:
        """The answer is for nobody else, and for a while nobody waits for one."""
        self._flights.part(self.key)
        for waiter in self._waiters:
            _tell(waiter, APART)
        self._end()

    def leave(self) -> None:
        """Of those who still wait, the one with most time left leads: else many would ask one
        after another, each with no time for an answer. The flight ends when nobody waits."""
        waiting = [waiter for waiter in self._waiters if not waiter.news.done()]
        if not waiting:
            self._end()
            return
        heir = max(waiting, key=attrgetter("until"))
        self._waiters = [waiter for waiter in waiting if waiter is not heir]
        heir.news.set_result(LEAD)

    async def wait(self, until: float) -> News:
        """Raises DeadlineExceeded at the loop's time `until`."""
        news: asyncio.Future[News] = asyncio.get_running_loop().create_future()
        self._waiters.append(_Waiter(news, self._flights.stamps.moment, until))
        try:
            with Deadline(until):
                return await news
        except BaseException as error:
            news.cancel()
            if not news.cancelled() and news.result() is LEAD:
                self.leave()  # it was told in the same turn in which it gave up
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded from None
            raise

    def _end(self) -> None:
        self._waiters.clear()
        self.landed = True
        self._flights.end(self)


class Flights:
    """All that are in the air in this worker; and the keys whose answers were for nobody else
    lately, where it is better not to wait for each other."""

    def __init__(self, stamps: Stamps) -> None:
        self.stamps = stamps
        self._open: dict[bytes, Flight] = {}
        self._apart: dict[bytes, float] = {}  # until the loop's time, the oldest first

    def __len__(self) -> int:
        return len(self._open)

    def get(self, key: bytes) -> Flight | None:
        return self._open.get(key)

    def are_apart(self, key: bytes) -> bool:
        until = self._apart.get(key)
        return until is not None and asyncio.get_running_loop().time() < until

    def part(self, key: bytes) -> None:
        self._apart.pop(key, None)
        self._apart[key] = asyncio.get_running_loop().time() + APART_SECONDS
        if len(self._apart) > MOST_APART:
            del self._apart[next(iter(self._apart))]

    def begin(self, key: bytes, lease: str) -> Flight:
        flight = self._open[key] = Flight(self, key, lease)
        return flight

    def end(self, flight: Flight) -> None:
        if self._open.get(flight.key) is flight:
            del self._open[flight.key]


def _tell(waiter: _Waiter, news: News) -> None:
    if not waiter.news.done():
        waiter.news.set_result(news)
