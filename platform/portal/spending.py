"""What the month costs so far, and will have cost at its end."""

from __future__ import annotations

import time
from dataclasses import dataclass

from lib.money import to_usd
from tenants.models import Tenant
from tenants.windows import Window, period
from usage.summaries import summarize

WEEK = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Forecast:
    """In µUSD. `at_end` goes on as the last seven days did; None before an hour has passed."""

    so_far: int
    at_end: int | None

    @property
    def so_far_usd(self) -> str:
        return to_usd(self.so_far)

    @property
    def at_end_usd(self) -> str:
        return "" if self.at_end is None else to_usd(self.at_end)


def forecast(tenant: Tenant, mode: str = "live") -> Forecast:
    """Of the tenant's own month."""
    now = time.time() // 60 * 60
    month = period(Window.MONTH, now, tenant.time_zone)
    lately = max(now - WEEK, tenant.created_at.timestamp() // 60 * 60)
    begins = sorted({month.starts, lately})
    rows = summarize([*begins, now + 60], [], mode=mode, tenant_id=tenant.pk, most=len(begins))
    so_far, recent = (
        sum(row["charge"] for row in rows if begins[row["period"]] >= since)
        for since in (month.starts, lately)
    )
    known = min(WEEK, now - tenant.created_at.timestamp())
    if known < 3600 or month.ends is None:
        return Forecast(so_far, None)
    return Forecast(so_far, so_far + round(recent / known * (month.ends - now)))
