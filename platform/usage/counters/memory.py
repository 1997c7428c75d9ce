"""The counters in this process: the embedded default, and the stand-in while the store is away.

A rate limit's span is cut into SLICES. A call is admitted when the slices that the span can
touch hold less than the limit: that counts at most one slice too many, so the bound is never
passed and 64 of 65 parts of it are usable, in memory that does not grow with the traffic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Sequence

from lib.clock import Clock, SystemClock
from usage.counters.claims import (
    MICROSECONDS,
    SLICES,
    Admission,
    Amounts,
    Claim,
    Hold,
    LastWord,
    OnUse,
    Part,
    QuotaClaim,
    RateClaim,
    SlotClaim,
    State,
    Used,
    nobody_listens,
)

AGED_AT_ONCE = 3  # counters looked at by a call after one that made new ones; else it is one
KEEP_PAST = 3 * 86_400 * MICROSECONDS  # a clock may be set back by days


class Window:
    """One subject's count under one limit: [slice, amount] pairs, oldest first."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts: deque[list[int]] = deque()
        self.total = 0

    def forget(self, width: int, now: int) -> int:
        """Drop what no span that ends now can touch; the total of the rest."""
        oldest = now // width - SLICES
        counts = self.counts
        while counts and counts[0][0] < oldest:
            self.total -= counts.popleft()[1]
        return self.total

    def add(self, width: int, now: int, amount: int) -> None:
        current = now // width
        if self.counts and self.counts[-1][0] >= current:
            self.counts[-1][1] += amount
        else:
            self.counts.append([current, amount])
        self.total += amount

    def correct(self, width: int, moment: int, by: int) -> None:
        """Change what was added at `moment`, unless that is past already."""
        slice_ = moment // width
        for pair in self.counts:
            if pair[0] == slice_:
                pair[1] += by
                self.total += by
                return

    def wait(self, claim: RateClaim, now: int, amount: int) -> int:
        """µs until `amount` has room; the whole span for what never has."""
        over = self.total + amount - claim.limit.limit
        for slice_, count in self.counts:
            over -= count
            if over <= 0:
                return (slice_ + SLICES + 1) * claim.width - now
        return (SLICES + 1) * claim.width

    def whole(self, width: int, now: int) -> int:
        """µs until all of the allowance is there again."""
        return (self.counts[-1][0] + SLICES + 1) * width - now if self.counts else 0


class Cell:
    """A quota's counter in one window. `used` is None until it is known; `stamp` is the `since`
    by which it is, -1 where it must be filled anew."""

    __slots__ = ("changes", "ends", "reserved", "stamp", "used")

    def __init__(self, ends: float | None) -> None:
        self.used: int | None = None
        self.reserved = 0
        self.stamp = 0
        self.changes = 0
        self.ends = ends


class MemoryCounters:
    def __init__(self, clock: Clock | None = None) -> None:
        self.on_use: OnUse = nobody_listens
        self._clock = clock or SystemClock()
        self._started = round(self._clock.now() * MICROSECONDS)
        self._windows: dict[str, Window] = {}
        self._cells: dict[tuple[str, str], Cell] = {}
        self._slots: dict[str, int] = {}
        self._holds: dict[str, Hold] = {}
        self._counted: dict[str, set[tuple[str, str]]] = {}
        self._aging: deque[RateClaim | QuotaClaim] = deque()
        self._looks = 1

    ready = True

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def admit(self, hold: Hold, base: Part, options: Sequence[Part] = ()) -> Admission:
        return self.admit_now(hold, base, options)

    def admit_now(self, hold: Hold, base: Part, options: Sequence[Part] = ()) -> Admission:
        now = round(self._clock.monotonic() * MICROSECONDS)
        self._age(now)
        states: list[State] = []
        missing: list[QuotaClaim] = []
        fits = self._fits(base, now, states, missing)
        chosen = -1
        if fits and options:
            fits = False
            for number, option in enumerate(options):
                if self._fits(option, now, states, missing):
                    fits, chosen = True, number
                    break
                if missing:
                    break
        if missing or not fits:
            return Admission(False, tuple(states), -1, tuple(missing))
        hold.moment = hold.moment or now
        self._take(hold, base, now)
        if chosen >= 0:
            self._take(hold, options[chosen], now)
        return Admission(True, tuple(states), chosen)

    def last_words(self, claims: Sequence[Claim]) -> Iterable[LastWord]:
        return ()

    def count_unheard(self, part: Part) -> None: ...

    def go_by(self, word: LastWord) -> None:
        """Count on from there, whatever was counted here of that rate limit before."""
        claim, window = word.claim, Window()
        moment = round((self._clock.monotonic() - word.age) * MICROSECONDS)
        window.add(claim.width, moment, max(0, claim.limit.limit - word.left))
        if claim.key not in self._windows:
            self._aging.append(claim)
        self._windows[claim.key] = window

    def settle(self, hold: Hold, used: Sequence[Amounts]) -> None:
        if hold.settles and self._holds.pop(hold.id, None) is None:
            return
        counted = self._counted.pop(hold.id, ())
        for part, actual in zip(hold.parts, used, strict=True):
            reserved = part.amounts
            for claim in part.claims:
                if isinstance(claim, QuotaClaim):
                    self._settle_quota(claim, reserved, actual, counted)
                elif claim.settles:
                    self._settle(hold, claim, claim.amount(actual) - claim.amount(reserved))

    async def begin_filling(self, claim: QuotaClaim) -> tuple[int, Sequence[str]]:
        cell = self._cell(claim)
        if not self._missing(cell, claim):
            return -1, ()
        cell.used, cell.stamp = cell.used or 0, -1
        holders = [
            hold.id
            for hold in self._holds.values()
            if any(_same(own, claim) for part in hold.parts for own in part.claims)
        ]
        return cell.changes, holders

    async def fill(self, claim: QuotaClaim, number: int, used: int, final: Sequence[str]) -> bool:
        cell = self._cell(claim)
        if cell.changes != number:
            return False
        cell.used, cell.stamp = used, claim.since
        cell.changes += 1
        for name in final:
            if name in self._holds:
                self._count(self._holds[name], claim, cell)
        return True

    async def drop(self, claim: QuotaClaim) -> None:
        cell = self._cell(claim)
        cell.used, cell.stamp = cell.used or 0, -1
        cell.changes += 1

    def _count(self, hold: Hold, claim: QuotaClaim, cell: Cell) -> None:
        """What it used is in the counter: nothing of it is reserved any more."""
        counted = self._counted.setdefault(hold.id, set())
        if claim.cell in counted:
            return
        counted.add(claim.cell)
        for part in hold.parts:
            for own in part.claims:
                if _same(own, claim):
                    cell.reserved -= own.amount(part.amounts)

    async def read(self, claims: Sequence[QuotaClaim]) -> list[Used | None]:
        return [self._read(claim) for claim in claims]

    def _read(self, claim: QuotaClaim) -> Used | None:
        cell = self._cell(claim)
        return None if self._missing(cell, claim) else Used(cell.used or 0, cell.reserved)

    def _fits(self, part: Part, now: int, states: list[State], missing: list[QuotaClaim]) -> bool:
        """Whether all of a part has room. Looks at every claim, so that all states are told."""
        fits, amounts = True, part.amounts
        for claim in part.claims:
            if type(claim) is RateClaim:
                amount = amounts[claim.place]
                window = self._windows.get(claim.key) or self._window(claim)
                counts = window.counts
                if counts and counts[0][0] < now // claim.width - SLICES:
                    window.forget(claim.width, now)
                left = claim.limit.limit - window.total - amount
                if left < 0:
                    fits = False
                    wait = window.wait(claim, now, amount)
                    states.append(State(claim, max(0, left + amount), wait, True))
                else:
                    wait = (SLICES + 1) * claim.width - now % claim.width
                    states.append(State(claim, left, wait))
            elif type(claim) is QuotaClaim:
                cell = self._cells.get(claim.cell) or self._cell(claim)
                if (cell.used is None or cell.stamp < claim.since) and self._missing(cell, claim):
                    missing.append(claim)
                    continue
                amount = amounts[claim.place] * claim.weight
                left = claim.quota.limit - (cell.used or 0) - cell.reserved - amount
                refused = left < 0 and claim.quota.hard
                fits = fits and not refused
                left = left + amount if refused else left
                states.append(State(claim, max(0, left), 0, refused))
            elif type(claim) is SlotClaim:
                left = claim.limit.limit - self._slots.get(claim.key, 0) - 1
                fits = fits and left >= 0
                states.append(State(claim, max(0, left), 0, left < 0))
        return fits

    def _take(self, hold: Hold, part: Part, now: int) -> None:
        hold.take(part)
        amounts = part.amounts
        for claim in part.claims:
            if type(claim) is RateClaim:
                self._windows[claim.key].add(claim.width, now, amounts[claim.place])
            elif type(claim) is QuotaClaim:
                self._cells[claim.cell].reserved += amounts[claim.place] * claim.weight
            else:
                self._slots[claim.key] = self._slots.get(claim.key, 0) + 1
        if hold.settles:
            self._holds[hold.id] = hold

    def _settle_quota(
        self,
        claim: QuotaClaim,
        reserved: Amounts,
        actual: Amounts,
        counted: Container[tuple[str, str]],
    ) -> None:
        cell = self._cells[claim.cell]
        cell.changes += 1
        if claim.cell in counted:
            return
        cell.reserved -= claim.amount(reserved)
        if cell.used is not None:
            cell.used += claim.amount(actual)
            self.on_use(claim, cell.used)

    def _settle(self, hold: Hold, claim: RateClaim | SlotClaim, more: int) -> None:
        """`more` than was reserved has been used, or less where it is negative."""
        if type(claim) is RateClaim:
            window = self._windows.get(claim.key)
            if window is not None:
                window.correct(claim.width, hold.moment, more)
        else:
            left = self._slots[claim.key] - 1
            if left:
                self._slots[claim.key] = left
            else:
                del self._slots[claim.key]

    def _window(self, claim: RateClaim) -> Window:
        window = self._windows[claim.key] = Window()
        self._aging.append(claim)
        self._looks = AGED_AT_ONCE
        return window

    def _cell(self, claim: QuotaClaim) -> Cell:
        cell = self._cells.get(claim.cell)
        if cell is None:
            cell = self._cells[claim.cell] = Cell(claim.period.ends)
            self._aging.append(claim)
            self._looks = AGED_AT_ONCE
        return cell

    def _missing(self, cell: Cell, claim: QuotaClaim) -> bool:
        """Whether the counter must be filled from the ledger first. One whose window began
        while we counted by this very quota starts at nothing."""
        if cell.used is None and claim.fresh and claim.begins >= self._started:
            cell.used, cell.stamp = 0, claim.since
        return cell.used is None or cell.stamp < claim.since

    def _age(self, now: int) -> None:
        """Drop counters that say nothing any more, a few at a time: no call pays for many, and
        one that makes new ones looks at more."""
        looks, self._looks = self._looks, 1
        for _ in range(min(looks, len(self._aging))):
            claim = self._aging.popleft()
            if type(claim) is RateClaim:
                window = self._windows[claim.key]
                if window.forget(claim.width, now) or window.counts:
                    self._aging.append(claim)
                else:
                    del self._windows[claim.key]
            elif type(claim) is QuotaClaim:
                cell = self._cells[claim.cell]
                past = int(self._clock.now() * MICROSECONDS) - KEEP_PAST
                if cell.reserved or cell.ends is None or cell.ends * MICROSECONDS > past:
                    self._aging.append(claim)
                else:
                    del self._cells[claim.cell]


def _same(one: object, other: QuotaClaim) -> bool:
    return isinstance(one, QuotaClaim) and one.cell == other.cell
