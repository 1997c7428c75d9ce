"""One attempt: one try at one target, with one of our credentials.

For a stream it is over, and well, when its first event has come: whatever fails before that,
another attempt may take over, and the client has not seen a byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import orjson
import structlog

from billing.book import PriceBook
from gateway.checks import check_stream, check_whole
from gateway.costs import note_lost
from gateway.following import Joined, ask_once, followed
from gateway.hedging import HEDGED_AWAY
from gateway.notes import attempts_of
from gateway.routing import Candidate
from gateway.scores import Scores
from gateway.served import Served
from gateway.tokens import Tokens
from lib.clock import Clock, utc
from lib.deadline import Deadline
from lib.problems import (
    DeadlineExceeded,
    InvalidRequest,
    Problem,
    Unavailable,
    UpstreamRejected,
    UpstreamTimeout,
)
from providers.adapter import StreamFault
from providers.amounts import SPEECH
from providers.answer_checks import Checks
from providers.breakers import Permits
from providers.call import Answer, Call, Further, Outcome, Upstream, UpstreamRequest, Verdict
from providers.credential_pool import OF_THE_CREDENTIAL, CredentialPool
from providers.openai_wire import as_chunks
from providers.rejection import without
from providers.sound import is_sound
from providers.transport import Response, Transport, TransportFault
from usage.record import AttemptRecord
from usage.reservation import Reservation

log = structlog.get_logger("patchbay.dispatch")

_STREAMS = ("text/event-stream", "application/vnd.amazon.eventstream")


class Known(NamedTuple):
    """An answer that is kept but stale. Whoever gave it is asked with `conditions` whether it
    still holds (RFC 9110 §13.1), and may say so with 304 and no body."""

    provider: str
    conditions: Mapping[str, str]
    answer: Callable[[], Answer]


class Sending(NamedTuple):
    """What goes with every attempt of a call: the loop's time by which it must have ended,
    headers for the provider (request id, trace), what providers take, what an answer must be,
    and what is known already."""

    deadline: float
    headers: Mapping[str, str]
    prices: PriceBook
    checks: Checks | None = None
    known: Known | None = None


def nobody_listens(upstream: Upstream, reason: str) -> None: ...


@dataclass(slots=True)
class Means:
    """What a worker makes its attempts with. `on_drained` hears, with the reason, of each
    credential that a provider refused."""

    transport: Transport
    clock: Clock
    scores: Scores
    pool: CredentialPool
    tokens: Tokens
    on_drained: Callable[[Upstream, str], None] = nobody_listens


class Failed(Exception):
    """One attempt's end without an answer."""

    def __init__(self, outcome: Outcome, problem: Problem) -> None:
        self.outcome = outcome
        self.problem = problem


class Attempt:
    """Sends, waits for the first bytes, judges, and keeps the notes. `upstream` is the
    candidate's, with the credential to use."""

    def __init__(
        self,
        means: Means,
        call: Call,
        *,
        candidate: Candidate,
        upstream: Upstream,
        reservation: Reservation,
        permits: Permits,
        sending: Sending,
    ) -> None:
        self._means = means
        self._call = call
        self._candidate = candidate
        self._upstream = upstream
        self._timeouts = candidate.timeouts
        self._reservation = reservation
        self._part = reservation.grant.current
        self._permits = permits
        self._sending = sending
        self._adapter = candidate.target.provider.adapter
        self._response: Response | None = None
        self._served: Served | None = None
        self._known: Known | None = None  # if this provider was asked whether it holds
        self._until = 0.0  # the loop's time at which waiting ends: whose bound it was is told by it
        self._started = means.clock.monotonic()
        self._leaves_as = "hung_up"
        self.verdict = ""  # how it ended, once that is on record
        self.seconds = 0.0  # how long it took

    async def begin(self) -> Served:
        """The answer, to be noted with `answered`. Raises Failed, Unsupported when nothing was
        sent, or DeadlineExceeded."""
        try:
            if self._upstream.grant is None:
                served = await self._begin(self._request())
            else:
                served = await self._begin_with_token()
        except InvalidRequest:  # Unsupported is one too
            self.close()
            raise
        except (TransportFault, StreamFault) as fault:
            self._fail(fault.outcome)
        except TimeoutError:
            if self._until < self._sending.deadline:
                self._fail(Outcome(Verdict.TIMEOUT, message="no first byte in time"))
            self._abandon("deadline")
            raise DeadlineExceeded(attempts=attempts_of(self._reservation)) from None
        except BaseException:
            self._abandon(self._leaves_as)
            raise
        return served

    def answered(self, served: Served) -> None:
        """It is the one whose answer is heard."""
        self._note(Verdict.OK, served.response.status)

    def lose(self) -> None:
        """Another one has answered: however it ends now, that is why."""
        self._leaves_as = HEDGED_AWAY

    def _abandon(self, why: str) -> None:
        """The attempt ended through no fault of the provider's."""
        self._note(why, 0)
        self.close()

    def close(self) -> None:
        """Let go of everything. An answer that nobody heard is on record as an attempt."""
        if self._response is not None:
            if not self.verdict:
                self._note(self._leaves_as, self._response.status)
            self._response.close()
        self._permits.release()

    def _request(self) -> UpstreamRequest:
        """Raises Unsupported or InvalidRequest."""
        upstream, headers, known = self._upstream, self._sending.headers, self._sending.known
        if self._adapter.dated:
            upstream = replace(upstream, now=self._means.clock.now())
        request = self._adapter.request(self._call, upstream)
        if known is not None and known.provider == self._candidate.provider:
            self._known, headers = known, {**headers, **known.conditions}
        return _with(request, headers, self._candidate.bulkhead)

    async def _begin_with_token(self) -> Served:
        """A token that was good when it was given may have been taken back since: then another
        one is asked for, once."""
        await self._take_token()
        try:
            return await self._begin(self._request())
        except StreamFault as fault:
            if fault.outcome.status != 401 or self._response is None:
                raise
            self._response.close()
            self._response = self._served = None
        self._means.tokens.refused(self._upstream)
        await self._take_token()
        return await self._begin(self._request())

    async def _take_token(self) -> None:
        """By the deadline: what asks for it is bounded by itself."""
        self._until = self._sending.deadline
        with Deadline(self._until):
            tokens, candidate = self._means.tokens, self._candidate
            self._upstream = await tokens.bearing(self._upstream, candidate)

    async def _begin(self, request: UpstreamRequest) -> Served:
        """Within `first_byte` the head must be here (of a stream, the first event; of sound, its
        first part), and by the deadline all of a whole answer."""
        loop, deadline = asyncio.get_running_loop(), self._sending.deadline
        self._until = min(loop.time() + self._timeouts.first_byte, deadline)
        with Deadline(self._until) as limit:
            response = self._response = await self._means.transport.send(
                request, self._timeouts, allow_private=self._candidate.allow_private
            )
            meter = self._adapter.meter(self._call, self._upstream)
            served = Served(self._candidate, meter, self._call, response, self._permits)
            self._served = served
            if response.status == 200 and _comes_in_parts(self._call, response):
                await self._first_events(served)
                if self._sending.checks is not None and self._call.operation != SPEECH:
                    self._until = deadline
                    limit.when = deadline
                    checks, events = self._sending.checks, served.events
                    await check_stream(checks, meter, served.chunks, events)
                self._permits.began()
            else:
                self._until = deadline
                limit.when = deadline
                await self._whole(served, request)
        return served

    async def _first_events(self, served: Served) -> None:
        served.chunks = served.response.chunks()
        async for chunk in served.chunks:
            served.events = served.meter.feed(chunk)
            if served.events or served.meter.complete:
                return
        raise StreamFault(Outcome(Verdict.BAD_PAYLOAD, 200, "the stream ended before it began"))

    async def _whole(self, served: Served, request: UpstreamRequest) -> None:
        response = served.response
        body = await response.read()
        if response.status == 304 and self._known is not None:
            served.answer, served.unchanged = self._known.answer(), True
            self._permits.record(Outcome(Verdict.OK, 304))
            return
        judge = request.judge or self._adapter.outcome
        outcome = judge(response.status, response.headers, body)
        if not outcome.is_answer:
            raise StreamFault(outcome)
        answer = served.meter.whole(outcome, body)
        if isinstance(answer, Further):
            response.close()
            answer = await followed(answer, self._ask)
            served.response = Joined(response)
        if self._sending.checks is not None:
            check_whole(self._sending.checks, answer)
        self._permits.record(outcome)
        if self._call.stream:
            # Asked for a stream, answered whole (a blocked prompt, say): told as a stream.
            served.events = as_chunks(orjson.loads(answer.body))
        else:
            served.answer = answer

    async def _ask(self, request: UpstreamRequest) -> Outcome:
        """How a further request of the same attempt ended."""
        dressed = _with(request, self._sending.headers, self._candidate.bulkhead)
        return await ask_once(self._means.transport, self._adapter, dressed, self._candidate)

    def _fail(self, outcome: Outcome) -> None:
        """Always raises Failed."""
        outcome = without(outcome, self._upstream.secrets)
        self._note(outcome.verdict, outcome.status)
        if self._served is not None:
            note_lost(self._served, outcome, self._reservation, self._sending.prices)
        self._permits.record(outcome)
        if _is_the_targets(outcome, self._candidate):
            seconds = self._means.clock.monotonic() - self._started
            self._means.scores.failed(self._candidate.name, seconds)
        if self._means.pool.note(self._upstream.credential, outcome):
            self._drained(outcome)
        self.close()
        raise Failed(outcome, problem_of(self._adapter.problem(outcome), outcome)) from None

    def _drained(self, outcome: Outcome) -> None:
        reason = f"{outcome.status}: {outcome.message}" if outcome.message else str(outcome.status)
        log.error(
            "credential_drained",
            provider=self._upstream.provider,
            credential=self._upstream.credential,
            reason=reason,
        )
        self._means.on_drained(self._upstream, reason)

    def _note(self, verdict: str, status: int) -> None:
        clock, attempts = self._means.clock, self._reservation.attempts
        self.verdict, self.seconds = str(verdict), clock.monotonic() - self._started
        self._reservation.grant.tried(len(attempts), self._part)
        attempts.append(
            AttemptRecord(
                request_id=self._call.request_id,
                number=len(attempts) + 1,
                created_at=utc(clock.now()),
                provider=self._candidate.upstream.provider,
                model=self._candidate.upstream.model,
                verdict=self.verdict,
                status=status,
                latency_ms=round(self.seconds * 1000),
            )
        )


def _is_the_targets(outcome: Outcome, candidate: Candidate) -> bool:
    """Whether a failure says something of the target for all: not the caller's own fault, nor
    that of a tenant's own credential."""
    return outcome.falls_back and not (candidate.own and outcome.verdict in OF_THE_CREDENTIAL)


def problem_of(problem: Problem, outcome: Outcome) -> Problem:
    """The adapter's problem; time-outs, full bulkheads and our checks are ours to name."""
    if outcome.verdict is Verdict.TIMEOUT:
        return UpstreamTimeout()
    if outcome.verdict is Verdict.SATURATED:
        return Unavailable(retry_after=1)
    if outcome.verdict is Verdict.INVALID_ANSWER:
        return UpstreamRejected(outcome.message)
    return problem


def _comes_in_parts(call: Call, response: Response) -> bool:
    """Whether it is passed on as it comes: events that were asked for, or sound."""
    if call.operation == SPEECH:
        return is_sound(response.headers)
    kind: str = response.headers.get("content-type") or ""
    return call.stream and kind.lower().startswith(_STREAMS)


def _with(request: UpstreamRequest, extra: Mapping[str, str], bulkhead: str) -> UpstreamRequest:
    method, url, headers, body, _, judge = request
    return UpstreamRequest(method, url, {**headers, **extra}, body, bulkhead, judge)
