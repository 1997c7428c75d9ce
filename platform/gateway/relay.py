"""Relay: from the provider's answer to the client's, and from its end to the ledger.

The order is the guarantee: a stream's open row is durable before its first byte leaves, and
every answer's final row before its last (design G1). A cut stream ends with an error event
and without `[DONE]`, so that it can never look like success.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from gateway.costs import as_one_unit, estimated
from gateway.dispatch import Served, attempts_of
from gateway.exchange import EVENT_STREAM, Exchange
from gateway.quality import wants_all
from lib.clock import rfc3339, utc
from lib.problems import DeadlineExceeded, Problem, UpstreamRejected
from providers.adapter import StreamFault
from providers.call import Outcome, Verdict
from providers.operations import Kind, Operation
from providers.transport import TransportFault
from usage.reservation import Reservation

_UNFINISHED = Outcome(Verdict.BAD_PAYLOAD, 200, "the stream ended before its end")
OPEN_MARGIN = 30.0  # seconds past its deadline after which an open call has surely died


async def relay_whole(
    exchange: Exchange, operation: Operation, served: Served, reservation: Reservation
) -> bytes:
    """Settle a whole answer and return its body; the caller sends it, as the last step."""
    answer = served.answer
    assert answer is not None  # noqa: S101 - dispatch fills it in for every non-stream
    bill(served, reservation)
    body = answer.body
    if operation.kind is Kind.DATA:
        body = orjson.dumps(envelope(exchange, operation, served, reservation))
    note_served(exchange, served, reservation)
    exchange.note([(b"x-patchbay-cost-microusd", str(reservation.record.charge).encode())])
    await reservation.settle(status=200, code="ok")
    return body


async def relay_stream(
    exchange: Exchange, served: Served, reservation: Reservation, *, deadline: float
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
        async with asyncio.timeout_at(deadline):
            await _pump(exchange, served)
    except (StreamFault, TransportFault) as fault:
        served.permits.record(fault.outcome)
        return await _cut(exchange, served, reservation, _broken_off(fault.outcome.message))
    except TimeoutError:
        return await _cut(exchange, served, reservation, DeadlineExceeded())
    except asyncio.CancelledError:
        bill(served, reservation, why="hung_up")
        raise
    except BaseException:
        bill(served, reservation, why="cut")
        raise
    if not served.meter.complete:
        served.permits.record(_UNFINISHED)
        return await _cut(exchange, served, reservation, _broken_off("it just ended"))
    bill(served, reservation)
    await reservation.settle(status=200, code="ok")
    return b"".join(served.meter.close())


async def _pump(exchange: Exchange, served: Served) -> None:
    if served.events:
        served.keep(served.events)
        await exchange.more(b"".join(served.events))
    if served.chunks is None or served.meter.complete:
        return
    async for chunk in served.chunks:
        events = served.meter.feed(chunk)
        if events:
            served.keep(events)
            await exchange.more(b"".join(events))
        if served.meter.complete:
            return  # whatever a provider might still send says nothing more


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

    `why` says what broke the answer off, if anything did; then the provider's count so far
    may be less than it made, and the larger figure counts.
    """
    told = served.meter.usage
    if told is not None and (served.meter.complete or not why):
        usage, flag = told, "not_told" if told.estimated else ""
    else:
        usage, flag = estimated(served), why or "not_told"
    usage = as_one_unit(usage)
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
            (b"x-patchbay-cache", b"bypass"),
        ]
    )
    if exchange.openai and exchange.explanation is not None:
        exchange.note([exchange.explanation.header(reservation.attempts)])


def envelope(
    exchange: Exchange, operation: Operation, served: Served, reservation: Reservation
) -> dict[str, Any]:
    """A data operation's answer: data, page for lists, and meta that says whence and how
    fresh."""
    answer = served.answer
    assert answer is not None  # noqa: S101 - only whole answers have an envelope
    body: dict[str, Any] = {"data": answer.data}
    if operation.is_list:
        body["page"] = answer.page or {
            "total": None,
            "limit": len(answer.data),
            "next_cursor": None,
        }
    body["meta"] = {
        "operation": operation.name,
        "api_version": "v1",
        "provider": served.candidate.upstream.provider,
        "attempts": attempts_of(reservation),
        "cached": False,
        "stale": False,
        "as_of": answer.as_of or rfc3339(utc(int(exchange.clock.now()))),
        "attribution": answer.attribution,
        "request_id": exchange.request_id,
    }
    if exchange.explanation is not None:
        body["meta"]["explain"] = exchange.explanation.document(reservation.attempts)
    return body
