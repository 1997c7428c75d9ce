"""Sums of the ledger by minute, hour and day. They can be made again from it at any time.

A delta is what one commit adds; `fold` (usage/rollups.py) adds deltas to the roll-ups and
takes them away. Roll-ups and deltas together therefore always tell the whole ledger.
"""

from __future__ import annotations

from django.db import models


class Sums(models.Model):
    """What every sum has: when its minute, hour or day starts (UTC), and how long things took.
    Each `le_` counts what took up to so many ms and more than the one before."""

    starts = models.DateTimeField()
    latency_ms = models.BigIntegerField()
    le_25 = models.BigIntegerField()
    le_50 = models.BigIntegerField()
    le_100 = models.BigIntegerField()
    le_250 = models.BigIntegerField()
    le_500 = models.BigIntegerField()
    le_1000 = models.BigIntegerField()
    le_2500 = models.BigIntegerField()
    le_5000 = models.BigIntegerField()
    le_10000 = models.BigIntegerField()
    le_30000 = models.BigIntegerField()
    more = models.BigIntegerField()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.starts:%Y-%m-%d %H:%M}"


class Calls(Sums):
    """Calls as the tenants see them. An id of 0 is none; a call is an error unless its code is
    ok, and a hit where a cache served it. Money is µUSD."""

    tenant_id = models.BigIntegerField()
    project_id = models.BigIntegerField()
    key_id = models.BigIntegerField()
    user_id = models.BigIntegerField()
    mode = models.CharField(max_length=4)
    operation = models.CharField(max_length=64)
    route = models.CharField(max_length=200)
    provider = models.CharField(max_length=63)
    model = models.CharField(max_length=200)
    calls = models.BigIntegerField()
    errors = models.BigIntegerField()
    hits = models.BigIntegerField()
    estimated = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    units = models.BigIntegerField()
    bytes = models.BigIntegerField()
    charge = models.BigIntegerField()
    cost = models.BigIntegerField()

    class Meta:
        abstract = True


class Attempts(Sums):
    """Tries at the providers, filed under the minute in which their call began. A failure is
    every verdict but ok, empty and not_found. Money is µUSD."""

    provider = models.CharField(max_length=63)
    model = models.CharField(max_length=200)
    operation = models.CharField(max_length=64)
    mode = models.CharField(max_length=4)
    verdict = models.CharField(max_length=24)
    attempts = models.BigIntegerField()
    failures = models.BigIntegerField()
    tokens = models.BigIntegerField()
    units = models.BigIntegerField()
    cost = models.BigIntegerField()

    class Meta:
        abstract = True


class UsageDelta(Calls):
    """`single` where each of the calls was one attempt that answered, so that these sums are
    those of its attempts too and no attempt delta tells them again."""

    single = models.BooleanField()


class AttemptDelta(Attempts):
    """The attempts of calls that took several, or none that answered."""


class CallRollup(Calls):
    class Meta:
        abstract = True
        constraints = [
            models.UniqueConstraint(
                fields=[
                    "tenant_id",
                    "starts",
                    "project_id",
                    "key_id",
                    "user_id",
                    "mode",
                    "operation",
                    "route",
                    "provider",
                    "model",
                ],
                name="%(class)s_once",
            )
        ]
        indexes = [models.Index(fields=["starts"], name="%(class)s_starts")]


class AttemptRollup(Attempts):
    class Meta:
        abstract = True
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "starts", "model", "operation", "mode", "verdict"],
                name="%(class)s_once",
            )
        ]
        indexes = [models.Index(fields=["starts"], name="%(class)s_starts")]


class UsageMinute(CallRollup):
    pass


class UsageHour(CallRollup):
    pass


class UsageDay(CallRollup):
    pass


class AttemptMinute(AttemptRollup):
    pass


class AttemptHour(AttemptRollup):
    pass


class AttemptDay(AttemptRollup):
    pass
