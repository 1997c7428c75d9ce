"""Closes what crashed processes left open: each open call whose time is over gets its final
row from the estimate it was opened with, flagged `crashed`."""

from __future__ import annotations

import datetime as dt

import structlog
from django.db import DataError, IntegrityError, transaction

from usage import rollups
from usage.models import OpenCall, UsageRecord
from usage.record import RECORD_COLUMNS, Record

log = structlog.get_logger("patchbay.reaper")


def reap(*, opened_before: dt.datetime | None = None, gateway: str = "") -> int:
    """How many calls it closed (blocking).

    Normally those past their expiry. An embedded gateway, being the only one, passes its own
    start: whatever was opened before has no process any more. `gateway` is one that is dead.
    """
    if gateway:
        orphans = OpenCall.objects.filter(gateway=gateway)
    elif opened_before is not None:
        orphans = OpenCall.objects.filter(opened_at__lt=opened_before)
    else:
        orphans = OpenCall.objects.filter(expires_at__lt=dt.datetime.now(dt.UTC))
    closed = sum(_close(orphan) for orphan in orphans.order_by("opened_at")[:10_000])
    if closed:
        log.warning("calls_reaped", calls=closed)
    return closed


def _close(orphan: OpenCall) -> bool:
    """Whether it wrote the final row: not when the call's own process came to the end after
    all. A row that cannot be written stays, for people to look at, and stops no other."""
    try:
        with transaction.atomic():
            created = _write_final(Record.from_document(orphan.record))
            orphan.delete()
    except (KeyError, TypeError, ValueError, OverflowError, DataError, IntegrityError) as error:
        log.error("open_call_unwritable", request_id=orphan.request_id, error=type(error).__name__)
        return False
    return created


def _write_final(record: Record) -> bool:
    values = {name: getattr(record, name) for name in RECORD_COLUMNS}
    values["estimate"] = UsageRecord.Estimate.CRASHED
    _, created = UsageRecord.objects.get_or_create(request_id=record.request_id, defaults=values)
    if created:
        rollups.add(record.request_id)
    return created
