"""Admit: every limit, quota and slot of a call in one round trip to the counters, all or none.

While the counters' store is away each kind behaves as declared (design G5): hard quotas refuse
(503 store_unavailable), rate limits and slots are counted by this process alone, soft quotas
are counted from the ledger once it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from lib.clock import Clock, rfc3339, utc
from lib.ids import uuid7
from lib.problems import InvalidRequest, Problem, QuotaExceeded, RateLimited, Unavailable
from lib.stores import StoreAway
from tenants.limits import LimitMetric, RateLimit, Scope
from tenants.quotas import Metric
from usage.counters.claims import (
    MICROSECONDS,
    NOTHING,
    Admission,
    Amounts,
    Counters,
    CountersAway,
    Hold,
    Part,
    QuotaClaim,
    RateClaim,
    SlotClaim,
    State,
    Truth,
)
from usage.counters.memory import MemoryCounters
from usage.counters.metrics import UNASKED

log = structlog.get_logger("patchbay.admission")

FILLINGS = 5  # how often a counter is filled before its call is told to come again
MAX_PASSED = 100_000  # thresholds remembered as told
MAX_UNCOUNTED = 100_000  # counters of soft quotas to be filled when the store is back
UNSURE_SECONDS = 1.0  # between two looks whether a row was written after all
RECOUNT_SECONDS = 0.5  # between two looks whether the store is back
RECOVERY_SECONDS = 1.0  # how long a call waits for counters that are being filled again
_NEVER = SlotClaim(RateLimit(Scope.PROVIDER, 0, 0, metric=LimitMetric.CONCURRENCY), "slots:never")


@dataclass(slots=True)
class Grant:
    """What one call was granted. It is settled once, whichever way the call ends."""

    admissions: Admissions
    hold: Hold
    states: tuple[State, ...] = ()
    refusal: Problem | None = None
    options: Sequence[Part] = ()
    chosen: int = -1
    away: bool = False  # counted by this process alone, since the store was away
    uncounted: list[QuotaClaim] = field(default_factory=list)  # for the same reason
    settled: bool = False
    _unused: bool = True  # nobody was tried with what was claimed for the chosen candidate
    current: int = 0  # the part of the target that was let in last; 0 where it has none
    _tries: dict[int, int] = field(default_factory=dict)  # an attempt's number → its part

    async def admits(self, place: int) -> bool:
        """Whether the candidate at `place` may be tried, for the first time or again: its
        provider's counters have room for one try more, and are claimed of from now on. False
        also where nobody can tell."""
        if self.away or not self.options:
            return True
        if place < self.chosen:
            return False
        if place == self.chosen and self._unused:
            self._unused = False
            return True
        part = self._further(place)
        self.current = 0
        if part.claims and not await self.admissions.extend(self, part):
            return False
        self.current = len(self.hold.parts) - 1 if part.claims else 0
        return True

    def _further(self, place: int) -> Part:
        """What a try there claims. A slot that the call holds already does for its next try."""
        part = self.options[place]
        held = {
            claim.key
            for other in self.hold.parts
            for claim in other.claims
            if type(claim) is SlotClaim
        }
        claims = [claim for claim in part.claims if claim.key not in held]
        return Part(claims, part.amounts, part.provider)

    def tried(self, number: int, part: int) -> None:
        """The attempt `number` (from 0) was made at the target with that part."""
        if part:
            self._tries[number] = part

    def settle(self, base: Amounts, tries: Sequence[Amounts]) -> None:
        """What the call used in all, and each attempt of it at its provider, in order."""
        if self.settled:
            return
        self.settled = True
        used = [base] + [NOTHING] * (len(self.hold.parts) - 1)
        for number, amounts in enumerate(tries):
            part = self._tries.get(number)
            if part is not None:
                used[part] = used[part].plus(amounts)
        self.admissions.settle(self, used[: len(self.hold.parts)])

    def settle_by_ledger(self, may_come: Callable[[], bool]) -> None:
        """Nobody knows whether the call's row was written: settle with what is there, once it is
        not to come any more and the database can be asked."""
        if not self.settled:
            self.settled = True
            if self.settles:
                self.admissions.settle_by_ledger(self, may_come)

    @property
    def settles(self) -> bool:
        """Whether anything that was granted is to be settled."""
        return self.hold.settles or bool(self.uncounted)

    @property
    def process(self) -> str:
        return self.admissions.process


@dataclass(slots=True)
class Admissions:
    """`process` is this gateway's name among the others."""

    counters: Counters
    truth: Truth
    clock: Clock
    process: str = ""
    alone: MemoryCounters = field(init=False)
    _filling: dict[tuple[str, str], asyncio.Task[bool]] = field(default_factory=dict)
    _aside: set[asyncio.Task[None]] = field(default_factory=set)
    _passed: set[tuple[str, str, int, int]] = field(default_factory=set)
    _uncounted: dict[tuple[str, str], QuotaClaim] = field(default_factory=dict)

    def __post_init__(self) -> None:
        same = isinstance(self.counters, MemoryCounters)
        self.alone = self.counters if same else MemoryCounters(self.clock)  # type: ignore[assignment]
        self.counters.on_use = self._note_use

    async def admit(self, call_id: str, base: Part, options: Sequence[Part]) -> Grant:
        """What is granted; or why nothing is, as the grant's `refusal` (RateLimited,
        QuotaExceeded, InvalidRequest or Unavailable). Raises Unavailable (store_unavailable)."""
        grant = Grant(self, Hold(call_id), options=options)
        waited = False
        for _ in range(FILLINGS):
            try:
                admission = await self.counters.admit(grant.hold, base, options)
                if not admission.missing:
                    return self._granted(grant, admission, base)
                await self._fill(admission.missing)
            except StoreAway:
                raise _store_unavailable(
                    "The ledger cannot be read just now, and a quota's counter has to be filled "
                    "from it. Try again shortly."
                ) from None
            except CountersAway as away:
                if not waited and away.wait and _is_hard(base):
                    waited = True
                    if await self._recovered(away.wait):
                        continue
                return self._alone(grant, base, options, late=away.late)
        raise _store_unavailable("The quota's counters keep changing. Try again shortly.")

    async def extend(self, grant: Grant, part: Part) -> bool:
        try:
            for _ in range(FILLINGS):
                admission = await self.counters.admit(grant.hold, part)
                if not admission.missing:
                    return admission.granted
                await self._fill(admission.missing)
        except (CountersAway, StoreAway):
            grant.uncounted += _quotas(part)
            return not _is_hard(part)
        return False

    async def look(self, part: Part) -> tuple[State, ...]:
        """Which of a part's claims would refuse it now. Nothing is claimed: it is asked for
        together with what nobody can have. Raises CountersAway or StoreAway."""
        asked = Part((*part.claims, _NEVER), part.amounts, part.provider)
        for _ in range(FILLINGS if part.claims else 0):
            admission = await self.counters.admit(Hold(uuid7()), asked)
            if not admission.missing:
                refused = [state for state in admission.states if state.refused]
                return tuple(state for state in refused if state.claim is not _NEVER)
            await self._fill(admission.missing)
        return ()

    async def would_refuse(self, base: Part) -> Problem | None:
        """What the caller would see. Raises as `look`."""
        refused = await self.look(base)
        return self._refusal(refused, base) if refused else None

    def settle(self, grant: Grant, used: Sequence[Amounts]) -> None:
        counters = self.alone if grant.away else self.counters
        counters.settle(grant.hold, used)
        if grant.uncounted and len(self._uncounted) < MAX_UNCOUNTED:
            if not self._uncounted:
                self._do_aside(self._recount())
            self._uncounted |= {(claim.key, claim.counter): claim for claim in grant.uncounted}

    def settle_by_ledger(self, grant: Grant, may_come: Callable[[], bool]) -> None:
        self._do_aside(self._settle_by_ledger(grant, may_come))

    async def _settle_by_ledger(self, grant: Grant, may_come: Callable[[], bool]) -> None:
        while may_come():  # noqa: ASYNC110 - nobody is in a hurry
            await asyncio.sleep(UNSURE_SECONDS)
        while True:
            # What was under way when the writer gave up may still get there.
            await asyncio.sleep(UNSURE_SECONDS)
            try:
                ledger = await self.truth.used([grant.hold.id])
            except StoreAway:
                continue
            used = dict(ledger.get(grant.hold.id, {}))
            # A provider that was tried more than once has several parts: all of it is the first's.
            self.settle(grant, [used.pop(part.provider, NOTHING) for part in grant.hold.parts])
            return

    async def _recount(self) -> None:
        """Once the store is back: fill what calls used of quotas that nobody counted meanwhile."""
        while self._uncounted:
            await asyncio.sleep(RECOUNT_SECONDS)
            for key in list(self._uncounted) if self.counters.ready else ():
                claim, filled = self._uncounted.pop(key), False
                with contextlib.suppress(CountersAway, StoreAway):
                    await self.counters.drop(claim)
                    filled = await self._fill_one(claim)
                if not filled:
                    self._uncounted.setdefault(key, claim)

    def _note_use(self, claim: QuotaClaim, used: int) -> None:
        """Each threshold once a window and limit; a raised limit arms them anew."""
        quota = claim.quota
        for threshold in quota.thresholds:
            if used * 100 < quota.limit * threshold:
                return
            passed = (claim.key, claim.counter, threshold, quota.limit)
            if passed not in self._passed:
                if len(self._passed) >= MAX_PASSED:
                    self._passed.clear()  # the database knows them too
                self._passed.add(passed)
                self._do_aside(self._note_threshold(claim, threshold, used, passed))

    async def _note_threshold(
        self, claim: QuotaClaim, threshold: int, used: int, passed: tuple[str, str, int, int]
    ) -> None:
        try:
            await self.truth.note_threshold(claim, threshold, used)
        except StoreAway:
            self._passed.discard(passed)  # the next call that ends says it again

    def _do_aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Nobody waits for it; it is kept from being collected half-done."""
        task = asyncio.create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    def _granted(self, grant: Grant, admission: Admission, base: Part) -> Grant:
        grant.states, grant.chosen = admission.states, admission.chosen
        grant.current = 1 if admission.chosen >= 0 else 0
        if not admission.granted:
            grant.refusal = self._refusal(admission.states, base)
        return grant

    def _alone(self, grant: Grant, base: Part, options: Sequence[Part], *, late: bool) -> Grant:
        """The store is away: by this process's own counters, as far as that is allowed. They go
        on from what it said last; one that is only late is told of what was let in."""
        if _is_hard(base) or any(map(_is_hard, options)):
            UNASKED.labels("store_unavailable").inc()
            raise _store_unavailable(
                "The counters of a hard quota cannot be read just now. Try again shortly."
            )
        grant.away = True
        grant.hold = Hold(grant.hold.id)
        grant.options = ()
        grant.uncounted = [claim for part in (base, *options) for claim in _quotas(part)]
        for word in self.counters.last_words(base.claims):
            self.alone.go_by(word)
        admission = self.alone.admit_now(grant.hold, _soft(base))
        if late and admission.granted:
            self.counters.count_unheard(base)
        UNASKED.labels("admitted" if admission.granted else "refused").inc()
        return self._granted(grant, admission, base)

    def _refusal(self, states: Sequence[State], base: Part) -> Problem:
        """The caller's own limit that refuses for longest, so that its Retry-After is true for
        all of them; else the provider's that frees first."""
        refused = [state for state in states if state.refused]
        own = [state for state in refused if any(state.claim is claim for claim in base.claims)]
        if not own:
            return Unavailable(
                "Every provider of this route has reached a limit or quota of its own. "
                "Try again later.",
                retry_after=min(map(self._wait, refused)),
            )
        state = max(own, key=self._wait)
        claim, amount = state.claim, state.claim.amount(base.amounts)
        if type(claim) is QuotaClaim:
            return self._quota_exceeded(claim, state.left, amount)
        if type(claim) is SlotClaim:
            return _slots_taken(claim)
        return _rate_limited(claim, state.left, amount, self._wait(state))  # type: ignore[arg-type]

    def _quota_exceeded(self, claim: QuotaClaim, left: int, amount: int) -> Problem:
        quota, ends = claim.quota, claim.period.ends
        resets_at = None if ends is None else rfc3339(utc(ends))
        unit = "µUSD" if quota.metric is Metric.COST else quota.metric.value
        when = f"It resets at {resets_at}." if resets_at else "It does not reset."
        never = ends is None or amount > quota.limit
        return QuotaExceeded(
            f"The quota {quota.name!r} allows {quota.limit} {unit}; {left} are left and this call "
            f"may need {amount}. {when}",
            status=402 if quota.metric is Metric.COST else 429,
            retry_after=None if never else max(1, math.ceil(ends - self.clock.now())),  # type: ignore[operator]
            scope=quota.scope.value,
            metric=quota.metric.value,
            window=quota.window.value,
            limit=quota.limit,
            used=quota.limit - left,
            resets_at=resets_at,
        )

    def _wait(self, state: State) -> int:
        """Whole seconds until it may be admitted."""
        claim = state.claim
        if type(claim) is QuotaClaim:
            if claim.period.ends is None:
                return 86_400
            return max(1, math.ceil(claim.period.ends - self.clock.now()))
        return max(1, math.ceil(state.wait / MICROSECONDS))

    async def _recovered(self, seconds: float) -> bool:
        """Wait a little for counters that are being filled again."""
        until = asyncio.get_running_loop().time() + min(seconds, RECOVERY_SECONDS)
        while asyncio.get_running_loop().time() < until:
            if self.counters.ready:
                return True
            await asyncio.sleep(0.02)
        return self.counters.ready

    async def _fill(self, missing: Sequence[QuotaClaim]) -> None:
        """Fill what is missing, each counter once for all calls that wait for it."""
        tasks = []
        for claim in missing:
            key = (claim.key, claim.counter)
            task = self._filling.get(key)
            if task is None:
                task = self._filling[key] = asyncio.create_task(self._fill_one(claim))
                task.add_done_callback(partial(self._filled, key))
            tasks.append(asyncio.shield(task))
        await asyncio.gather(*tasks)

    def _filled(self, key: tuple[str, str], _: asyncio.Task[bool]) -> None:
        self._filling.pop(key, None)

    async def _fill_one(self, claim: QuotaClaim) -> bool:
        number, holders = await self.counters.begin_filling(claim)
        if number < 0:
            return True
        used, final = await self.truth.sum(claim, holders)
        return await self.counters.fill(claim, number, used, final)


def _is_hard(part: Part) -> bool:
    return any(type(claim) is QuotaClaim and claim.quota.hard for claim in part.claims)


def _quotas(part: Part) -> list[QuotaClaim]:
    return [claim for claim in part.claims if type(claim) is QuotaClaim]


def _soft(part: Part) -> Part:
    """What one process may count alone: all but the quotas."""
    return Part([c for c in part.claims if type(c) is not QuotaClaim], part.amounts, part.provider)


def _store_unavailable(detail: str) -> Unavailable:
    return Unavailable(detail, code="store_unavailable", retry_after=2)


def _rate_limited(claim: RateClaim, left: int, amount: int, wait: int) -> Problem:
    limit = claim.limit
    told: dict[str, Any] = {"policy": limit.name, "reset_seconds": wait}
    if claim.metric is Metric.REQUESTS:
        return RateLimited(
            f"The limit {limit.name!r} allows {limit.limit} calls in any {limit.per_seconds} "
            f"seconds. Wait {wait} seconds.",
            retry_after=wait,
            **told,
        )
    span = f"in any {limit.per_seconds} seconds"
    allows = f"The limit {limit.name!r} allows {limit.limit} tokens {span}"
    if amount > limit.limit:
        return InvalidRequest(
            f"{allows}, and this call may need {amount}. Ask for less output, or send less.",
            status=422,
            **told,
        )
    return RateLimited(
        f"{allows}; {left} are left and this call may need {amount}. Wait {wait} seconds.",
        retry_after=wait,
        **told,
    )


def _slots_taken(claim: SlotClaim) -> RateLimited:
    limit = claim.limit
    return RateLimited(
        f"The limit {limit.name!r} allows {limit.limit} calls at the same time. "
        "Wait until one of yours has ended.",
        retry_after=1,
        policy=limit.name,
        reset_seconds=1,
    )
