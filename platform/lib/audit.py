"""The audit log: every change that people make, by whom, from where, and what it was before.

An entry is written in the transaction of the change, so that there is never one without the
other. A keyed hash seals each entry; once it is committed it gets the next number and a digest
over its own seal and the former's digest. So a changed, removed or swapped row is found by
whoever has the key (`manage.py verify_audit`), and cannot be put right without it. Numbers are
given after the commit, in a transaction of their own: entries of two changes at once would
otherwise wait for each other while they hold other rows.
"""

from __future__ import annotations

import getpass
import hashlib
import hmac
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from django.conf import settings
from django.db import models, transaction
from django.db.models import F
from django.utils import timezone

from lib.ids import uuid7

HIDDEN: Final = "•••"
BATCH: Final = 500
SERVICES: Final = ("run", "worker")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something. `kind` is user, key, command or system."""

    kind: str
    name: str = ""
    address: str = ""
    request_id: str = ""


def the_process() -> Actor:
    """Who acts where nobody came over the network: a command at a terminal, or a service."""
    program, *words = sys.argv or [""]
    if Path(program).name == "manage.py" and words and words[0] not in SERVICES:
        return Actor("command", f"{words[0]} by {_operating_user()}")
    return Actor("system")


def _operating_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return f"uid {os.getuid()}"


_actor: ContextVar[Callable[[], Actor]] = ContextVar("actor", default=the_process)
silent: ContextVar[bool] = ContextVar("silent", default=False)


@contextmanager
def acting(who: Callable[[], Actor]) -> Iterator[None]:
    """Everything changed inside is done by `who()`, asked when something is."""
    token = _actor.set(who)
    try:
        yield
    finally:
        _actor.reset(token)


@contextmanager
def as_one() -> Iterator[None]:
    """Changes inside are not told row by row: whoever opens it tells them as one `event`."""
    token = silent.set(True)
    try:
        yield
    finally:
        silent.reset(token)


class Unchangeable(Exception):
    """Someone tried to change or remove an entry of the audit log."""


class AuditQuerySet(models.QuerySet["AuditEntry"]):
    def update(self, **kwargs: Any) -> int:
        raise Unchangeable

    def delete(self) -> tuple[int, dict[str, int]]:
        raise Unchangeable

    def about(self, row: models.Model) -> AuditQuerySet:
        return self.filter(kind=row._meta.label_lower, object_id=object_id(row))


class AuditEntry(models.Model):
    """One change. `before` and `after` are JSON objects of what differs."""

    id = models.CharField(primary_key=True, max_length=36, default=uuid7, editable=False)
    at = models.DateTimeField(db_index=True)
    actor_kind = models.CharField("kind of actor", max_length=8)
    actor = models.CharField(max_length=254, blank=True)
    address = models.CharField(max_length=45, blank=True)
    request_id = models.CharField(max_length=36, blank=True)
    action = models.CharField(max_length=40)
    kind = models.CharField("what", max_length=64)
    object_id = models.CharField(max_length=64, blank=True)
    object_name = models.CharField("which", max_length=200, blank=True)
    before = models.TextField(default="{}")
    after = models.TextField(default="{}")
    seal = models.CharField(max_length=64)
    number: Any = models.BigIntegerField(null=True, unique=True)
    digest = models.CharField(max_length=64, blank=True)

    objects: ClassVar[Any] = AuditQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-id"]
        verbose_name_plural = "audit log"
        indexes = [models.Index(fields=["kind", "object_id"], name="audit_of_object")]

    def __str__(self) -> str:
        return f"{self.actor or self.actor_kind} {self.action} {self.kind} {self.object_name}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise Unchangeable
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise Unchangeable

    def sealed(self) -> str:
        """What `seal` must be."""
        columns = [getattr(self, name) for name in _SEALED]
        moment = int(self.at.timestamp() * 1_000_000)
        return _keyed(json.dumps([moment, *columns], ensure_ascii=False))

    def chained(self, former: str) -> str:
        """What `digest` must be, after an entry whose digest is `former`."""
        return _keyed(f"{former}\n{self.number}\n{self.seal}")


_SEALED = (
    *("id", "actor_kind", "actor", "address", "request_id"),
    *("action", "kind", "object_id", "object_name", "before", "after"),
)


class AuditHead(models.Model):
    """The last link of the chain: one row."""

    PK = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=PK)
    number = models.BigIntegerField(default=0)
    digest = models.CharField(max_length=64, blank=True)

    def __str__(self) -> str:
        return f"{self.number} {self.digest[:12]}"

    @classmethod
    def locked(cls) -> AuditHead:
        """The row, ours until the end of the transaction."""
        if not cls.objects.filter(pk=cls.PK).update(number=F("number")):
            cls.objects.get_or_create(pk=cls.PK)
            cls.objects.filter(pk=cls.PK).update(number=F("number"))
        return cls.objects.get(pk=cls.PK)


def event(
    action: str,
    *,
    kind: str,
    object_id: str = "",
    object_name: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """Tell what somebody did. Joins the transaction it is called in."""
    who = _actor.get()()
    entry = AuditEntry(
        at=timezone.now(),
        actor_kind=who.kind,
        actor=_stored(who.name, 254),
        address=who.address[:45],
        request_id=who.request_id[:36],
        action=action,
        kind=kind,
        object_id=_stored(object_id, 64),
        object_name=_stored(object_name, 200),
        before=_json(before or {}),
        after=_json(after or {}),
    )
    entry.seal = entry.sealed()
    entry.save(force_insert=True)
    transaction.on_commit(link, robust=True)
    return entry


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, default=str, ensure_ascii=False, sort_keys=True).replace("\0", "")


def _stored(text: str, length: int) -> str:
    return text.replace("\0", "")[:length]


def link() -> int:
    """Put committed entries into the chain, as they came. How many there were."""
    waiting = AuditEntry.objects.filter(number=None)
    if not waiting.exists():
        return 0
    with transaction.atomic():
        head = AuditHead.locked()
        entries = list(waiting.order_by("at", "id")[:BATCH])
        for entry in entries:
            head.number += 1
            entry.number = head.number
            entry.digest = head.digest = entry.chained(head.digest)
        _writable().bulk_update(entries, ["number", "digest"])
        head.save()
    return len(entries)


def _writable() -> models.QuerySet[Any]:
    return models.QuerySet(AuditEntry)


@dataclass(frozen=True, slots=True)
class Fault:
    """Where the log is not as it was written."""

    number: int | None
    entry: str
    text: str

    def __str__(self) -> str:
        place = f"entry {self.number}" if self.number else "an entry outside the chain"
        return f"{place} ({self.entry}): {self.text}" if self.entry else f"{place}: {self.text}"


def verify(progress: Callable[[int], None] = lambda _: None) -> Iterator[Fault]:
    """Every fault of the chain, from its beginning, in constant memory."""
    former, expected = "", 1
    for entry in AuditEntry.objects.exclude(number=None).order_by("number").iterator(BATCH):
        if entry.number != expected:
            gap = f"{expected} to {entry.number - 1}" if entry.number - 1 > expected else expected
            yield Fault(entry.number, entry.id, f"removed before it: number {gap}")
        elif entry.digest != entry.chained(former):
            yield Fault(entry.number, entry.id, "does not follow on the entry before it")
        if entry.seal != entry.sealed():
            yield Fault(entry.number, entry.id, "was changed after it was written")
        former, expected = entry.digest, entry.number + 1
        progress(entry.number)
    head = AuditHead.objects.filter(pk=AuditHead.PK).first() or AuditHead()
    if (head.number, head.digest) != (expected - 1, former):
        yield Fault(head.number, "", f"the log ends at {expected - 1}, and not where it should")
    for entry in AuditEntry.objects.filter(number=None).order_by("id"):
        if entry.seal != entry.sealed():
            yield Fault(None, entry.id, "was changed after it was written")


def _keyed(text: str) -> str:
    key = hmac.digest(settings.KEY_PEPPER, b"patchbay audit log", "sha256")
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def object_id(row: models.Model) -> str:
    """What an entry calls the row: its public id, or its key."""
    return str(getattr(row, "public_id", None) or row.pk)
