"""Which calls a page shows: live ones, or those of test keys."""

from __future__ import annotations

import datetime as dt

from django.utils import timezone

from portal.page import Visit
from tenants.keys import Mode
from tenants.models import Tenant
from usage.refusal_models import Refusal
from usage.rollup_models import UsageDay, UsageDelta

LATELY = dt.timedelta(days=30)


def mode_of(visit: Visit) -> Mode:
    """As asked for; whatever else was asked is live."""
    asked = visit.request.GET.get("mode") or unasked(visit.tenant)
    return Mode.TEST if asked == Mode.TEST else Mode.LIVE


def unasked(tenant: Tenant) -> Mode:
    """Live; but test where only test calls were made lately, as by who just begins."""
    since = timezone.now() - LATELY
    days, waiting, refused = (
        table.objects.filter(tenant_id=tenant.pk, starts__gt=since).values_list("mode", flat=True)
        for table in (UsageDay, UsageDelta, Refusal)
    )
    return Mode.TEST if set(days.union(waiting, refused)) == {Mode.TEST.value} else Mode.LIVE
