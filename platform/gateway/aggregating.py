"""Aggregation: `?strategy=` asks several targets of a data operation at once.

`fastest` serves the first answer and cancels the others; `all` tells each one's answer; `merge`
makes them one (providers/operations/merging.py). It is the caller who says so; `fan_out` of the
route and of the caller's plan say how many may be asked at most. Each is asked once: what fails is
not retried, since others have been asked already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.attempt import Attempt, Failed, Sending
from gateway.costs import note_hedged_away, note_used, price_of, used
from gateway.dispatch import NO_ROOM, OPEN, Search
from gateway.explanation import UNSUPPORTED
from gateway.hedging import Race
from gateway.notes import attempts_of
from gateway.routing import Candidate, Narrowing, Plan
from gateway.served import Served
from lib.problems import DeadlineExceeded, Forbidden, InvalidRequest, Problem, Unavailable
from providers.adapter import Unsupported
from providers.call import Call
from usage.record import AttemptRecord
from usage.reservation import Reservation

FIRST, FASTEST, ALL, MERGE = "first", "fastest", "all", "merge"
ALL_COUNT = frozenset({ALL, MERGE})  # every answer is the tenant's to pay
BEYOND = "fan_out"  # why a target is not asked: so many may be asked at once, and it comes after
_SKIPPED: Mapping[str, tuple[str, str]] = {
    OPEN: ("circuit_open", "This provider is resting after failures."),
    NO_ROOM: ("provider_unavailable", "This provider has reached a limit or quota of its own."),
}
_NO_CREDENTIAL = ("provider_unavailable", "No credential for this provider may be used now.")


def narrowed(params: Mapping[str, Any], narrowing: Narrowing, strategy: str) -> Narrowing:
    """With a strategy other than `first`. Raises InvalidRequest where that makes no
    sense."""
    if narrowing.provider or not narrowing.fallback:
        name = "provider" if narrowing.provider else "fallback"
        raise _senseless(f"strategy={strategy} asks several providers. Leave out `{name}`.")
    if "cursor" in params:
        raise _senseless("A cursor is one provider's. Leave out `strategy` to go on with it.")
    return replace(narrowing, together=strategy)


def _senseless(detail: str) -> InvalidRequest:
    return InvalidRequest(
        detail, param="strategy", errors=[{"detail": detail, "pointer": "/strategy"}]
    )


def planned(plan: Plan, call: Call, together: str, fan_out: int) -> Plan:
    """The plan with whom to ask at once: each target that can be asked this once, as many as the
    route allows, and the caller's plan with its `fan_out`. Where a tenant's own credential never
    turns into the house's, it is not asked beside it either. Raises Forbidden."""
    most = min(plan.route.fan_out, fan_out)
    if most < 2:
        raise Forbidden(
            "Only one provider at a time may be asked for this operation here. "
            "Leave out `strategy`.",
            param="strategy",
        )
    houses = [each for each in plan.candidates if each.houses] if plan.bound else []
    if houses:
        plan = plan.without(houses, "house_credential")
    unable = [each for each in plan.candidates if not _can_be_asked(each, call)]
    if len(unable) < len(plan.candidates):  # where none can, each says why
        plan = plan.without(unable, UNSUPPORTED)
    chosen = set(map(id, list({each.name: each for each in plan.candidates}.values())[:most]))
    beyond = [each for each in plan.candidates if id(each) not in chosen]
    if beyond:
        plan = plan.without(beyond, BEYOND)
    return replace(plan, together=together)


def _can_be_asked(candidate: Candidate, call: Call) -> bool:
    """Whether its definition has words for the call: a bank that tells rates of one currency only
    takes no place of one that tells all."""
    try:
        candidate.target.provider.adapter.request(call, candidate.upstream)
    except Unsupported:
        return False
    except InvalidRequest:
        pass  # which it says itself
    return True


@dataclass(slots=True, eq=False)
class Part:
    """One target's part in a call: what was sent, and what came of it. `is_final`: it would
    answer the same if it were asked again."""

    candidate: Candidate
    attempt: Attempt | None
    served: Served | None = None
    note: AttemptRecord | None = None
    problem: Problem | None = None
    is_final: bool = False

    async def begin(self) -> Served:
        """Raises what Attempt.begin does, once it is noted."""
        assert self.attempt is not None  # noqa: S101 - only those with one are begun
        try:
            self.served = await self.attempt.begin()
        except Failed as failed:
            self.problem, self.is_final = failed.problem, not failed.outcome.falls_back
            raise
        except Problem as problem:
            self.problem, self.is_final = problem, isinstance(problem, InvalidRequest)
            raise
        return self.served

    def lose(self) -> None:
        if self.attempt is not None:
            self.attempt.lose()

    def close(self) -> None:
        if self.attempt is not None:
            self.attempt.close()


@dataclass(slots=True)
class Together:
    """One call that asks all candidates of its plan at once."""

    search: Search
    plan: Plan
    reservation: Reservation
    sending: Sending

    async def fastest(self) -> Served:
        """The first answer. The others are cancelled as hedged reads are, and paid by the house.
        Raises the Problem the caller should see when nobody answers."""
        parts = await self._let_in()
        found = await Race[Part, Served]().run_all([part for part in parts if part.attempt])
        if found is not None and found[0].attempt is not None:
            found[0].attempt.answered(found[1])
        self._count(parts)
        if found is None:
            raise self._nobody(parts)
        note_hedged_away(self.reservation, self.sending.prices)
        return found[1]

    async def all(self) -> list[Part]:
        """Every candidate's part, in their order, at least one of them answered: by the deadline,
        whoever has not is out. Raises the Problem the caller should see when nobody answers."""
        parts = await self._let_in()
        try:
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    if part.attempt is not None:
                        group.create_task(self._hear(part, part.attempt))
        finally:
            for part in parts:
                part.close()
        self._count(parts)
        if not heard(parts):
            raise self._nobody(parts)
        return parts

    async def _let_in(self) -> list[Part]:
        """All breakers, credentials and quotas are asked before anything is sent."""
        parts: list[Part] = []
        try:
            for place, candidate in enumerate(self.plan.candidates):
                attempt = await self.search.let_in(place, candidate)
                parts.append(Part(candidate, attempt))
                if attempt is None:
                    parts[-1].problem = _passed_over(self.reservation.attempts[-1].verdict)
        except BaseException:
            for part in parts:
                part.close()
            raise
        return parts

    async def _hear(self, part: Part, attempt: Attempt) -> None:
        try:
            served = await part.begin()
        except (Failed, Problem):
            return
        attempt.answered(served)
        part.note = self.reservation.attempts[-1]
        with served:
            upstream, record = part.candidate.upstream, self.reservation.record
            served.price = price_of(upstream, record, self.sending.prices)
            usage, _ = used(served, broken=False)
            note_used(part.note, usage, served.price)

    def _count(self, parts: Sequence[Part]) -> None:
        """Each first try pays for a part of the retries to come."""
        for place, part in enumerate(parts):
            if part.attempt is not None and part.attempt.verdict:
                self.search.count(place)

    def _nobody(self, parts: Sequence[Part]) -> Problem:
        """What the caller can mend, or an answer that there is nothing, goes before what failed."""
        tried = [part for part in parts if part.attempt is not None and part.problem is not None]
        for part in tried:
            if isinstance(part.problem, Unsupported):
                self.search.unsupported = part.problem
            elif part.is_final and part.problem is not None:
                return part.problem
            elif isinstance(part.problem, DeadlineExceeded):
                return DeadlineExceeded(attempts=attempts_of(self.reservation))
            else:
                self.search.last = part.problem
        return self.search.nobody()


def heard(parts: Sequence[Part]) -> list[Served]:
    """The answers, in the order of the candidates."""
    return [part.served for part in parts if part.served is not None]


def _passed_over(verdict: str) -> Problem:
    code, detail = _SKIPPED.get(verdict, _NO_CREDENTIAL)
    return Unavailable(detail, code=code)
