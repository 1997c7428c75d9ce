"""Relay: from the provider's answer to the client's, and from its end to the ledger.

The order is the guarantee: a stream's open row is durable before its first byte leaves, and
every answer's final row before its last (design G1). A cut stream ends with an error event,
without a finish reason and without `[DONE]`, so that it can never look like success.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import orjson

from billing.book import PriceBook
from gateway.costs import as_one_unit, note_used, price_of, used
from gateway.exchange import EVENT_STREAM, Exchange
from gateway.notes import attempts_of
from gateway.quality import wants_all
from gateway.rescue import Rescue
from gateway.served import Served
from lib.clock import rfc3339, utc
from lib.deadline import Deadline
from lib.later import Later
from lib.problems import DeadlineExceeded, Problem, UpstreamRejected
from providers.adapter import StreamFault
from providers.call import Answer, Outcome, Verdict
from providers.openai_wire import FINISH_REASON
from providers.operations import Kind, Operation
from providers.rejection import without
from providers.transport import TransportFault
from usage.record import AttemptRecord
from usage.reservation import Reservation

_UNFINISHED = Outcome(Verdict.BAD_PAYLOAD, 200, "the stream ended before its end")
Through = Callable[[list[bytes]], list[bytes]]
QUIET = Later(10.0)  # seconds; proxies hang up after some 30
COMMENT = b": keep-alive\n\n"
OPEN_MARGIN = 30.0  # seconds past its deadline after which an open call has surely died


async def relay_whole(
    exchange: Exchange, operation: Operation, served: Served, reservation: Reservation
) -> bytes:
    """Settle a whole answer and return its body; the caller sends it, as the last step."""
    answer = served.answer
    assert answer is not None  # noqa: S101 - dispatch fills it in for every non-stream
    bill(served, reservation)
    note_served(exchange, served, reservation)
    body = answer.body
    if operation.kind is Kind.DATA:
        body = orjson.dumps(envelope(exchange, operation, answer, reservation))
    exchange.note([(b"x-patchbay-cost-microusd", str(reservation.record.charge).encode())])
    await reservation.settle(status=200, code="ok")
    return body


async def relay_stream(
    exchange: Exchange,
    served: Served,
    reservation: Reservation,
    *,
    deadline: float,
    prices: PriceBook,
) -> bytes:
    """Send a stream up to its last bytes, which are returned when the call is settled."""
    note_served(exchange, served, reservation)
    served.keeps_all = wants_all(served.call)
    exchange.note([(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")])
    left = deadline - asyncio.get_running_loop().time()
    worst = as_one_unit(served.estimate())
    cost = served.price.prices.cost(worst)
    try:
        await reservation.open(worst, cost, expires_in=left + OPEN_MARGIN)
        await exchange.start(200, EVENT_STREAM)
        with Deadline(deadline):
            if served.search is None:
                await _pump(exchange, served)
            else:
                await _rescue(exchange, served, reservation, prices).run()
    except (StreamFault, TransportFault) as fault:
        served.permits.record(fault.outcome)
        told = without(fault.outcome, served.last.candidate.secrets).message
        return await _cut(exchange, served.last, reservation, _broken_off(told))
    except TimeoutError:
        return await _cut(exchange, served.last, reservation, DeadlineExceeded())
    except asyncio.CancelledError:
        bill(served.last, reservation, why="hung_up")
        raise
    except BaseException:
        bill(served.last, reservation, why="cut")
        raise
    served = served.last
    if not served.meter.complete:
        served.permits.record(_UNFINISHED)
        return await _cut(exchange, served, reservation, _broken_off("it just ended"))
    bill(served, reservation)
    await reservation.settle(status=200, code="ok")
    return b"".join([*served.end, *served.meter.close()])


async def _pump(exchange: Exchange, served: Served, through: Through | None = None) -> None:
    """Send what comes, or what `through` makes of it."""
    await _tell(exchange, served, served.events if through is None else through(served.events))
    if served.chunks is None or served.meter.complete:
        return
    with _Comments(exchange) as comments:
        async for chunk in served.chunks:
            events = served.meter.feed(chunk)
            if events and through is not None:
                events = through(events)
            await _tell(exchange, served, events)
            if served.meter.complete:
                return  # whatever a provider might still send says nothing more
            comments.put_off()


async def _tell(exchange: Exchange, served: Served, events: list[bytes]) -> None:
    """Send events, but the one that says how the answer ended, and what follows it, only when
    all of it has come and its row is durable."""
    if not events:
        return
    served.keep(events)
    if served.end:
        served.end += events
        return
    said = b"".join(events)
    if FINISH_REASON.search(said):
        place = next(n for n, event in enumerate(events) if FINISH_REASON.search(event))
        served.end, said = events[place:], b"".join(events[:place])
    if said:
        await exchange.more(said)


class _Comments:
    """While a provider says nothing, the client is told now and then that we are still there: a
    comment, which SSE's readers pass over, keeps what is between us from hanging up."""

    __slots__ = ("_exchange", "_sending")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._sending: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        QUIET.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        QUIET.remove(self)
        if self._sending is not None:
            self._sending.cancel()

    def put_off(self) -> None:
        QUIET.remove(self)
        QUIET.add(self)

    def due(self) -> None:
        """One at a time: a client that does not read is told no more."""
        if self._sending is None or self._sending.done():
            self._sending = asyncio.ensure_future(self._exchange.more(COMMENT))
        QUIET.add(self)


def _rescue(
    exchange: Exchange, served: Served, reservation: Reservation, prices: PriceBook
) -> Rescue:
    record, first = reservation.record, served.call

    def account(one: Served, note: AttemptRecord) -> None:
        usage, _ = used(one, broken=True)
        note_used(note, usage, price_of(one.candidate.upstream, record, prices))

    def take(before: Served, now: Served) -> None:
        before.heir = now
        now.price = price_of(now.candidate.upstream, record, prices)
        record.price_id = now.price.id
        now.keeps_all = wants_all(first)
        record.provider, record.model = now.candidate.provider, now.candidate.model

    return Rescue(
        served,
        mode=served.search.rescue if served.search else "",
        attempts=reservation.attempts,
        pump=partial(_pump, exchange),
        account=account,
        take=take,
    )


async def _cut(
    exchange: Exchange, served: Served, reservation: Reservation, problem: Problem
) -> bytes:
    """The error event that ends a broken stream, once the call is settled as cut."""
    bill(served, reservation, why="cut")
    await reservation.settle(status=200, code="stream_cut")
    return exchange.error_event(problem)


def _broken_off(reason: str) -> Problem:
    return UpstreamRejected(
        f"The provider broke off its answer ({reason}). What came so far is incomplete."
    )


def bill(served: Served, reservation: Reservation, why: str = "") -> None:
    """Note what the call used and costs: the provider's count, or else a flagged estimate.

    `why` says what broke the answer off, if anything did.
    """
    usage, is_told = used(served, broken=bool(why))
    flag = ("not_told" if usage.estimated else "") if is_told else why or "not_told"
    reservation.use(usage, cost=served.price.prices.cost(usage), estimate=flag)


def note_served(exchange: Exchange, served: Served, reservation: Reservation) -> None:
    upstream = served.candidate.upstream
    reservation.record.provider = upstream.provider
    reservation.record.model = upstream.model
    exchange.upstream_seconds = reservation.attempts[-1].latency_ms / 1000
    exchange.note(
        [
            (b"x-patchbay-provider", upstream.provider.encode()),
            (b"x-patchbay-attempts", str(len(reservation.attempts)).encode()),
            (b"x-patchbay-cache", exchange.cache),
        ]
    )
    if exchange.openai and exchange.explanation is not None:
        exchange.note([exchange.explanation.header(reservation.attempts)])


def envelope(
    exchange: Exchange,
    operation: Operation,
    answer: Answer,
    reservation: Reservation,
) -> dict[str, Any]:
    """A data operation's answer: data, page for lists, and meta that says whence and how
    fresh."""
    body: dict[str, Any] = {"data": answer.data}
    record = reservation.record
    if operation.is_list and (answer.page is not None or answer.meta is None):
        page = answer.page or {"total": None, "limit": len(answer.data), "next_cursor": None}
        cursors = exchange.cursors
        body["page"] = cursors.page(operation.name, record.provider, page) if cursors else page
    body["meta"] = {
        "operation": operation.name,
        "api_version": "v1",
        "provider": record.provider,
        "attempts": attempts_of(reservation),
        "cached": bool(record.cache),
        "stale": record.cache == "stale",
        "as_of": answer.as_of or rfc3339(utc(int(exchange.clock.now()))),
        "attribution": answer.attribution,
        "request_id": exchange.request_id,
    }
    if answer.meta is not None:
        body["meta"] |= answer.meta
    if exchange.explanation is not None:
        body["meta"]["explain"] = exchange.explanation.document(reservation.attempts)
    return body
