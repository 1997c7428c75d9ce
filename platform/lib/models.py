"""Revisions: how a change in the admin reaches every worker within a second.

What the data path reads lives in memory. Each row it was made from belongs to a topic, and
every write through the ORM moves that topic's number; workers poll the numbers (one tiny
query a second) and reload a topic whose number moved.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self

from django.db import models, transaction
from django.db.models import F

from lib.audit import AuditEntry, AuditHead
from lib.audited import Audited, AuditedQuerySet

__all__ = ["AuditEntry", "AuditHead", "Published", "PublishedQuerySet", "Revision", "Topic"]


class Topic(enum.StrEnum):
    """What is reloaded as one."""

    ROUTING = "routing"  # providers, credentials, models, routes, operations
    KEYS = "keys"  # tenants, plans, API keys, users, memberships


class Revision(models.Model):
    topic = models.CharField(max_length=16, primary_key=True)
    number = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.topic} {self.number}"

    @classmethod
    def bump(cls, topic: Topic) -> None:
        """Tell every worker that `topic` changed. Joins the transaction it is called in."""
        if not cls._moved(topic):
            cls.objects.get_or_create(topic=topic)
            cls._moved(topic)  # also when another made the row just now, for a change of its own

    @classmethod
    def _moved(cls, topic: Topic) -> int:
        return cls.objects.filter(topic=topic).update(number=F("number") + 1)

    @classmethod
    def numbers(cls) -> dict[str, int]:
        return dict(cls.objects.values_list("topic", "number"))


class PublishedQuerySet(AuditedQuerySet):
    """Bulk writes publish too."""

    def update(self, **kwargs: Any) -> int:
        with self._published():
            return super().update(**kwargs)

    def delete(self) -> tuple[int, dict[str, int]]:
        with self._published():
            return super().delete()

    def bulk_create(self, *args: Any, **kwargs: Any) -> list[Any]:
        with self._published():
            return super().bulk_create(*args, **kwargs)

    @contextmanager
    def _published(self) -> Iterator[None]:
        with transaction.atomic(using=self.db):
            yield
            Revision.bump(self.model.topic)


class Published(Audited):
    """A row of which the data path keeps a copy in memory."""

    topic: ClassVar[Topic]

    objects: ClassVar[Any] = PublishedQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic(using=kwargs.get("using")):
            super().save(*args, **kwargs)
            Revision.bump(self.topic)

    def delete(self: Self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic(using=kwargs.get("using")):
            Revision.bump(self.topic)
            return super().delete(*args, **kwargs)
