"""Refused calls by the hour (usage/refusals.py)."""

from __future__ import annotations

from django.db import models


class Refusal(models.Model):
    """How many calls of a tenant's were refused for one reason in an hour (UTC)."""

    starts = models.DateTimeField()
    tenant_id = models.BigIntegerField()
    key_id = models.BigIntegerField()
    mode = models.CharField(max_length=4)
    operation = models.CharField(max_length=64)
    code = models.CharField(max_length=64)
    limit_name = models.CharField(max_length=200, blank=True)
    calls = models.BigIntegerField()
    last_at = models.DateTimeField()
    last_request_id = models.CharField(max_length=36)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=[
                    *("tenant_id", "starts", "key_id", "mode"),
                    *("operation", "code", "limit_name"),
                ],
                name="refusal_once",
            )
        ]
        indexes = [models.Index(fields=["starts"], name="refusal_starts")]

    def __str__(self) -> str:
        return f"{self.starts:%Y-%m-%d %H} {self.code} {self.operation}"
