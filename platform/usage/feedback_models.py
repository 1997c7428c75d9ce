"""What people say of answers."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class Feedback(models.Model):
    """How good the answer to one call was, 0…1, by whoever asked. `target` is the name of what
    answered, as its scores have it (gateway/scores.py)."""

    request_id = models.CharField(max_length=36, unique=True)
    tenant_id = models.BigIntegerField(db_index=True)
    target = models.CharField(max_length=300)
    score = models.FloatField()
    comment = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "feedback"

    def __str__(self) -> str:
        return self.request_id
