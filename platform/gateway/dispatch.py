"""Dispatch: try the plan's targets in order until one answers.

For a stream "answers" means that its first event has come: whatever fails before that, the
next target may take over, and the client has not seen a byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import orjson

from billing.book import UNKNOWN, PriceBook, PriceVersion
from gateway.checks import check_stream, check_whole
from gateway.costs import note_lost
from gateway.quality import MAX_READ
from gateway.routing import Candidate, Plan
from gateway.scores import Scores
from lib.clock import Clock, utc
from lib.problems import (
    DeadlineExceeded,
    InvalidRequest,
    Problem,
    Unavailable,
    UpstreamRejected,
    UpstreamTimeout,
)
from providers.adapter import Meter, StreamFault, Unsupported
from providers.breaker import Breaker
from providers.breakers import OF_A_TENANT, Breakers, Permits
from providers.call import Answer, Call, Outcome, UpstreamRequest, Usage, Verdict
from providers.openai_wire import as_chunks
from providers.transport import Response, Transport, TransportFault
from usage.record import AttemptRecord
from usage.reservation import Reservation


@dataclass(slots=True)
class Served:
    """The attempt that answers. A stream has `events` already and more in `response`; of what
    was sent on, `kept` is the last part or, with `keeps_all`, everything worth reading.

    As a scope it lets the provider's connection go, whichever way it is left. What comes of a
    stream is the provider's success unless a fault was recorded by then.
    """

    candidate: Candidate
    meter: Meter
    call: Call
    response: Response
    permits: Permits
    price: PriceVersion = UNKNOWN
    answer: Answer | None = None
    events: list[bytes] = field(default_factory=list)
    chunks: AsyncIterator[bytes] | None = None
    keeps_all: bool = False
    kept: list[bytes] = field(default_factory=list)
    _kept_bytes: int = 0

    def keep(self, events: list[bytes]) -> None:
        if not self.keeps_all:
            self.kept = events
        elif self._kept_bytes <= MAX_READ:
            self.kept += events
            self._kept_bytes += sum(map(len, events))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.permits.record(Outcome(Verdict.OK, self.response.status))
        self.response.close()

    def estimate(self) -> Usage:
        """The worst case, for when the provider does not tell."""
        candidate = self.candidate
        return candidate.target.provider.adapter.estimate(self.call, candidate.upstream)


@dataclass(frozen=True, slots=True)
class Sending:
    """What goes with every attempt of a call: the loop's time by which it must have ended,
    headers for the provider (request id, trace), and what providers take."""

    deadline: float
    headers: Mapping[str, str]
    prices: PriceBook


@dataclass(slots=True)
class Dispatcher:
    """Makes attempts. One for the whole process; all that belongs to a call is passed in."""

    transport: Transport
    breakers: Breakers
    clock: Clock
    scores: Scores

    async def serve(
        self, call: Call, plan: Plan, reservation: Reservation, sending: Sending
    ) -> Served:
        """The attempt that answers: `with await dispatcher.serve(…) as served:`.

        Raises the Problem the caller should see when nobody does.
        """
        unsupported: Unsupported | None = None
        last: Problem | None = None
        grant = reservation.grant
        for place, candidate in enumerate(plan.candidates):
            lease = sending.deadline - asyncio.get_running_loop().time() + LEASE_MARGIN
            permits = await self.breakers.admit(self._breakers(candidate, reservation), lease)
            if permits is None:
                _note_skipped(reservation, candidate, self.clock, _OPEN)
                continue
            try:
                has_room = await grant.admits(place)
            except BaseException:
                permits.release()
                raise
            if not has_room:
                permits.release()
                _note_skipped(reservation, candidate, self.clock, _NO_ROOM)
                continue
            grant.tries(len(reservation.attempts))
            attempt = _Attempt(
                self,
                call,
                candidate=candidate,
                plan=plan,
                reservation=reservation,
                permits=permits,
            )
            try:
                return await attempt.run(sending)
            except Unsupported as problem:
                unsupported = problem
            except _Failed as failed:
                last = failed.problem
                if not failed.outcome.falls_back:
                    raise failed.problem from None
        raise self._nobody(plan, reservation, unsupported, last)

    def resting(self, candidate: Candidate) -> bool:
        """Whether a breaker before it is open."""
        return any(map(self.breakers.rests, candidate.breakers))

    def _breakers(self, candidate: Candidate, reservation: Reservation) -> Sequence[Breaker]:
        """The provider's and the target's. Sandbox failures are scripted: they may rest nobody's
        target but the tenant's own."""
        record, target = reservation.record, candidate.target
        policies = target.provider.breaker
        own = "" if record.mode == "live" else f"{OF_A_TENANT}{record.tenant_id}:"
        whole = self.breakers.of(own + target.provider.slug, policies.provider)
        if target.model is None:
            return (whole,)
        return (whole, self.breakers.of(own + target.name, policies.target))

    def _nobody(
        self,
        plan: Plan,
        reservation: Reservation,
        unsupported: Unsupported | None,
        last: Problem | None,
    ) -> Problem:
        tried = [note for note in reservation.attempts if note.verdict not in _SKIPS]
        if unsupported and not tried:
            return unsupported
        attempts = attempts_of(reservation)
        attempts += [skip.as_attempt() for skip in plan.skipped if not skip.wished]
        if not tried:
            wait = min(
                max(breaker.seconds_left() for breaker in self._breakers(c, reservation))
                for c in plan.candidates
            )
            return Unavailable(
                "Every provider of this route is resting after failures. Try again shortly.",
                code="circuit_open",
                retry_after=int(wait) + 1,
                attempts=attempts,
            )
        if last is not None and (len(tried) == 1 or tried[-1].verdict == Verdict.INVALID_ANSWER):
            last.extra.setdefault("attempts", attempts)
            return last
        return Unavailable(attempts=attempts, retry_after=1)


LEASE_MARGIN = 5.0  # seconds past its deadline after which a probe has surely died
_OPEN, _NO_ROOM = _SKIPS = ("skipped_circuit_open", "skipped_quota")


class _Failed(Exception):
    """One attempt's end without an answer."""

    def __init__(self, outcome: Outcome, problem: Problem) -> None:
        self.outcome = outcome
        self.problem = problem


class _Attempt:
    """One try at one target: sends, waits for the first bytes, judges, and keeps the notes."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        call: Call,
        *,
        candidate: Candidate,
        plan: Plan,
        reservation: Reservation,
        permits: Permits,
    ) -> None:
        self._dispatcher = dispatcher
        self._call = call
        self._candidate = candidate
        self._timeouts = plan.timeouts
        self._checks = plan.route.checks
        self._reservation = reservation
        self._permits = permits
        self._adapter = candidate.target.provider.adapter
        self._response: Response | None = None
        self._served: Served | None = None
        self._until = 0.0  # the loop's time at which waiting ends: whose bound it was is told by it
        self._started = dispatcher.clock.monotonic()

    async def run(self, sending: Sending) -> Served:
        """Raises _Failed, Unsupported when nothing was sent, or DeadlineExceeded."""
        self._prices = sending.prices
        try:
            request = self._adapter.request(self._call, self._candidate.upstream)
        except InvalidRequest:  # Unsupported is one too
            self._permits.release()
            raise
        try:
            served = await self._begin(_with(request, sending.headers), sending.deadline)
        except (TransportFault, StreamFault) as fault:
            self._fail(fault.outcome)
        except TimeoutError:
            if self._until < sending.deadline:
                self._fail(Outcome(Verdict.TIMEOUT, message="no first byte in time"))
            self._abandon("deadline")
            raise DeadlineExceeded(attempts=attempts_of(self._reservation)) from None
        except BaseException:
            self._abandon("hung_up")
            raise
        self._note(Verdict.OK, served.response.status)
        return served

    def _abandon(self, why: str) -> None:
        """The attempt ended through no fault of the provider's."""
        self._note(why, 0)
        self._permits.release()
        self.close()

    def close(self) -> None:
        if self._response is not None:
            self._response.close()

    async def _begin(self, request: UpstreamRequest, deadline: float) -> Served:
        """Within `first_byte` the head must be here (of a stream, the first event), and by
        the deadline all of a whole answer."""
        adapter, upstream = self._adapter, self._candidate.upstream
        loop = asyncio.get_running_loop()
        self._until = min(loop.time() + self._timeouts.first_byte, deadline)
        async with asyncio.timeout_at(self._until) as limit:
            response = self._response = await self._dispatcher.transport.send(
                request, self._timeouts, allow_private=self._candidate.allow_private
            )
            meter = adapter.meter(self._call, upstream)
            served = Served(self._candidate, meter, self._call, response, self._permits)
            self._served = served
            if self._call.stream and response.status == 200 and _is_event_stream(response):
                await self._first_events(served)
                if self._checks is not None:
                    self._until = deadline
                    limit.reschedule(deadline)
                    await check_stream(self._checks, meter, served.chunks, served.events)
                self._permits.began()
            else:
                self._until = deadline
                limit.reschedule(deadline)
                await self._whole(served)
        return served

    async def _first_events(self, served: Served) -> None:
        served.chunks = served.response.chunks()
        async for chunk in served.chunks:
            served.events = served.meter.feed(chunk)
            if served.events or served.meter.complete:
                return
        raise StreamFault(Outcome(Verdict.BAD_PAYLOAD, 200, "the stream ended before it began"))

    async def _whole(self, served: Served) -> None:
        response = served.response
        body = await response.read()
        outcome = self._adapter.outcome(response.status, response.headers, body)
        if not outcome.is_answer:
            raise StreamFault(outcome)
        answer = served.meter.whole(outcome, body)
        if self._checks is not None:
            check_whole(self._checks, answer)
        self._permits.record(outcome)
        if self._call.stream:
            # Asked for a stream, answered whole (a blocked prompt, say): told as a stream.
            served.events = as_chunks(orjson.loads(answer.body))
        else:
            served.answer = answer

    def _fail(self, outcome: Outcome) -> None:
        """Always raises _Failed."""
        self._note(outcome.verdict, outcome.status)
        if self._served is not None:
            note_lost(self._served, outcome, self._reservation, self._prices)
        self._permits.record(outcome)
        if _is_the_targets(outcome, self._candidate):
            seconds = self._dispatcher.clock.monotonic() - self._started
            self._dispatcher.scores.failed(self._candidate.name, seconds)
        self.close()
        raise _Failed(outcome, problem_of(self._adapter.problem(outcome), outcome)) from None

    def _note(self, verdict: str, status: int) -> None:
        clock = self._dispatcher.clock
        now = clock.monotonic()
        self._reservation.attempts.append(
            AttemptRecord(
                request_id=self._call.request_id,
                number=len(self._reservation.attempts) + 1,
                created_at=utc(clock.now()),
                provider=self._candidate.upstream.provider,
                model=self._candidate.upstream.model,
                verdict=str(verdict),
                status=status,
                latency_ms=round((now - self._started) * 1000),
            )
        )


_CREDENTIALS = frozenset({Verdict.AUTH, Verdict.QUOTA_EXHAUSTED, Verdict.RATE_LIMITED})


def _is_the_targets(outcome: Outcome, candidate: Candidate) -> bool:
    """Whether a failure says something of the target for all: not the caller's own fault, nor
    that of a tenant's own credential."""
    return outcome.falls_back and not (candidate.own and outcome.verdict in _CREDENTIALS)


def problem_of(problem: Problem, outcome: Outcome) -> Problem:
    """The adapter's problem; a time-out and a failed check are ours to name."""
    if outcome.verdict is Verdict.TIMEOUT:
        return UpstreamTimeout()
    if outcome.verdict is Verdict.INVALID_ANSWER:
        return UpstreamRejected(outcome.message)
    return problem


def attempts_of(reservation: Reservation) -> list[dict[str, Any]]:
    """The attempts so far, as `meta.attempts` and problems tell them."""
    return [
        {
            "provider": note.provider,
            "outcome": note.verdict,
            "status": note.status,
            "latency_ms": note.latency_ms,
        }
        for note in reservation.attempts
    ]


def _note_skipped(reservation: Reservation, candidate: Candidate, clock: Clock, why: str) -> None:
    reservation.attempts.append(
        AttemptRecord(
            request_id=reservation.record.request_id,
            number=len(reservation.attempts) + 1,
            created_at=utc(clock.now()),
            provider=candidate.upstream.provider,
            model=candidate.upstream.model,
            verdict=why,
            status=0,
            latency_ms=0,
        )
    )


def _is_event_stream(response: Response) -> bool:
    kind: str = response.headers.get("content-type") or ""
    return kind.lower().startswith("text/event-stream")


def _with(request: UpstreamRequest, extra: Mapping[str, str]) -> UpstreamRequest:
    headers = {**request.headers, **extra}
    return UpstreamRequest(request.method, request.url, headers, request.body)
