"""Closes what crashed processes left open: each open call whose time is over gets its final
row from the estimate it was opened with, flagged `crashed`."""

from __future__ import annotations

import datetime as dt

import structlog
from django.db import IntegrityError, transaction

from usage.models import OpenCall, UsageRecord
from usage.record import Record

log = structlog.get_logger("patchbay.reaper")


def reap(*, opened_before: dt.datetime | None = None) -> int:
    """How many calls it closed (blocking).

    Normally those past their expiry. An embedded gateway, being the only one, passes its own
    start: whatever was opened before has no process any more.
    """
    if opened_before is not None:
        orphans = OpenCall.objects.filter(opened_at__lt=opened_before)
    else:
        orphans = OpenCall.objects.filter(expires_at__lt=dt.datetime.now(dt.UTC))
    closed = sum(_close(orphan) for orphan in orphans.order_by("opened_at")[:10_000])
    if closed:
        log.warning("calls_reaped", calls=closed)
    return closed


def _close(orphan: OpenCall) -> bool:
    record = Record.from_document(orphan.record)
    values = {name: getattr(record, name) for name in Record.__slots__}
    with transaction.atomic():
        try:
            with transaction.atomic():
                UsageRecord.objects.create(**values | {"estimate": UsageRecord.Estimate.CRASHED})
            created = True
        except IntegrityError:
            created = False  # its own process came to the end after all
        orphan.delete()
    return created
