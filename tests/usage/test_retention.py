"""Old months go, their sums stay, and nothing goes too early."""

from __future__ import annotations

import asyncio
import datetime as dt
import random

import pytest

from tests.usage.conftest import ALIAS, Store
from tests.usage.entries import final
from tests.usage.test_partitions import ask, call_at
from tests.usage.test_rollups import content
from tests.usage.test_sums import write
from usage import partitions, retention, rollups, sums
from usage.ledger import Final
from usage.models import Attempt, UsageRecord
from usage.partitions import Month

NOW = dt.datetime.now(dt.UTC)
THIS = Month.of(NOW)
MS = dt.timedelta(milliseconds=1)


def five_months(rng: random.Random) -> list[Final]:
    """Some calls of each of the last months, at their very ends too."""
    calls = []
    for back in range(6):
        month = THIS.plus(-back)
        end = min(month.plus(1).starts, NOW)
        moments = [month.starts, end - MS] + [
            month.starts + rng.random() * (end - month.starts) for _ in range(20)
        ]
        calls += [
            call_at(moment, attempts=rng.choice([0, 2]), charge=rng.randrange(99), provider="lab")
            for moment in moments
        ]
    return calls


def charged() -> int:
    return sums.used(scope="tenant", subject={"tenant_id": 7}, metric="cost", since=0, using=ALIAS)


@pytest.mark.parametrize("partitioned", [True, False])
def test_old_months_go_and_their_sums_stay(store: Store, partitioned: bool) -> None:
    calls = five_months(random.Random(3))
    write(store, calls)
    total = sum(call.record.charge for call in calls)
    if partitioned:
        partitions.make(using=ALIAS)
    assert retention.expire(3, using=ALIAS) == 0, "not folded yet"
    assert len(store.records) == len(calls)
    rollups.fold(using=ALIAS)
    before = content()

    assert retention.expire(3, using=ALIAS) > 0
    kept = sorted(
        call.record.request_id for call in calls if call.record.created_at >= THIS.plus(-3).starts
    )
    assert store.request_ids == kept
    assert len(kept) == 4 * 22
    assert {row.request_id for row in store.attempts} <= set(kept)
    assert Attempt.objects.using(ALIAS).count() == sum(
        len(call.attempts) for call in calls if call.record.request_id in kept
    )
    assert content() == before
    assert charged() == total
    assert retention.expire(3, using=ALIAS) == 0
    months = {each.month for each in partitions.listed(using=ALIAS) if each.month}
    assert not {month for month in months if month < THIS.plus(-3)}


@pytest.mark.unmeasured
def test_what_is_rebuilt_afterwards_is_what_there_still_is(store: Store) -> None:
    """Not the months that are gone, nor the day from which rows may be."""
    calls = five_months(random.Random(4))
    straddling = final(
        request_id=call_at(THIS.plus(-2).starts - MS).record.request_id,
        created_at=THIS.plus(-2).starts + MS,
        charge=1000,
    )
    write(store, [*calls, straddling])
    rollups.fold(using=ALIAS)
    total, before = charged(), content()
    retention.expire(2, using=ALIAS)
    assert straddling.record.request_id not in store.request_ids
    for since in (None, THIS.plus(-5).starts.date()):
        rollups.rebuild(since, using=ALIAS)
        assert content()["usage_usageday"] == before["usage_usageday"]
        assert charged() == total


def test_a_late_row_of_a_month_that_is_gone_is_taken_and_goes_too(store: Store) -> None:
    """A call whose process died, and whose row nobody wrote for months."""
    write(store, five_months(random.Random(5)))
    rollups.fold(using=ALIAS)
    retention.expire(2, using=ALIAS)
    late = call_at(THIS.plus(-5).starts, attempts=2)
    write(store, [late])
    assert late.record.request_id in store.request_ids
    assert retention.expire(2, using=ALIAS) == 0
    rollups.fold(using=ALIAS)
    assert retention.expire(2, using=ALIAS) == 3
    assert late.record.request_id not in store.request_ids


def test_for_ever_is_the_default_and_too_little_is_refused(store: Store) -> None:
    write(store, [call_at(THIS.plus(-30).starts)])
    rollups.fold(using=ALIAS)
    assert retention.expire(0, using=ALIAS) == 0
    with pytest.raises(ValueError, match="2 months"):
        retention.expire(1, using=ALIAS)
    assert len(store.records) == 1


def test_calls_go_on_meanwhile(store: Store) -> None:
    write(store, five_months(random.Random(6)))
    partitions.make(using=ALIAS)
    rollups.fold(using=ALIAS)
    new = [call_at(NOW, attempts=2) for _ in range(200)]

    async def both() -> None:
        journal = store.journal()
        going = asyncio.create_task(asyncio.to_thread(retention.expire, 2, using=ALIAS))
        for start in range(0, len(new), 5):
            await journal.write(new[start : start + 5])
        await going
        await journal.close()

    asyncio.run(both())
    assert UsageRecord.objects.using(ALIAS).count() == 3 * 22 + len(new)
    assert ask("SELECT count(*) FROM usage_usagerecord WHERE request_id < %s",
               THIS.plus(-2).first_id) == [(0,)]  # fmt: skip
