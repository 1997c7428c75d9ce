"""Dispatch: try the plan's targets in order until one answers, and then perhaps once more."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gateway.attempt import Attempt, Failed, Means, Sending
from gateway.hedging import HEDGED_AWAY, Hedging
from gateway.notes import attempts_of, note_skipped
from gateway.retrying import Retries, Retrying
from gateway.routing import Candidate, Plan
from gateway.scores import Scores
from gateway.served import Served
from gateway.tokens import Tokens
from lib.clock import Clock
from lib.problems import Problem, Unavailable
from providers.adapter import Unsupported
from providers.breaker import Breaker
from providers.breakers import Breakers, Permits
from providers.call import Call, Verdict
from providers.transport import Transport
from usage.reservation import Reservation

NO_RESCUE = "none"
LEASE_MARGIN = 5.0  # seconds past its deadline after which a probe has surely died

OPEN, NO_ROOM = "skipped_circuit_open", "skipped_quota"
RESTS, NO_CREDENTIAL = "skipped_credential_rests", "skipped_no_credential"
SKIPS = (OPEN, NO_ROOM, RESTS, NO_CREDENTIAL)


@dataclass(slots=True)
class Dispatcher:
    """Makes attempts. One for the whole process; all that belongs to a call is passed in."""

    transport: Transport
    breakers: Breakers
    clock: Clock
    scores: Scores
    hedging: Hedging = field(default_factory=Hedging)
    retrying: Retrying = field(init=False)
    means: Means = field(init=False)

    def __post_init__(self) -> None:
        self.retrying = Retrying(self.clock)
        tokens = Tokens(self.transport, self.clock)
        self.means = Means(self.transport, self.clock, self.scores, self.retrying.pool, tokens)

    def serve(
        self, call: Call, plan: Plan, reservation: Reservation, sending: Sending
    ) -> Coroutine[Any, Any, Served]:
        """The attempt that answers: `with await dispatcher.serve(…) as served:`.

        Raises the Problem the caller should see when nobody does.
        """
        return Search(self, call, plan, reservation=reservation, sending=sending).run()

    def search(self, call: Call, plan: Plan, reservation: Reservation, sending: Sending) -> Search:
        """For those who ask the plan's targets in another way than one after another."""
        return Search(self, call, plan, reservation=reservation, sending=sending)

    def resting(self, candidate: Candidate) -> bool:
        """Whether a breaker before it is open, or none of its credentials may be used now."""
        left = self.retrying.pool.seconds_left(candidate.upstreams)
        return left > 0 or self.is_open(candidate)

    def is_open(self, candidate: Candidate) -> bool:
        return any(map(self.breakers.rests, candidate.breakers))

    def breakers_of(self, candidate: Candidate) -> Sequence[Breaker]:
        policies = candidate.target.provider.breaker
        each = zip(candidate.breakers, (policies.provider, policies.target), strict=False)
        return [self.breakers.of(name, policy) for name, policy in each]


def call_may_be_rescued(call: Call, plan: Plan) -> bool:
    return plan.route.rescue != NO_RESCUE and call.stream


class Search:
    """One call's way from target to target, until one answers."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        call: Call,
        plan: Plan,
        *,
        reservation: Reservation,
        sending: Sending,
    ) -> None:
        self._dispatcher = dispatcher
        self.asked = self._call = call
        self._plan = plan
        self._place = 0  # of whose stream may be rescued
        self._reservation = reservation
        self._sending = sending
        self._retries: Retries | None = None
        self.unsupported: Unsupported | None = None
        self.last: Problem | None = None
        self._helper: int | None = None  # who was asked besides, -1: nobody was needed yet

    async def run(self) -> Served:
        """Raises the Problem the caller should see."""
        for place in range(len(self._plan.candidates)):
            if place == self._helper:
                continue
            served = await self._try(place)
            if served is not None:
                return served
        if self._retries is not None:
            deadline, is_open = self._sending.deadline, self._dispatcher.is_open
            while (again := await self._retries.wait(deadline, is_open)) is not None:
                served = await self._try(again)
                if served is not None:
                    return served
        raise self.nobody()

    async def _try(self, place: int) -> Served | None:
        """None where the target was passed over, or failed as another one may not. Raises the
        Problem that ends the call."""
        candidate = self._plan.candidates[place]
        while (attempt := await self.let_in(place, candidate)) is not None:
            try:
                served = await self._answer(place, attempt)
            except Unsupported as problem:
                self.unsupported = problem
                return None
            except Failed as failed:
                if self._goes_on(place, failed):
                    continue
                return None
            self.count(place)
            if call_may_be_rescued(self._call, self._plan):
                self._place, served.search = place, self
            return served
        return None

    @property
    def rescue(self) -> str:
        return self._plan.route.rescue

    async def further(self, call: Call) -> Served | None:
        """Who carries on the stream that broke off."""
        self._call = call
        for place in range(self._place + 1, len(self._plan.candidates)):
            served = await self._try(place)
            if served is not None:
                return served
        return None

    async def _answer(self, place: int, attempt: Attempt) -> Served:
        candidate = self._plan.candidates[place]
        hedges = self._plan.route.hedge and candidate.target.model is None and self._helper is None
        if not hedges:
            served = await attempt.begin()
            attempt.answered(served)
            return served
        self._helper = -1
        watched = self._dispatcher.hedging.of(candidate.name)
        answer: Served
        winner, answer = await watched.race(attempt, partial(self._another, place))
        winner.answered(answer)
        if attempt.verdict in (Verdict.OK, HEDGED_AWAY):  # of which the latter took that at least
            watched.latencies.add(attempt.seconds)
        return answer

    async def _another(self, first: int) -> Attempt | None:
        """An attempt at the next target that may help and has room."""
        for place in range(first + 1, len(self._plan.candidates)):
            if self._may_help(first, place):
                return await self._let_in_besides(place)
        return None

    def _may_help(self, first: int, place: int) -> bool:
        """Not as a probe of a breaker, and never on our credential after the tenant's own."""
        candidates = self._plan.candidates
        if candidates[first].own and candidates[place].houses:
            return False
        breakers = self._dispatcher.breakers_of(candidates[place])
        return not any(breaker.rests or breaker.wants_probe for breaker in breakers)

    async def _let_in_besides(self, place: int) -> Attempt | None:
        attempt = await self._admitted(place, self._plan.candidates[place])
        if isinstance(attempt, str):
            return None
        self._helper = place
        return attempt

    def _goes_on(self, place: int, failed: Failed) -> bool:
        """Whether to try another credential of the same target. Raises the Problem of what is
        the caller's own fault."""
        self.count(place)
        self.last = failed.problem
        if not failed.outcome.falls_back:
            raise failed.problem from None
        if self._retries is None:
            self._retries = Retries(self._dispatcher.retrying, self._plan)
        return self._retries.failed(place, failed.outcome)

    def count(self, place: int) -> None:
        """A first try pays for a part of the retries to come."""
        if self._retries is None or not self._retries.tried(place):
            candidate = self._plan.candidates[place]
            self._dispatcher.retrying.budget(candidate).first(candidate.target.provider.retry)

    async def let_in(self, place: int, candidate: Candidate) -> Attempt | None:
        """An attempt that credentials, breakers and quotas allow; else why not is noted."""
        attempt = await self._admitted(place, candidate)
        if isinstance(attempt, str):
            self._skip(place, attempt)
            return None
        return attempt

    async def _admitted(self, place: int, candidate: Candidate) -> Attempt | str:
        upstream = self._dispatcher.retrying.pool.pick(candidate.upstreams)
        if upstream is None:
            left = self._dispatcher.retrying.pool.seconds_left(candidate.upstreams)
            return NO_CREDENTIAL if left == math.inf else RESTS
        dispatcher, reservation = self._dispatcher, self._reservation
        lease = self._sending.deadline - asyncio.get_running_loop().time() + LEASE_MARGIN
        breakers = dispatcher.breakers_of(candidate)
        permits = await dispatcher.breakers.admit(breakers, lease)
        if permits is None:
            return OPEN
        if not await self._has_room(place, permits):
            return NO_ROOM
        return Attempt(
            dispatcher.means,
            self._call,
            candidate=candidate,
            upstream=upstream,
            reservation=reservation,
            permits=permits,
            sending=self._sending,
        )

    async def _has_room(self, place: int, permits: Permits) -> bool:
        has_room = False
        try:
            has_room = await self._reservation.grant.admits(place)
        finally:
            if not has_room:
                permits.release()
        return has_room

    def _skip(self, place: int, why: str) -> None:
        """Note it, but of a target that was tried already: what is told of it is how it failed."""
        if self._retries is None or not self._retries.tried(place):
            candidate = self._plan.candidates[place]
            note_skipped(self._reservation, candidate, self._dispatcher.clock, why)

    def nobody(self) -> Problem:
        """What to tell where no target answered."""
        notes = self._reservation.attempts
        tried = [note for note in notes if note.verdict not in SKIPS]
        if self.unsupported and not tried and all(n.verdict == NO_CREDENTIAL for n in notes):
            return self.unsupported  # and nobody else is there who might take it later
        attempts = attempts_of(self._reservation)
        attempts += [skip.as_attempt() for skip in self._plan.skipped if not skip.wished]
        if not tried:
            return self._nobody_tried(attempts)
        alone = len({(note.provider, note.model) for note in tried}) == 1
        if self.last is not None and (alone or tried[-1].verdict == Verdict.INVALID_ANSWER):
            self.last.extra.setdefault("attempts", attempts)
            return self.last
        return Unavailable(attempts=attempts, retry_after=self._retry_after())

    def _nobody_tried(self, attempts: list[dict[str, Any]]) -> Problem:
        wait = self._retry_after()
        if {RESTS, NO_CREDENTIAL}.isdisjoint(note.verdict for note in self._reservation.attempts):
            return Unavailable(
                "Every provider of this route is resting after failures. Try again shortly.",
                code="circuit_open",
                retry_after=wait,
                attempts=attempts,
            )
        return Unavailable(
            "No credential for this route's providers may be used now: they limited or refused "
            "it. `attempts` says which; a refused one is for its owner to replace.",
            retry_after=wait,
            attempts=attempts,
        )

    def _retry_after(self) -> int | None:
        """Whole seconds until a target may be tried again, 1 at least; None where that is for
        somebody to bring about."""
        wait = min(map(self._seconds_left, self._plan.candidates))
        return None if wait == math.inf else int(wait) + 1

    def _seconds_left(self, candidate: Candidate) -> float:
        breakers = self._dispatcher.breakers_of(candidate)
        rests = max(breaker.seconds_left() for breaker in breakers)
        return max(rests, self._dispatcher.retrying.pool.seconds_left(candidate.upstreams))
