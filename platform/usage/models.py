"""The ledger: what was used, by whom, from whom, at what price. Rows are never changed."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import models
from django.utils import timezone

import usage.feedback_models
import usage.refusal_models
import usage.rollup_models  # noqa: F401 - Django looks for models here
from lib.ids import first_uuid7

SKEW = dt.timedelta(hours=1)  # more than a row's moment and that in its id can be apart


class AppendOnly(Exception):
    """Someone tried to change or delete a ledger row. Corrections are new rows."""


class UsageRecordQuerySet(models.QuerySet["UsageRecord"]):
    def of_tenant(self, tenant_id: int) -> UsageRecordQuerySet:
        return self.filter(tenant_id=tenant_id)

    def between(self, begin: dt.datetime, end: dt.datetime) -> UsageRecordQuerySet:
        """Created from `begin` on and before `end`, and looked for among the ids of that time
        only: in few partitions, by the key."""
        first, last = ((begin - SKEW).timestamp(), (end + SKEW).timestamp())
        return self.filter(
            created_at__gte=begin,
            created_at__lt=end,
            request_id__gte=first_uuid7(first),
            request_id__lt=first_uuid7(last),
        )

    def update(self, **kwargs: Any) -> int:
        raise AppendOnly

    def delete(self) -> tuple[int, dict[str, int]]:
        raise AppendOnly

    def bulk_create(self, *args: Any, **kwargs: Any) -> list[UsageRecord]:
        if kwargs.get("update_conflicts"):
            raise AppendOnly
        return super().bulk_create(*args, **kwargs)


class UsageRecord(models.Model):
    """One call, final. `request_id` is unique for ever: a call is never billed twice. It is a
    UUIDv7, so its order is time's.

    Amounts are whole µUSD: `charge` is what the tenant pays, `cost` what the providers take,
    all attempts included. Ids are plain numbers, not foreign keys: a record outlives what it
    names, and the writer (usage/ledger.py) does not pay for look-ups.
    """

    class Estimate(models.TextChoices):
        """Why the usage is our estimate and not the provider's count."""

        NONE = ""
        NOT_TOLD = "not_told"
        CUT = "cut"
        HUNG_UP = "hung_up"
        CRASHED = "crashed"

    request_id = models.CharField(max_length=36, primary_key=True)
    created_at = models.DateTimeField()
    tenant_id = models.BigIntegerField()
    project_id = models.BigIntegerField(null=True)
    key_id = models.BigIntegerField(null=True)
    user_id = models.BigIntegerField(null=True)
    mode = models.CharField(max_length=4)
    operation = models.CharField(max_length=64)
    route = models.CharField(max_length=200)
    provider = models.CharField(max_length=63)
    model = models.CharField(max_length=200)
    status = models.PositiveSmallIntegerField()
    code = models.CharField(max_length=32)
    streamed = models.BooleanField()
    estimate = models.CharField(max_length=12, choices=Estimate)
    attempts = models.PositiveSmallIntegerField()
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField()
    units = models.BigIntegerField()
    bytes = models.BigIntegerField(default=0, help_text="of the request: its body and query")
    charge = models.BigIntegerField(help_text="µUSD, what the tenant pays")
    cost = models.BigIntegerField(help_text="µUSD, what the providers take")
    price_id = models.BigIntegerField(null=True, help_text="the price version of charge and cost")
    markup = models.IntegerField(default=0, help_text="the plan's, in hundredths of a per cent")
    cache = models.CharField(max_length=8, default="", help_text="hit or stale, if one served it")
    latency_ms = models.PositiveIntegerField()
    headers = models.TextField(  # noqa: DJ001 - null, so that an old ledger gets it at once
        null=True, help_text="of the request: which client it was, and what it wanted"
    )

    objects = UsageRecordQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["tenant_id", "created_at"], name="usage_by_tenant"),
        ]

    def __str__(self) -> str:
        return self.request_id

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnly
        # Otherwise a new row with the id of an old one would overwrite that.
        super().save(*args, **kwargs | {"force_insert": True})

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise AppendOnly

    def tries(self) -> list[Attempt]:
        """The call's attempts in order. One that answered at once has no row of its own: this
        row tells it all (usage/reservation.py)."""
        rows = list(Attempt.objects.filter(request_id=self.request_id).order_by("number"))
        if rows or self.attempts != 1:
            return rows
        return [
            Attempt(
                request_id=self.request_id,
                number=1,
                created_at=self.created_at,
                provider=self.provider,
                model=self.model,
                verdict="ok",
                status=200,
                latency_ms=self.latency_ms,
                cost=self.cost,
            )
        ]


class Attempt(models.Model):
    """One try at one target within a call, with what the provider takes for it (µUSD)."""

    request_id = models.CharField(max_length=36)
    number = models.PositiveSmallIntegerField()
    created_at = models.DateTimeField()
    provider = models.CharField(max_length=63)
    model = models.CharField(max_length=200)
    verdict = models.CharField(max_length=24)
    status = models.PositiveSmallIntegerField()
    latency_ms = models.PositiveIntegerField()
    tokens = models.BigIntegerField(default=0)
    units = models.BigIntegerField(default=0)
    cost = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["request_id", "number"], name="attempt_number")
        ]

    def __str__(self) -> str:
        return f"{self.request_id} #{self.number}"


class OpenCall(models.Model):
    """A call whose answer has begun and whose final record is not written yet.

    Committed before the first byte of a stream leaves; taken away in the transaction that
    writes the final record. What a crash leaves behind becomes an estimated record.
    """

    request_id = models.CharField(max_length=36, primary_key=True)
    opened_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    gateway = models.CharField(max_length=36, default="", help_text="the process that serves it")
    record = models.JSONField(help_text="The record to write if nobody comes back")

    def __str__(self) -> str:
        return self.request_id


class IdempotentCall(models.Model):
    """The first call with an Idempotency-Key, and its answer once that is whole: what the same
    call is answered with when it is sent again. It is one tenant's and one mode's."""

    class State(models.TextChoices):
        RUNNING = "running"  # or its process died: nobody knows after `running_until`
        ANSWERED = "answered"
        LOST = "lost"  # broken off, or too large to keep: never to be done again

    tenant_id = models.BigIntegerField()
    mode = models.CharField(max_length=4)
    key = models.CharField(max_length=64, help_text="SHA-256 of what the client sent")
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of what was asked")
    request_id = models.CharField(max_length=36)
    state = models.CharField(max_length=8, choices=State, default=State.RUNNING)
    running_until = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    status = models.PositiveSmallIntegerField(default=0)
    headers = models.JSONField(default=list)
    body = models.BinaryField(default=b"")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant_id", "mode", "key"], name="idempotency_key")
        ]

    def __str__(self) -> str:
        return self.request_id


class Process(models.Model):
    """A gateway that shares its counters with others, and when it was last seen alive."""

    name = models.CharField(max_length=36, primary_key=True)
    seen_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.name


class QuotaAlert(models.Model):
    """A quota's window has used so many per cent of its limit. Once a window, threshold and
    limit: a raised limit arms the thresholds anew."""

    counter = models.CharField(max_length=300)
    threshold = models.PositiveSmallIntegerField(help_text="per cent")
    limit = models.BigIntegerField()
    used = models.BigIntegerField()
    quota = models.CharField(max_length=60, help_text="such as tenant-requests-day")
    tenant_id = models.BigIntegerField(null=True)
    mode = models.CharField(max_length=4, default="live")
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["counter", "threshold", "limit"], name="quota_alert")
        ]

    def __str__(self) -> str:
        return f"{self.quota} {self.threshold} %"


class DatabaseSize(models.Model):
    """How large the database was at a moment, and how much the disk had left."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    database_bytes = models.BigIntegerField()
    disk_free_bytes = models.BigIntegerField()

    class Meta:
        ordering = ["at"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.database_bytes}"
