"""The keys of repeated calls in the database: who is first, what is told, and when it is over."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import time
from typing import Any

import pytest

from lib.ids import uuid7
from lib.problems import IdempotencyConflict, IdempotencyMismatch, Unavailable
from lib.stores import StoreAway
from tests.loops import on_loop
from usage import idempotency
from usage.idempotency import KEPT_SECONDS, Answer, Claim, IdempotentCalls, expire
from usage.models import IdempotentCall

pytestmark = pytest.mark.django_db(transaction=True)

NOW = 1_800_000_000.0


def claim(**values: Any) -> Claim:
    plain = {"tenant_id": 1, "mode": "live", "key": "a" * 64, "fingerprint": "f" * 64}
    plain |= {"request_id": uuid7(), "at": NOW, "running_until": NOW + 90}
    return Claim(**plain | values)


def answer(of: Claim, body: bytes = b"\x00{}\xff") -> Answer:
    return Answer(of.request_id, 200, [("content-type", "text/plain"), ("x-a", "å")], body)


@pytest.fixture
def calls() -> Any:
    calls = IdempotentCalls()
    yield calls
    calls.close()


@on_loop
async def test_one_of_many_gets_the_key(calls: IdempotentCalls) -> None:
    claims = [claim() for _ in range(60)]
    others = [IdempotentCalls() for _ in range(3)]  # as other processes would have
    stores = [calls, *others]
    told = await asyncio.gather(
        *(stores[n % 4].claim(one) for n, one in enumerate(claims)), return_exceptions=True
    )
    assert [outcome for outcome in told if not isinstance(outcome, IdempotencyConflict)] == [None]
    for other in others:
        other.close()


@on_loop
async def test_an_answer_comes_back_as_it_was_saved(calls: IdempotentCalls) -> None:
    first = claim()
    assert await calls.claim(first) is None
    await calls.save(first, answer(first))
    assert await calls.claim(claim()) == answer(first)
    with pytest.raises(IdempotencyMismatch):
        await calls.claim(claim(fingerprint="0" * 64))


@on_loop
async def test_a_key_that_was_given_back_is_new(calls: IdempotentCalls) -> None:
    first = claim()
    await calls.claim(first)
    await calls.release(first)
    assert await calls.claim(claim(fingerprint="0" * 64)) is None


@on_loop
async def test_only_its_own_call_can_answer_or_give_back_a_key(calls: IdempotentCalls) -> None:
    first, stranger = claim(), claim()
    await calls.claim(first)
    await calls.release(stranger)
    await calls.lose(stranger)
    await calls.save(stranger, answer(stranger))
    with pytest.raises(IdempotencyConflict):
        await calls.claim(stranger)
    await calls.save(first, answer(first))
    await calls.release(first)
    await calls.lose(first)
    assert await calls.claim(claim()) == answer(first)


@on_loop
async def test_what_was_lost_is_told_without_a_promise(calls: IdempotentCalls) -> None:
    first = claim()
    await calls.claim(first)
    with pytest.raises(IdempotencyConflict) as running:
        await calls.claim(claim())
    assert running.value.retry_after == 1
    await calls.lose(first)
    for moment in (NOW + 1, NOW + 3600):
        with pytest.raises(IdempotencyConflict) as lost:
            await calls.claim(claim(at=moment))
        assert lost.value.retry_after is None
        assert lost.value.extra == {"status_url": f"/api/v1/requests/{first.request_id}"}


@on_loop
async def test_keys_end_after_a_day_whoever_deletes_them(calls: IdempotentCalls) -> None:
    first = claim()
    await calls.claim(first)
    with pytest.raises(IdempotencyConflict):
        await calls.claim(claim(at=NOW + KEPT_SECONDS - 1))
    again = [claim(at=NOW + KEPT_SECONDS) for _ in range(10)]
    told = await asyncio.gather(*(calls.claim(one) for one in again), return_exceptions=True)
    assert [outcome for outcome in told if not isinstance(outcome, IdempotencyConflict)] == [None]


@on_loop
async def test_a_database_that_hangs_is_not_waited_for(
    calls: IdempotentCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(idempotency, "PATIENCE", 0.05)
    for name in ("_claim", "_save"):
        monkeypatch.setattr(idempotency, name, lambda *args: gate.wait(20))
    begun = time.monotonic()
    with pytest.raises(Unavailable) as away:
        await calls.claim(claim())
    assert (away.value.code, away.value.retry_after) == ("store_unavailable", 2)
    with pytest.raises(StoreAway):
        await calls.save(claim(), answer(claim()))
    assert time.monotonic() - begun < 5
    gate.set()


def test_the_job_deletes_what_is_over_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "EXPIRED_AT_ONCE", 10)
    now = dt.datetime.now(dt.UTC)
    for number in range(37):
        ends = now + dt.timedelta(hours=1 if number % 5 == 0 else -1)
        IdempotentCall.objects.create(
            tenant_id=number,
            mode="live",
            key="a" * 64,
            fingerprint="f" * 64,
            request_id=uuid7(),
            running_until=now,
            expires_at=ends,
        )
    assert expire() == 29
    assert expire() == 0
    assert IdempotentCall.objects.count() == 8
