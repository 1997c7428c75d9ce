"""What an attempt used, and what its provider takes for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from billing.book import UNKNOWN, PriceBook, PriceVersion
from providers.call import Outcome, Upstream, Usage
from providers.openai_wire import CHARACTERS_PER_TOKEN
from tenants.keys import Mode
from usage.record import Record
from usage.reservation import Reservation

if TYPE_CHECKING:
    from gateway.dispatch import Served


def price_of(upstream: Upstream, record: Record, prices: PriceBook) -> PriceVersion:
    """The version in force when the call came. Test mode is free."""
    if record.mode == Mode.TEST:
        return UNKNOWN
    at = record.created_at.timestamp()
    return prices.price(upstream.provider, upstream.model, record.operation, at)


def estimated(served: Served) -> Usage:
    """What was told so far, with at least as many output tokens as the text that came makes
    likely."""
    known = served.meter.usage or replace(served.estimate(), output_tokens=0)
    seen = -(-served.meter.output_characters // CHARACTERS_PER_TOKEN)
    return replace(known, output_tokens=max(known.output_tokens, seen), estimated=True)


def as_one_unit(usage: Usage) -> Usage:
    """An answer is one unit where nothing else is said: as the row will say, which must be
    enough to compute its cost again."""
    return usage if usage.units else replace(usage, units=1)


def note_lost(
    served: Served, outcome: Outcome, reservation: Reservation, prices: PriceBook
) -> None:
    """The last attempt failed with an answer that its provider is paid for all the same: that
    stands on the attempt's row, and in no tenant's bill."""
    meter = served.meter
    if not (outcome.billable or meter.output_characters):
        return
    if meter.usage is None and not meter.output_characters:
        return  # nothing is known
    told = meter.usage if meter.usage and meter.complete else estimated(served)
    usage = as_one_unit(told)
    price = price_of(served.candidate.upstream, reservation.record, prices)
    attempt = reservation.attempts[-1]
    attempt.tokens = usage.input_tokens + usage.output_tokens
    attempt.units, attempt.cost = usage.units, price.prices.cost(usage)
