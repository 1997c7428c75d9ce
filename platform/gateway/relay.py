"""Relay: from the provider's answer to the client's, and from its end to the ledger.

The order is the guarantee: a stream's open row is durable before its first byte leaves, and
every answer's final row before its last (design G1). A cut stream ends with an error event
and without `[DONE]`, so that it can never look like success.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from billing.book import UNKNOWN, PriceBook, PriceVersion
from gateway.attempt import Served, attempts_of
from gateway.exchange import EVENT_STREAM, Exchange
from gateway.hedging import HEDGED_AWAY
from gateway.quality import wants_all
from gateway.rescue import Rescue
from lib.clock import rfc3339, utc
from lib.problems import DeadlineExceeded, Problem, UpstreamRejected
from providers.adapter import StreamFault
from providers.call import Outcome, Usage, Verdict
from providers.openai_wire import CHARACTERS_PER_TOKEN
from providers.operations import Kind, Operation
from providers.transport import TransportFault
from usage.record import AttemptRecord
from usage.reservation import Reservation

_UNFINISHED = Outcome(Verdict.BAD_PAYLOAD, 200, "the stream ended before its end")
Through = Callable[[list[bytes]], list[bytes]]
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
        async with asyncio.timeout_at(deadline):
            if served.search is None:
                await _pump(exchange, served)
            else:
                await _rescue(exchange, served, reservation, prices).run()
    except (StreamFault, TransportFault) as fault:
        served.permits.record(fault.outcome)
        return await _cut(exchange, served.last, reservation, _broken_off(fault.outcome.message))
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
    return b"".join(served.meter.close())


async def _pump(exchange: Exchange, served: Served, through: Through | None = None) -> None:
    """Send what comes, or what `through` makes of it."""
    events = served.events if through is None else through(served.events)
    if events:
        served.keep(events)
        await exchange.more(b"".join(events))
    if served.chunks is None or served.meter.complete:
        return
    async for chunk in served.chunks:
        events = served.meter.feed(chunk)
        if events and through is not None:
            events = through(events)
        if events:
            served.keep(events)
            await exchange.more(b"".join(events))
        if served.meter.complete:
            return  # whatever a provider might still send says nothing more


def _rescue(
    exchange: Exchange, served: Served, reservation: Reservation, prices: PriceBook
) -> Rescue:
    record, first = reservation.record, served.call

    def account(one: Served, note: AttemptRecord) -> None:
        usage = as_one_unit(used(one, broken=True)[0])
        version = _version(one, reservation, prices)
        note.tokens, note.units = usage.input_tokens + usage.output_tokens, usage.units
        note.cost = version.prices.cost(usage)

    def take(before: Served, now: Served) -> None:
        before.heir = now
        now.price = price_of(now, reservation, prices)
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

    `why` says what broke the answer off, if anything did; then the provider's count so far
    may be less than it made, and the larger figure counts.
    """
    usage, is_told = used(served, broken=bool(why))
    flag = ("not_told" if usage.estimated else "") if is_told else why or "not_told"
    usage = as_one_unit(usage)
    reservation.use(usage, cost=served.price.prices.cost(usage), estimate=flag)


def used(served: Served, *, broken: bool) -> tuple[Usage, bool]:
    """What an attempt used, and whether the provider told it."""
    told = served.meter.usage
    if told is not None and (served.meter.complete or not broken):
        return told, True
    return _estimated(served, told), False


def _estimated(served: Served, told: Usage | None) -> Usage:
    """What was told so far, with at least as many output tokens as the text that came makes
    likely."""
    known = told or served.estimate()._replace(output_tokens=0)
    seen = -(-served.meter.output_characters // CHARACTERS_PER_TOKEN)
    return known._replace(output_tokens=max(known.output_tokens, seen), estimated=True)


def as_one_unit(usage: Usage) -> Usage:
    """An answer is one unit where nothing else is said: as the row will say, which must be
    enough to compute its cost again."""
    return usage if usage.units else usage._replace(units=1)


def price_of(served: Served, reservation: Reservation, prices: PriceBook) -> PriceVersion:
    """The version in force when the call came, noted on its record. Test mode is free."""
    version = _version(served, reservation, prices)
    reservation.record.price_id = version.id
    return version


def _version(served: Served, reservation: Reservation, prices: PriceBook) -> PriceVersion:
    record, upstream = reservation.record, served.candidate.upstream
    if record.mode == "test":
        return UNKNOWN
    at = record.created_at.timestamp()
    return prices.price(upstream.provider, upstream.model, record.operation, at)


def price_losers(reservation: Reservation, prices: PriceBook) -> None:
    """A provider that was hedged away may well want its money. It is the house's to pay: the
    tenant is charged for the answer, once."""
    record = reservation.record
    if record.mode == "test":
        return
    for note in reservation.attempts:
        if note.verdict == HEDGED_AWAY:
            at = record.created_at.timestamp()
            version = prices.price(note.provider, note.model, record.operation, at)
            note.units, note.cost = 1, version.prices.cost(Usage(units=1))


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
