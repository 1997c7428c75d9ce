"""How long a quota lasts if things go on as they did in its window so far."""

from __future__ import annotations

from tenants.windows import Period

DAY = 86_400
KNOWN = 0.05  # of a window must have passed before its pace says anything


def days_left(period: Period, limit: int, used: int, now: float) -> float | None:
    """In how many days it is used up; 0 when it is. None where it lasts until it begins anew,
    or where nothing is known: nothing used, a window that just began or has no end."""
    if used >= limit:
        return 0.0
    if period.ends is None or used <= 0:
        return None
    passed = now - period.starts
    if passed < KNOWN * (period.ends - period.starts):
        return None
    needed = passed * (limit - used) / used
    return round(needed / DAY, 2) if now + needed < period.ends else None
