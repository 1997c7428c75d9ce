"""What an attempt used, and what its provider takes for it."""

from __future__ import annotations

from billing.book import UNKNOWN, PriceBook, PriceVersion
from gateway.hedging import HEDGED_AWAY
from gateway.served import Served
from providers.call import Outcome, Upstream, Usage
from providers.openai_wire import CHARACTERS_PER_TOKEN
from tenants.keys import Mode
from usage.record import AttemptRecord, Record
from usage.reservation import Reservation


def price_of(upstream: Upstream, record: Record, prices: PriceBook) -> PriceVersion:
    """The version in force when the call came. Test mode is free."""
    return _price(upstream.provider, upstream.model, record, prices)


def _price(provider: str, model: str, record: Record, prices: PriceBook) -> PriceVersion:
    if record.mode == Mode.TEST:
        return UNKNOWN
    return prices.price(provider, model, record.operation, record.created_at.timestamp())


def used(served: Served, *, broken: bool) -> tuple[Usage, bool]:
    """What an attempt used, and whether the provider told it. Of an answer that was broken off
    the provider's count so far may be less than it made; then the larger figure counts."""
    if served.unchanged:
        return Usage(units=1), True  # it was asked, and used nothing that is counted in tokens
    told = served.meter.usage
    if told is not None and (served.meter.complete or not broken):
        return as_one_unit(told), True
    return as_one_unit(_estimated(served)), False


def _estimated(served: Served) -> Usage:
    """What was told so far, with at least as many output tokens as the text that came makes
    likely."""
    known = served.meter.usage or served.estimate()._replace(output_tokens=0)
    seen = -(-served.meter.output_characters // CHARACTERS_PER_TOKEN)
    return known._replace(output_tokens=max(known.output_tokens, seen), estimated=True)


def as_one_unit(usage: Usage) -> Usage:
    """An answer is one unit where nothing else is said: as the row will say, which must be
    enough to compute its cost again."""
    return usage if usage.units else Usage(*usage[:5], units=1, estimated=usage.estimated)


def note_used(attempt: AttemptRecord, usage: Usage, price: PriceVersion) -> None:
    """On the attempt's row, and in no tenant's bill."""
    attempt.tokens = usage.input_tokens + usage.output_tokens
    attempt.units, attempt.cost = usage.units, price.prices.cost(usage)


def note_lost(
    served: Served, outcome: Outcome, reservation: Reservation, prices: PriceBook
) -> None:
    """The last attempt failed with an answer that its provider is paid for all the same."""
    meter = served.meter
    if not (outcome.billable or meter.output_characters):
        return
    if meter.usage is None and not meter.output_characters:
        return  # nothing is known
    usage, _ = used(served, broken=True)
    price = price_of(served.candidate.upstream, reservation.record, prices)
    note_used(reservation.attempts[-1], usage, price)


def note_hedged_away(reservation: Reservation, prices: PriceBook) -> None:
    """A provider that was hedged away may well want its money. It is the house's to pay: the
    tenant is charged for the answer, once."""
    for attempt in reservation.attempts:
        if attempt.verdict == HEDGED_AWAY and reservation.record.mode != Mode.TEST:
            price = _price(attempt.provider, attempt.model, reservation.record, prices)
            note_used(attempt, Usage(units=1), price)
