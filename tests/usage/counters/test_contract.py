"""One suite for both kinds of counters: the same trace leads both to the same answers, and a
model that remembers everything says whether those are right."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from tenants.quotas import Metric
from tenants.windows import Window
from tests.services.valkey import Valkey
from tests.usage.counters.stage import Book, OneClock, memory, quota, rate, shared, slots
from usage.counters.claims import (
    MICROSECONDS,
    NOTHING,
    SLICES,
    Admission,
    Amounts,
    Claim,
    Hold,
    Part,
    QuotaClaim,
    RateClaim,
    SlotClaim,
)
from usage.counters.shared import SharedCounters

RATES = (rate(3), rate(5, 1), rate(40, 7, "tokens"), rate(100, 3600, "tokens", "b"))
SLOTS = (slots(2), slots(3, "b"))
amounts = st.builds(
    Amounts,
    requests=st.just(1),
    tokens=st.integers(0, 30),
    cost=st.integers(0, 50),
    credits=st.integers(0, 3),
    bytes=st.integers(0, 9),
)
WIDTHS = sorted({claim.width for claim in RATES})
steps = st.one_of(
    st.integers(0, 2 * MICROSECONDS),
    st.integers(0, 100 * MICROSECONDS),
    st.builds(
        lambda width, part, off: max(0, width * part + off),
        st.sampled_from(WIDTHS),
        st.sampled_from([1, 63, 64, 65, 66]),
        st.integers(-1, 1),
    ),
    st.integers(0, 2 * 86_400 * MICROSECONDS),
)


def quotas(clock: OneClock) -> tuple[QuotaClaim, ...]:
    now = clock.now()
    return (
        quota(7, now),
        quota(60, now, metric=Metric.TOKENS, window=Window.HOUR),
        quota(90, now, metric=Metric.COST, window=Window.LIFETIME),
        quota(3, now, metric=Metric.CREDITS, window=Window.MINUTE, weight=2),
        quota(5, now, metric=Metric.BYTES, window=Window.MONTH, hard=False),
        quota(4, now, provider="lab"),
        quota(20, now, provider="lab", metric=Metric.TOKENS, window=Window.MINUTE),
    )


@dataclass
class Granted:
    """A hold in both stores, and when it was granted."""

    holds: tuple[Hold, Hold]
    at: float
    parts: list[Part] = field(default_factory=list)


class Model:
    """Remembers all that was granted and settled, and counts it anew each time."""

    def __init__(self) -> None:
        self.granted: list[Granted] = []
        self.admitted: dict[str, list[tuple[int, int]]] = {}

    def reserved(self, claim: QuotaClaim) -> int:
        return sum(
            own.amount(part.amounts)
            for granted in self.granted
            for part in granted.parts
            for own in part.claims
            if isinstance(own, QuotaClaim) and (own.key, own.counter) == (claim.key, claim.counter)
        )

    def taken(self, claim: SlotClaim) -> int:
        return sum(
            own.key == claim.key
            for granted in self.granted
            for part in granted.parts
            for own in part.claims
            if isinstance(own, SlotClaim)
        )

    def counted(self, claim: RateClaim, since: int) -> int:
        return sum(n for at, n in self.admitted.get(claim.key, ()) if at >= since)


class Machine(RuleBasedStateMachine):
    """Calls come, go on, end, or are forgotten; time goes on."""

    valkey: Valkey
    runner: asyncio.Runner

    holds = Bundle("holds")

    @initialize()
    def begin(self) -> None:
        self.clock = OneClock()
        self.book = Book()
        self.model = Model()
        self.number = 0
        with self.valkey.client() as client:
            client.flushall()
        self.memory = memory(self.clock)
        self.shared = shared(self.valkey.url, self.book, clock=self.clock)
        self.run(_started(self.shared))

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    def teardown(self) -> None:
        if hasattr(self, "shared"):
            self.run(self.shared.close())

    @rule(by=steps)
    def time_goes_on(self, by: int) -> None:
        self.clock.advance(by)

    @rule(target=holds, data=st.data(), base=amounts, option=amounts, options=st.integers(0, 2))
    def call(self, data: Any, base: Amounts, option: Amounts, options: int) -> Any:
        self.number += 1
        every: tuple[Claim, ...] = (*RATES, *SLOTS, *quotas(self.clock)[:5])
        providers = quotas(self.clock)[5:]
        own = Part(data.draw(_some(every)), base)
        others = [Part(data.draw(_some(providers)), option, "lab") for _ in range(options)]
        granted = Granted((Hold(f"h{self.number}"), Hold(f"h{self.number}")), self.clock.now())
        admission = self._admit(granted, own, others)
        if not admission.granted:
            return multiple()
        granted.parts += [own] + ([others[admission.chosen]] if admission.chosen >= 0 else [])
        self.model.granted.append(granted)
        return granted

    @rule(granted=holds, data=st.data(), more=amounts)
    def goes_on(self, granted: Granted, data: Any, more: Amounts) -> None:
        part = Part(data.draw(_some(quotas(self.clock)[5:])), more, "lab")
        if self._admit(granted, part, []).granted:
            granted.parts.append(part)

    @rule(granted=consumes(holds), used=amounts, tried=amounts)
    def ends(self, granted: Granted, used: Amounts, tried: Amounts) -> None:
        """All tries at the provider share one row's amounts; the first has them."""
        all_used = [used] + [NOTHING] * (len(granted.parts) - 1)
        if len(granted.parts) > 1:
            all_used[1] = tried
        self.book.write(granted.holds[0].id, granted.parts, all_used)
        self.model.granted.remove(granted)
        for store, hold in zip((self.memory, self.shared), granted.holds, strict=True):
            store.settle(hold, all_used)
        self._correct_rates(granted, all_used)

    @rule()
    def the_store_is_read(self) -> None:
        claims = list(quotas(self.clock))
        ours, theirs = self.run(self.memory.read(claims)), self.run(self.shared.read(claims))
        for claim, one, other in zip(claims, ours, theirs, strict=True):
            for store, used in (("memory", one), ("shared", other)):
                if used is not None:
                    known = (self.book.total(claim), self.model.reserved(claim))
                    assert used == known, (store, claim.key, claim.counter)

    @invariant()
    def no_hard_quota_is_passed_by_what_is_reserved(self) -> None:
        if not hasattr(self, "clock"):
            return
        for claim in quotas(self.clock):
            if claim.quota.hard and self.model.reserved(claim):
                # What calls used beyond what they had reserved is no admission's fault.
                assert self.model.reserved(claim) <= claim.quota.limit

    def _admit(self, granted: Granted, own: Part, others: list[Part]) -> Admission:
        answers = [
            self.run(_filled(store, self.book, hold, own, others))
            for store, hold in zip((self.memory, self.shared), granted.holds, strict=True)
        ]
        first, second = answers
        assert told(first) == told(second)
        self._check(first, own, others)
        return first

    def _check(self, admission: Admission, own: Part, others: list[Part]) -> None:
        fits = self._fits(own)
        chosen = next((n for n, other in enumerate(others) if self._fits(other)), -1)
        assert admission.granted is (fits and (not others or chosen >= 0))
        if admission.granted:
            assert admission.chosen == chosen
            taken = [own] + ([others[chosen]] if chosen >= 0 else [])
            for part in taken:
                for claim in part.claims:
                    if isinstance(claim, RateClaim):
                        moments = self.model.admitted.setdefault(claim.key, [])
                        moments.append((self.clock.moment, claim.amount(part.amounts)))
                        self._never_more_than_the_limit(claim)

    def _fits(self, part: Part) -> bool:
        for claim in part.claims:
            amount = claim.amount(part.amounts)
            if isinstance(claim, RateClaim):
                oldest = (self.clock.moment // claim.width - SLICES) * claim.width
                if self.model.counted(claim, oldest) + amount > claim.limit.limit:
                    return False
            elif isinstance(claim, SlotClaim):
                if self.model.taken(claim) >= claim.limit.limit:
                    return False
            elif claim.quota.hard:
                known = self.book.total(claim) + self.model.reserved(claim)
                if known + amount > claim.quota.limit:
                    return False
        return True

    def _never_more_than_the_limit(self, claim: RateClaim) -> None:
        span = claim.limit.per_seconds * MICROSECONDS
        if claim.settles:
            return  # tokens are put right afterwards, which may be more than was reserved
        since = self.clock.moment - span
        within = sum(n for at, n in self.model.admitted[claim.key] if at > since)
        assert within <= claim.limit.limit

    def _correct_rates(self, granted: Granted, used: list[Amounts]) -> None:
        moment = granted.holds[0].moment
        for part, actual in zip(granted.parts, used, strict=True):
            for claim in part.claims:
                if isinstance(claim, RateClaim) and claim.settles:
                    by = claim.amount(actual) - claim.amount(part.amounts)
                    oldest = (self.clock.moment // claim.width - SLICES) * claim.width
                    if moment // claim.width * claim.width >= oldest:
                        self.model.admitted[claim.key].append((moment, by))


def _some(claims: tuple[Claim, ...]) -> st.SearchStrategy[list[Claim]]:
    return st.lists(st.sampled_from(claims), unique_by=lambda c: (c.key, id(type(c))), max_size=4)


def told(admission: Admission) -> list[Any]:
    """What an admission says, short enough to be read in a failure."""
    states = [(s.claim.key, s.left, s.wait, s.refused) for s in admission.states]
    return [admission.granted, admission.chosen, *states]


async def _started(store: SharedCounters) -> None:
    await store.start()
    async with asyncio.timeout(30):
        while not store.ready:
            await asyncio.sleep(0.01)


async def _filled(store: Any, book: Book, hold: Hold, own: Part, others: list[Part]) -> Admission:
    """Admit, filling from the ledger what is missing, as usage/admission.py does."""
    for _ in range(20):
        admission: Admission = await store.admit(hold, own, others)
        if not admission.missing:
            return admission
        for claim in admission.missing:
            number, holders = await store.begin_filling(claim)
            used, final = await book.sum(claim, holders)
            await store.fill(claim, number, used, final)
    raise AssertionError("never filled")


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.mark.unmeasured
def test_both_answer_as_the_model_does(
    valkey: Valkey, runner: asyncio.Runner, pytestconfig: pytest.Config
) -> None:
    long = pytestconfig.getoption("--long", default=False)
    Machine.valkey, Machine.runner = valkey, runner
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=1000 if long else 40,
            stateful_step_count=100 if long else 40,
            deadline=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )
