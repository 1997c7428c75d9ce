"""From the provider's count to the ledger and back: every row that the data path writes, of
whole answers, streams, cut ones and calls that a crash left open, can be computed again."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import time
from typing import Any

import pytest

from billing import book
from billing.rerating import Period, reproduce
from lib.clock import utc
from lib.ids import uuid7
from providers.call import Verdict
from providers.transport import TransportFault
from tenants.keys import Mode
from tests.factories import PriceFactory, ProviderFactory
from tests.gateway.unit.rig import (
    DONE,
    Reply,
    Rig,
    chat,
    data_target,
    event,
    failure,
    route,
    slug_of,
    stream,
    target,
    whole,
)
from usage.models import Attempt, UsageRecord
from usage.record import ATTEMPT_COLUMNS, RECORD_COLUMNS, Record

pytestmark = pytest.mark.django_db
CALLS = 120
DAY = dt.timedelta(days=1)
RATES = {
    "result": "success",
    "base_code": "EUR",
    "time_last_update_unix": 1_800_000_000,
    "rates": {"SEK": 11.5},
}

BOTH = {
    "open-er-api": RATES,
    "frankfurter": {"base": "EUR", "date": "2026-11-20", "rates": {"SEK": 11.02}},
}


def told(pick: random.Random) -> dict[str, Any]:
    """A count that may or may not make sense."""
    some = [0, 1, 7, 999, 10**6, 2**40, -3]
    return {
        "prompt_tokens": pick.choice(some),
        "completion_tokens": pick.choice(some),
        "prompt_tokens_details": {"cached_tokens": pick.choice(some)},
        "completion_tokens_details": {"reasoning_tokens": pick.choice(some)},
    }


def reply(pick: random.Random, streamed: bool) -> Reply:
    if pick.random() < 0.1:
        return failure()
    if not streamed:
        return chat(usage=told(pick) if pick.random() < 0.9 else {})
    parts: list[Any] = [event("hello "), event("back"), event(), event(usage=told(pick)), DONE]
    if pick.random() < 0.4:
        parts = parts[: pick.randrange(1, 5)]
        parts.append(TransportFault(Verdict.UNREACHABLE, "cut off"))
    return stream(*parts)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.unmeasured
def test_all_that_is_billed_can_be_billed_again(rig: Rig, seed: int) -> None:
    pick = random.Random(seed)
    rig.clock.advance(time.time() - rig.clock.now())  # a row is looked for by its id's moment
    now = utc(rig.clock.now())
    lab, (rates, others) = ProviderFactory(slug="lab"), [ProviderFactory(slug=s) for s in BOTH]
    for provider, model in ((lab, "gpt-x"), (lab, "*"), (rates, ""), (others, "")):
        for age in (-2 * DAY, -DAY, dt.timedelta(seconds=pick.randrange(60))):
            kinds = ("input", "output", "cached_input", "reasoning", "unit", "call")
            amounts = {kind: pick.choice([None, 0, 1, 123_000, 7_000_000]) for kind in kinds}
            PriceFactory(provider=provider, model_id=model, effective_from=now + age, **amounts)
    rig.serve(
        route(target("lab"), name="m"),
        route(target("lab", "other"), name="other"),
        route(*map(data_target, BOTH), operation="finance.fx_rate", name="finance.fx_rate"),
    )
    rig.gateway.live.prices = book.load()

    async def call(number: int) -> None:
        key = rig.callers.add(
            markup=pick.choice([0, 1, 1250, -999, -10_000]),
            mode=pick.choice([Mode.LIVE, Mode.LIVE, Mode.LIVE, Mode.TEST]),
        )
        streamed = pick.random() < 0.5
        rig.upstreams.script = lambda request: reply(pick, streamed)
        if number % 7 == 0:
            rig.upstreams.script = lambda request: whole(BOTH[slug_of(request)])
            strategy = pick.choice(["all", "merge", "fastest"])
            await rig.ask(
                f"/api/v1/finance/fx_rate?base=EUR&quote=SEK&strategy={strategy}", key=key
            )
        elif number % 5 == 0:
            rig.upstreams.script = lambda request: whole(RATES)
            await rig.ask("/api/v1/finance/fx_rate?base=EUR&quote=SEK", key=key)
        else:
            await rig.chat(key=key, stream=streamed, model=pick.choice(["m", "other"]))
        rig.clock.advance(1)

    async def calls() -> None:
        for number in range(CALLS):
            await call(number)

    asyncio.run(calls())
    rows = [final.record for final in rig.journal.finals] + left_open(rig)
    UsageRecord.objects.bulk_create(
        UsageRecord(**{name: getattr(row, name) for name in RECORD_COLUMNS}) for row in rows
    )
    Attempt.objects.bulk_create(
        Attempt(**{name: getattr(note, name) for name in ATTEMPT_COLUMNS})
        for final in rig.journal.finals
        for note in final.attempts
    )
    assert any(row.units == 2 and row.price_id is None and row.charge for row in rows)
    assert len(rows) > CALLS and sum(row.charge for row in rows) > 0
    assert any(row.estimate == "cut" for row in rows)
    assert len({row.price_id for row in rows if row.model}) > 4
    assert any(row.provider == "open-er-api" and row.status == 200 for row in rows)
    report = reproduce(Period(now - DAY, now + DAY))
    assert (report.rows, report.difference, report.first) == (len(rows), 0, [])


def left_open(rig: Rig) -> list[Record]:
    """The rows that the reaper would have written, had the process died in every stream."""
    found = []
    for opened in rig.journal.opened:
        record = Record.from_document(opened.record.as_document())
        record.request_id = uuid7()
        record.estimate = "crashed"
        found.append(record)
    return found
