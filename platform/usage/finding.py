"""How far back a tenant's newest calls of some kind go: the roll-ups tell, so that the ledger is
not looked through for calls that are not there."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db.models import Min, Sum
from django.utils import timezone

from usage.models import SKEW
from usage.rollup_models import UsageDelta, UsageHour

HOUR = dt.timedelta(hours=1)


def begin_of_newest(
    most: int,
    *,
    tenant_id: int,
    since: dt.datetime,
    before: dt.datetime | None = None,
    errors: bool = False,
    **kind: Any,
) -> dt.datetime:
    """A moment from which on at least so many calls of the kind began, or all since `since`.

    `kind` is columns of the roll-ups and their values; `errors` is for those that failed.
    `before`: only those are wanted whose id was made before."""
    counted = "errors" if errors else "calls"
    rows = UsageHour.objects.filter(tenant_id=tenant_id, starts__gt=since - HOUR, **kind)
    if before is not None:
        rows = rows.filter(starts__lt=before - SKEW - HOUR)
    by_hour = rows.filter(**{f"{counted}__gt": 0}).values("starts").annotate(found=Sum(counted))
    begin = _summed_until(tenant_id)  # asked first: what is folded meanwhile is seen below
    if before is not None:
        begin = min(begin, before - SKEW - HOUR)
    for starts, number in by_hour.order_by("-starts").values_list("starts", "found"):
        begin, most = min(begin, starts), most - number
        if most <= 0:
            break
    return max(since, begin)


def _summed_until(tenant_id: int) -> dt.datetime:
    """All calls that began before are in the roll-ups."""
    waiting = UsageDelta.objects.filter(tenant_id=tenant_id).aggregate(oldest=Min("starts"))
    return waiting["oldest"] or timezone.now()
