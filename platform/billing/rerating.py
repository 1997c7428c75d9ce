"""Rates ledger rows again: to show that an old bill can be reproduced to the digit, or to
correct what was charged at a price that turned out not to be the one in force.

Rows pass by in pages of constant size, by primary key, so a period may have any number.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from django.db import transaction
from django.db.models import Sum

from billing.book import PriceBook, PriceVersion
from billing.models import Correction, Price
from lib.money import marked_up
from providers.call import Usage, Verdict
from providers.prices import Prices
from usage.models import Attempt, UsageRecord

PAGE = 2000
SHOWN = 10  # ids of differing rows that are told

Progress = Callable[[int], None]
Told = Mapping[str, tuple[int, int]]  # request id: charge and cost
Together = Mapping[str, Sequence[Attempt]]  # request id: those that answered


@dataclass(frozen=True, slots=True)
class Period:
    """Rows created from `start` on and before `end`, of one tenant or of all."""

    start: dt.datetime
    end: dt.datetime
    tenant_id: int | None = None


@dataclass(slots=True)
class Report:
    """Sums of charges in µUSD: as they were, and as they come out now."""

    rows: int = 0
    charged: int = 0
    recomputed: int = 0
    differing: int = 0
    first: list[str] = field(default_factory=list)

    @property
    def difference(self) -> int:
        return self.recomputed - self.charged

    def note(self, row: UsageRecord, charged: int, recomputed: int) -> None:
        self.rows += 1
        self.charged += charged
        self.recomputed += recomputed
        if charged != recomputed:
            self.differing += 1
            if len(self.first) < SHOWN:
                self.first.append(row.request_id)


def reproduce(period: Period, progress: Progress = lambda _: None) -> Report:
    """Every row again, from its own usage, price version and markup. Changes nothing."""
    own, report = _own_prices(), Report()
    for page in _pages(period):
        together = _together(page)
        for row in page:
            report.note(row, row.charge, marked_up(_cost(row, own, together), row.markup))
        progress(report.rows)
    return report


def correct(period: Period, book: PriceBook, progress: Progress = lambda _: None) -> Report:
    """Rate every row with the version that `book` has for its moment, and write what is to be
    added as corrections. Done again, it adds nothing."""
    own, report = _own_prices(), Report()
    for page in _pages(period):
        with transaction.atomic():
            _correct_page(page, book, own, report)
        progress(report.rows)
    return report


def usage_of(row: UsageRecord) -> Usage:
    return Usage(
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cached_tokens=row.cached_tokens,
        cache_write_tokens=row.cache_write_tokens,
        reasoning_tokens=row.reasoning_tokens,
        units=row.units,
    )


def _correct_page(
    page: Sequence[UsageRecord], book: PriceBook, own: Mapping[int, Prices], report: Report
) -> None:
    earlier, together = _corrected([row.request_id for row in page]), _together(page)
    made = []
    for row in page:
        added, added_cost = earlier.get(row.request_id, (0, 0))
        charged, cost = row.charge + added, _cost(row, own, together) + added_cost
        if not _is_rated(row):
            report.note(row, charged, charged)
            continue
        version, right = _right(row, book, together)
        charge = marked_up(right, row.markup)
        report.note(row, charged, charge)
        if (charge, right) != (charged, cost):
            made.append(_correction(row, version, charge=charge - charged, cost=right - cost))
    # Another run at the same time may have made the same ones.
    Correction.objects.bulk_create(made, ignore_conflicts=True)


def _together(page: Sequence[UsageRecord]) -> Together:
    """Of calls that several providers answered, whose rows name no price: each one's attempt."""
    asked = [row.request_id for row in page if row.price_id is None and row.attempts > 1]
    found: dict[str, list[Attempt]] = {}
    if asked:
        for attempt in Attempt.objects.filter(request_id__in=asked, verdict=Verdict.OK):
            found.setdefault(attempt.request_id, []).append(attempt)
    return {request_id: answered for request_id, answered in found.items() if len(answered) > 1}


def _right(row: UsageRecord, book: PriceBook, together: Together) -> tuple[PriceVersion, int]:
    """What a row should have cost, and by which version: of several providers' the newest."""
    at, answered = row.created_at.timestamp(), together.get(row.request_id)
    if answered is None:
        version = book.price(row.provider, row.model, row.operation, at)
        return version, version.prices.cost(usage_of(row))
    each = [(book.price(a.provider, a.model, row.operation, at), a) for a in answered]
    right = sum(version.prices.cost(Usage(units=a.units)) for version, a in each)
    return max((version for version, _ in each), key=lambda version: version.id or 0), right


def _is_rated(row: UsageRecord) -> bool:
    """Test mode is free, and so is what no provider answered."""
    return row.mode != "test" and bool(row.provider) and row.cache in ("", "warm")


def _correction(row: UsageRecord, version: PriceVersion, *, charge: int, cost: int) -> Correction:
    return Correction(
        request_id=row.request_id,
        reason=f"price {version.id}",
        tenant_id=row.tenant_id,
        charge=charge,
        cost=cost,
        price_id=version.id,
    )


def _own_prices() -> dict[int, Prices]:
    return {price.pk: price.prices for price in Price.objects.iterator(chunk_size=PAGE)}


def _cost(row: UsageRecord, own: Mapping[int, Prices], together: Together) -> int:
    """At the version that the row names. None was known for a row that names none, unless several
    answered: then it is the sum of what their attempts say."""
    if row.request_id in together:
        return sum(attempt.cost for attempt in together[row.request_id])
    prices = None if row.price_id is None else own.get(row.price_id)
    return 0 if prices is None else prices.cost(usage_of(row))


def _corrected(request_ids: Sequence[str]) -> Told:
    rows = Correction.objects.filter(request_id__in=request_ids).values("request_id")
    sums = rows.annotate(charged=Sum("charge"), costs=Sum("cost")).order_by()
    return {row["request_id"]: (row["charged"], row["costs"]) for row in sums}


def _pages(period: Period) -> Iterator[Sequence[UsageRecord]]:
    rows = UsageRecord.objects.between(period.start, period.end)
    if period.tenant_id is not None:
        rows = rows.of_tenant(period.tenant_id)
    rows, last = rows.order_by("request_id"), ""
    while page := list(rows.filter(request_id__gt=last)[:PAGE]):
        yield page
        last = page[-1].request_id
