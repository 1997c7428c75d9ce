"""Admission as its callers see it: who is refused and what is said to them, over both kinds of
counters and over a store that is not there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lib.problems import InvalidRequest, Problem, QuotaExceeded, RateLimited, Unavailable
from lib.stores import StoreAway
from tenants.quotas import Metric
from tenants.windows import Window
from tests.loops import eventually, on_loop
from tests.services.valkey import Valkey
from tests.usage.counters.stage import Book, OneClock, memory, quota, rate, shared, slots
from usage.admission import FILLINGS, Admissions, Grant
from usage.counters.claims import (
    NOTHING,
    Admission,
    Amounts,
    Claim,
    CountersAway,
    Hold,
    Part,
    QuotaClaim,
)
from usage.counters.memory import MemoryCounters
from usage.models import QuotaAlert
from usage.truth import _note_threshold

DAY_ENDS = "2036-07-19T00:00:00Z"  # of the day that the stage's clock begins in
LEFT_OF_DAY = 86_400 - 2_100_000_000 % 86_400
KINDS = ["memory", "shared"]
ONE = Amounts(requests=1)


class Ledger(Book):
    """Remembers which thresholds were noted, and can be away."""

    def __init__(self, *processes: str) -> None:
        super().__init__(*processes)
        self.notes: list[tuple[QuotaClaim, int, int]] = []
        self.away = False

    async def note_threshold(self, claim: QuotaClaim, threshold: int, used: int) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise StoreAway("OperationalError")
        self.notes.append((claim, threshold, used))

    async def sum(self, claim: QuotaClaim, among: Sequence[str]) -> tuple[int, Sequence[str]]:
        if self.away:
            raise StoreAway("OperationalError")
        return await super().sum(claim, among)


class Desk:
    """Some gateways' admissions over one ledger, at one moment."""

    def __init__(self, ledger: Ledger, clock: OneClock, many: list[Admissions]) -> None:
        self.ledger, self.clock, self.many = ledger, clock, many
        self.now = clock.now()
        self._number = 0

    async def admit(self, *claims: Claim, at: int = 0, amounts: Amounts = ONE) -> Grant:
        return await self.try_options(claims, (), at=at, amounts=amounts)

    async def try_options(
        self,
        claims: Sequence[Claim],
        options: Sequence[Part],
        *,
        at: int = 0,
        amounts: Amounts = ONE,
    ) -> Grant:
        self._number += 1
        return await self.many[at].admit(f"c{self._number}", Part(claims, amounts), options)

    async def refused(self, *claims: Claim, amounts: Amounts = ONE) -> Problem:
        refusal = (await self.admit(*claims, amounts=amounts)).refusal
        assert refusal is not None
        return refusal

    def end(self, grant: Grant, used: Amounts, tries: Sequence[Amounts] = ()) -> None:
        parts = grant.hold.parts
        by_part = [used, *tries][: len(parts)]
        self.ledger.write(grant.hold.id, parts[: len(by_part)], by_part)
        grant.settle(used, tries)


@asynccontextmanager
async def desk(kind: str, request: pytest.FixtureRequest, gateways: int = 1) -> AsyncIterator[Desk]:
    names = [f"g{number}" for number in range(gateways)]
    ledger, clock = Ledger(*names), OneClock()
    if kind == "memory":
        same = memory(clock)
        yield Desk(ledger, clock, [Admissions(same, ledger, clock, name) for name in names])
        return
    valkey: Valkey = request.getfixturevalue("valkey")
    counters = [shared(valkey.url, ledger, name, clock) for name in names]
    for one in counters:
        await one.start()
    await eventually(lambda: all(one.ready for one in counters))
    many = [Admissions(one, ledger, clock, name) for one, name in zip(counters, names, strict=True)]
    yield Desk(ledger, clock, many)
    for one in counters:
        await one.close()


def over(test: Any) -> Any:
    """The test, over each kind of counters."""
    return pytest.mark.parametrize("kind", KINDS)(on_loop(test))


@over
async def test_a_rate_limit_names_itself_and_the_wait(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with desk(kind, request) as here:
        limit = rate(2, 60)
        for _ in range(2):
            assert (await here.admit(limit, rate(100, 3600))).refusal is None
        refusal = await here.refused(limit, rate(100, 3600))
        assert isinstance(refusal, RateLimited)
        assert (refusal.status, refusal.code) == (429, "rate_limit_exceeded")
        assert refusal.extra["policy"] == "key-minute"
        assert refusal.extra["reset_seconds"] == refusal.retry_after
        assert refusal.retry_after is not None
        assert 60 < refusal.retry_after <= 61
        assert f"Wait {refusal.retry_after} seconds" in str(refusal.detail)


@over
async def test_of_two_limits_the_longer_wait_is_told(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with desk(kind, request) as here:
        both = (rate(1, 60), rate(1, 3600), slots(1))
        assert (await here.admit(*both)).refusal is None
        refusal = await here.refused(*both)
        assert refusal.extra["policy"] == "key-hour"
        assert refusal.retry_after is not None
        assert refusal.retry_after > 3600


@over
async def test_places_at_the_same_time(kind: str, request: pytest.FixtureRequest) -> None:
    async with desk(kind, request) as here:
        first = await here.admit(slots(1))
        refusal = await here.refused(slots(1))
        assert (refusal.status, refusal.code) == (429, "rate_limit_exceeded")
        assert refusal.extra["policy"] == "key-concurrency"
        assert refusal.retry_after == 1
        first.settle(ONE, ())
        first.settle(ONE, ())  # once is enough
        assert (await here.admit(slots(1))).refusal is None
        assert (await here.admit(slots(1))).refusal is not None


@over
async def test_a_look_tells_what_would_refuse_and_claims_nothing(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with desk(kind, request) as here:
        claims = (rate(2, 60), quota(3, here.now), slots(1))
        part, admissions = Part(claims, ONE), here.many[0]
        for _ in range(5):
            assert await admissions.look(part) == ()
            assert await admissions.would_refuse(part) is None
        grant = await here.admit(*claims)
        assert grant.refusal is None
        (state,) = await admissions.look(part)
        assert state.claim is claims[2]
        here.end(grant, ONE)
        assert await admissions.look(part) == ()
        here.end(await here.admit(*claims), ONE)
        (state,) = await admissions.look(part)
        assert (state.claim, state.left) == (claims[0], 0)
        assert 0 < state.wait <= 61_000_000
        refusal = await admissions.would_refuse(part)
        assert refusal is not None and refusal.code == "rate_limit_exceeded"


@over
async def test_a_look_at_a_counter_that_is_missing_has_it_filled(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with desk(kind, request) as here:
        claim = quota(2, here.now)
        for _ in range(2):
            here.end(await here.admit(claim), ONE)
        await here.many[0].counters.drop(claim)
        (state,) = await here.many[0].look(Part((claim,), ONE))
        assert (state.claim, state.left) == (claim, 0)


@over
async def test_a_quota_names_all_that_the_contract_promises(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with desk(kind, request) as here:
        claim = quota(2, here.now)
        for _ in range(2):
            here.end(await here.admit(claim), ONE)
        refusal = await here.refused(claim)
        assert isinstance(refusal, QuotaExceeded)
        assert (refusal.status, refusal.code) == (429, "quota_exceeded")
        assert refusal.extra == {
            "scope": "tenant",
            "metric": "requests",
            "window": "day",
            "limit": 2,
            "used": 2,
            "resets_at": DAY_ENDS,
        }
        assert refusal.retry_after == LEFT_OF_DAY


@over
async def test_money_that_is_spent_is_a_402(kind: str, request: pytest.FixtureRequest) -> None:
    async with desk(kind, request) as here:
        claim = quota(1000, here.now, metric=Metric.COST, window=Window.DAY)
        here.end(await here.admit(claim, amounts=Amounts(1, cost=900)), Amounts(1, cost=700))
        refusal = await here.refused(claim, amounts=Amounts(1, cost=400))
        assert (refusal.status, refusal.code) == (402, "quota_exceeded")
        assert (refusal.extra["limit"], refusal.extra["used"]) == (1000, 700)
        assert (await here.admit(claim, amounts=Amounts(1, cost=300))).refusal is None


@over
async def test_what_never_fits_is_not_told_to_come_again(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with desk(kind, request) as here:
        tokens = rate(100, 60, "tokens")
        refusal = await here.refused(tokens, amounts=Amounts(1, 101))
        assert isinstance(refusal, InvalidRequest)
        assert (refusal.status, refusal.retry_after) == (422, None)
        claim = quota(100, here.now, metric=Metric.TOKENS)
        refusal = await here.refused(claim, amounts=Amounts(1, 101))
        assert (refusal.code, refusal.retry_after) == ("quota_exceeded", None)
        ever = quota(1, here.now, window=Window.LIFETIME)
        assert (await here.admit(ever)).refusal is None
        refusal = await here.refused(ever)
        assert (refusal.retry_after, refusal.extra["resets_at"]) == (None, None)


@over
async def test_a_refused_call_holds_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    async with desk(kind, request) as here:
        wide, narrow = quota(5, here.now), rate(1, 60)
        here.end(await here.admit(wide, narrow), ONE)
        for _ in range(9):
            await here.refused(wide, slots(3), narrow)
        grants = [await here.admit(wide, slots(3)) for _ in range(4)]
        assert [grant.refusal is None for grant in grants] == [True, True, True, False]
        (used,) = await here.many[0].counters.read([wide])
        assert used == (1, 3)


@over
async def test_a_soft_quota_never_refuses(kind: str, request: pytest.FixtureRequest) -> None:
    async with desk(kind, request) as here:
        claim = quota(1, here.now, hard=False)
        for _ in range(5):
            here.end(await here.admit(claim), ONE)
        (used,) = await here.many[0].counters.read([claim])
        assert used == (5, 0)
        (state,) = (await here.admit(claim)).states
        assert state.left == 0


@over
async def test_a_thousand_first_calls_read_the_ledger_once_a_counter(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with desk(kind, request) as here:
        first, second = quota(700, here.now), quota(1_000_000, here.now, metric=Metric.TOKENS)
        here.ledger.counted[first.key, first.counter] = 100
        grants = await asyncio.gather(
            *(here.admit(first, second, amounts=Amounts(1, 10)) for _ in range(1000))
        )
        assert here.ledger.sums == 2
        assert sum(grant.refusal is None for grant in grants) == 600
        used = await here.many[0].counters.read([first, second])
        assert used == [(100, 600), (0, 6000)]


@over
async def test_a_caller_who_leaves_does_not_take_the_filling_along(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with desk(kind, request) as here:
        claim = quota(700, here.now)
        first = asyncio.create_task(here.admit(claim))
        others = [asyncio.create_task(here.admit(claim)) for _ in range(20)]
        await asyncio.sleep(0)
        first.cancel()
        grants = await asyncio.gather(*others)
        assert all(grant.refusal is None for grant in grants)
        assert here.ledger.sums == 1


@pytest.mark.django_db
@pytest.mark.parametrize("kind", KINDS)
def test_each_threshold_once_a_window_and_limit(kind: str, request: pytest.FixtureRequest) -> None:
    """Over three gateways; a raised limit arms them anew."""

    @on_loop
    async def calls() -> None:
        async with desk(kind, request, gateways=3) as here:
            for number in range(10):
                here.end(await here.admit(quota(10, here.now), at=number % 3), ONE)
            for number in range(10):
                here.end(await here.admit(quota(20, here.now), at=number % 3), ONE)
            notes = here.ledger.notes
            await eventually(lambda: len({(n[0].quota.limit, n[1]) for n in notes}) == 6)
            for each in here.many:
                await eventually(lambda each=each: not each._aside)  # type: ignore[misc]
            told.extend(notes)

    told: list[tuple[QuotaClaim, int, int]] = []
    calls()
    assert len(told) <= 3 * 6  # a gateway that knows does not tell again
    for claim, threshold, used in told:
        assert used * 100 >= claim.quota.limit * threshold
        _note_threshold(claim, threshold, used)
    alerts = QuotaAlert.objects.order_by("limit", "threshold").values_list("limit", "threshold")
    assert list(alerts) == [(10, 50), (10, 80), (10, 100), (20, 50), (20, 80), (20, 100)]


@on_loop
async def test_a_threshold_that_could_not_be_kept_is_told_again() -> None:
    clock, ledger = OneClock(), Ledger()
    here = Desk(ledger, clock, [Admissions(memory(clock), ledger, clock)])
    await here.many[0].counters.fill(quota(4, here.now), 0, 0, [])
    ledger.away = True
    for _ in range(2):
        here.end(await here.admit(quota(4, here.now)), ONE)
    await eventually(lambda: not here.many[0]._aside)
    assert ledger.notes == []
    ledger.away = False
    here.end(await here.admit(quota(4, here.now)), ONE)
    await eventually(lambda: not here.many[0]._aside)
    assert [(threshold, used) for _, threshold, used in ledger.notes] == [(50, 3)]


def offer(limit: int, now: float, provider: str) -> Part:
    return Part([quota(limit, now, provider=provider)], ONE, provider)


@over
async def test_the_first_provider_with_room_is_chosen(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with desk(kind, request) as here:
        options = [offer(limit, here.now, name) for limit, name in ((0, "a"), (1, "b"), (5, "c"))]
        first = await here.try_options([], options)
        assert (first.refusal, first.chosen) == (None, 1)
        assert [await first.admits(place) for place in (0, 1, 2)] == [False, True, True]
        second = await here.try_options([], options)
        assert second.chosen == 2
        assert [await second.admits(place) for place in (0, 1, 2)] == [False, False, True]


@over
async def test_each_try_is_settled_at_the_provider_that_was_tried(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """The first answered nothing; the second has what was used, and the caller all of it."""
    async with desk(kind, request) as here:
        own = quota(100, here.now, metric=Metric.TOKENS)
        options = [
            Part([quota(99, here.now, metric=Metric.TOKENS, provider=name)], Amounts(1, 30), name)
            for name in ("a", "b")
        ]
        grant = await here.try_options([own], options, amounts=Amounts(1, 30))
        for number in range(2):
            assert await grant.admits(number)
            grant.tried(number, grant.current)
        grant.settle(Amounts(1, 12), [Amounts(1, 0), Amounts(1, 12)])
        await asyncio.sleep(0.05)
        claims = [own, options[0].claims[0], options[1].claims[0]]
        used = await here.many[0].counters.read(claims)  # type: ignore[arg-type]
        assert used == [(12, 0), (0, 0), (12, 0)]


@over
async def test_where_no_provider_has_room_the_one_that_frees_first_says_when(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with desk(kind, request) as here:
        minute = Part([quota(0, here.now, window=Window.MINUTE, provider="b")], ONE, "b")
        options = [offer(0, here.now, "a"), minute]
        mine = quota(5, here.now)
        refusal = (await here.try_options([mine], options)).refusal
        assert isinstance(refusal, Unavailable)
        assert refusal.status == 503
        assert refusal.retry_after == 60 - 2_100_000_000 % 60
        (used,) = await here.many[0].counters.read([mine])
        assert used == (0, 0)


class Away(MemoryCounters):
    """A store that can be switched off."""

    def __init__(self, clock: OneClock) -> None:
        super().__init__(clock)
        self.ready = True
        self.wait = 0.0

    async def admit(self, hold: Hold, base: Part, options: Sequence[Part] = ()) -> Admission:
        if not self.ready:
            raise CountersAway("no connection", self.wait)
        return await super().admit(hold, base, options)


def with_a_store(clock: OneClock) -> tuple[Desk, Away]:
    store, ledger = Away(clock), Ledger()
    admissions = Admissions(store, ledger, clock)
    admissions.alone = memory(clock)
    return Desk(ledger, clock, [admissions]), store


@on_loop
async def test_without_the_store_each_kind_behaves_as_declared() -> None:
    here, store = with_a_store(OneClock())
    store.ready = False
    with pytest.raises(Unavailable) as caught:
        await here.admit(quota(5, here.now), rate(9))
    assert (caught.value.code, caught.value.status) == ("store_unavailable", 503)
    assert caught.value.retry_after == 2
    with pytest.raises(Unavailable):
        await here.try_options([rate(9)], [offer(5, here.now, "a")])
    limited = [(await here.admit(rate(3), slots(2))).refusal is None for _ in range(4)]
    assert limited == [True, True, False, False]
    for _ in range(5):
        assert (await here.admit(quota(1, here.now, hard=False))).refusal is None


@on_loop
async def test_what_nobody_counted_is_counted_once_the_store_is_back() -> None:
    here, store = with_a_store(OneClock())
    soft = quota(100, here.now, hard=False)
    here.end(await here.admit(soft), ONE)
    store.ready = False
    for _ in range(7):
        grant = await here.admit(soft, rate(99))
        assert grant.settles
        here.end(grant, ONE)
        here.ledger.counted[soft.key, soft.counter] += 1
    store.ready = True
    running = await here.admit(soft)
    await eventually(lambda: not here.many[0]._aside)
    assert await store.read([soft]) == [(8, 1)]
    here.end(running, ONE)
    assert await store.read([soft]) == [(9, 0)]


@on_loop
async def test_a_hard_quota_waits_a_little_for_counters_that_are_being_gathered() -> None:
    here, store = with_a_store(OneClock())
    store.ready, store.wait = False, 1.0
    asking = asyncio.create_task(here.admit(quota(5, here.now)))
    await asyncio.sleep(0.05)
    store.ready = True
    assert (await asking).refusal is None


@on_loop
async def test_without_the_ledger_a_missing_counter_refuses() -> None:
    here, _ = with_a_store(OneClock())
    here.ledger.away = True
    with pytest.raises(Unavailable) as caught:
        await here.admit(quota(5, here.now))
    assert caught.value.code == "store_unavailable"
    here.ledger.away = False
    assert (await here.admit(quota(5, here.now))).refusal is None


@on_loop
async def test_counters_that_never_stand_still_are_given_up() -> None:
    here, store = with_a_store(OneClock())

    async def fill(*_: Any) -> bool:
        return False

    store.fill = fill  # type: ignore[method-assign]
    with pytest.raises(Unavailable) as caught:
        await here.admit(quota(5, here.now))
    assert caught.value.code == "store_unavailable"
    assert here.ledger.sums == FILLINGS


@over
async def test_a_call_whose_row_is_unsure_is_settled_by_the_ledger(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with desk(kind, request) as here:
        claim = quota(100, here.now, metric=Metric.TOKENS)
        written = await here.admit(claim, amounts=Amounts(1, 40))
        lost = await here.admit(claim, amounts=Amounts(1, 40))
        here.ledger.write(written.hold.id, written.hold.parts, [Amounts(1, 15)])
        for grant in (written, lost):
            grant.settle_by_ledger(lambda: False)
            grant.settle(Amounts(1, 99), ())  # too late: it is settled
        await eventually(lambda: not here.many[0]._aside)
        await asyncio.sleep(0.05)
        assert await here.many[0].counters.read([claim]) == [(15, 0)]


@over
async def test_a_row_that_is_still_to_come_is_waited_for(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """Its call was told that the ledger is away; it is billed, and so it counts."""
    async with desk(kind, request) as here:
        claim = quota(100, here.now, metric=Metric.TOKENS)
        late = await here.admit(claim, amounts=Amounts(1, 40))
        is_writing = True
        late.settle_by_ledger(lambda: is_writing)
        await asyncio.sleep(0.1)
        assert await here.many[0].counters.read([claim]) == [(0, 40)]
        here.ledger.write(late.hold.id, late.hold.parts, [Amounts(1, 15)])
        is_writing = False
        await eventually(lambda: not here.many[0]._aside)
        await asyncio.sleep(0.05)
        assert await here.many[0].counters.read([claim]) == [(15, 0)]


@over
async def test_nothing_is_taken_where_nothing_limits(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with desk(kind, request) as here:
        grant = await here.admit()
        assert (grant.refusal, grant.states, grant.settles) == (None, (), False)
        grant.settle(NOTHING, ())
        assert await grant.admits(3)
