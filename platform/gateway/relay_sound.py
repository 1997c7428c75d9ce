"""Relay of sound: as it comes, part by part, and never all of it before its row is durable.

The order is that of other streams (gateway/relay.py): an open row before the first byte, the final
row before the last. Sound that breaks off cannot say so in words: the connection ends without
HTTP's own end, and no client takes that for all there was.
"""

from __future__ import annotations

import asyncio
import contextlib

from gateway.costs import as_one_unit
from gateway.exchange import Exchange
from gateway.relay import OPEN_MARGIN, bill, note_served
from gateway.scores import Scores
from gateway.served import Served
from lib.deadline import Deadline
from lib.problems import Problem
from providers.transport import TransportFault
from usage.reservation import HungUp, Reservation


class BrokenOff(HungUp):
    """The answer's connection is to end here, in the middle: we hang up."""


async def relay_sound(
    exchange: Exchange,
    served: Served,
    reservation: Reservation,
    *,
    deadline: float,
    scores: Scores,
) -> bytes:
    """Send all but the last byte, which is returned when the call is settled. Raises BrokenOff."""
    note_served(exchange, served, reservation)
    reservation.record.streamed = True
    exchange.note([(b"x-accel-buffering", b"no")])
    left = deadline - asyncio.get_running_loop().time()
    worst = as_one_unit(served.estimate())
    try:
        cost = served.price.prices.cost(worst)
        await reservation.open(worst, cost, expires_in=left + OPEN_MARGIN)
        charge = str(reservation.record.charge).encode()  # which the sound's length changes no more
        exchange.note([(b"x-patchbay-cost-microusd", charge)])
        kind = served.response.headers["content-type"]
        await exchange.start(200, kind.encode("latin-1"))
        exchange.is_sound = True
        with Deadline(deadline):
            last = await _pump(exchange, served)
    except TransportFault as fault:
        served.permits.record(fault.outcome)
        scores.failed(served.candidate.name, seconds=0.0)
        raise await _cut(served, reservation) from None
    except TimeoutError:
        raise await _cut(served, reservation) from None
    except asyncio.CancelledError:
        bill(served, reservation, why="hung_up")
        raise
    except BaseException:
        bill(served, reservation, why="cut")
        raise
    served.meter.complete = True
    bill(served, reservation)
    try:
        await reservation.settle(status=200, code="ok")
    except Problem:
        raise BrokenOff from None  # the store is away: what is not on record is not all sent
    return last


async def _pump(exchange: Exchange, served: Served) -> bytes:
    held = await _pass_on(exchange, b"".join(served.events))
    assert served.chunks is not None  # noqa: S101 - the attempt has read the first of them
    async for chunk in served.chunks:
        if chunk:
            held = await _pass_on(exchange, held + chunk)
    return held


async def _pass_on(exchange: Exchange, sound: bytes) -> bytes:
    """All but the last byte, which is returned."""
    if len(sound) > 1:
        await exchange.more(sound[:-1])
    return sound[-1:]


async def _cut(served: Served, reservation: Reservation) -> BrokenOff:
    bill(served, reservation, why="cut")
    with contextlib.suppress(Problem):  # there is nobody left to tell
        await reservation.settle(status=200, code="stream_cut")
    return BrokenOff()
