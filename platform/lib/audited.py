"""Rows that tell the audit log of every change."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar

from django.db import models, transaction

from lib.audit import HIDDEN, event, object_id, silent


class AuditedQuerySet(models.QuerySet[Any]):
    """Bulk writes are told row by row too."""

    def update(self, **kwargs: Any) -> int:
        with transaction.atomic(using=self.db):
            former = {row.pk: row.columns() for row in self._told()}
            changed = super().update(**kwargs)
            for row in self.model._base_manager.filter(pk__in=former):
                row.tell_saved(former[row.pk])
        return changed

    def delete(self) -> tuple[int, dict[str, int]]:
        with transaction.atomic(using=self.db):
            for row in self._told():
                row.tell_deleted(row.columns())
            return super().delete()

    def bulk_create(self, *args: Any, **kwargs: Any) -> list[Any]:
        with transaction.atomic(using=self.db):
            made = super().bulk_create(*args, **kwargs)
            for row in made:
                row.tell_saved({})
        return made

    def update_quietly(self, **kwargs: Any) -> int:
        """For columns that are nobody's doing, such as `last_used_at`."""
        return super().update(**kwargs)

    def _told(self) -> Iterable[Audited]:
        return () if silent.get() else list(self.all())


class Audited(models.Model):
    """A row whose every change is told. `hidden` columns are told to have changed, never how;
    `untold` ones are nobody's doing."""

    hidden: ClassVar[frozenset[str]] = frozenset()
    untold: ClassVar[frozenset[str]] = frozenset({"changed_at"})

    objects: ClassVar[Any] = AuditedQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic(using=kwargs.get("using")):
            former = self._former()
            super().save(*args, **kwargs)
            self.tell_saved(former, kwargs.get("update_fields"))

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic(using=kwargs.get("using")):
            self.tell_deleted(self._former())
            return super().delete(*args, **kwargs)

    def columns(self) -> dict[str, Any]:
        """What the row says, by column."""
        return {name: getattr(self, name) for name in self._columns()}

    def tell_saved(self, former: Mapping[str, Any], said: Collection[str] | None = None) -> None:
        """Tell what is not as in `former`, which is empty of a new row; of the fields `said`."""
        if silent.get():
            return
        now = self.columns()
        if not former:
            self._tell("created", {}, now)
        elif differing := [n for n in self._columns(said) if former[n] != now[n]]:
            before, after = ({n: row[n] for n in differing} for row in (former, now))
            self._tell("changed", before, after)

    def tell_deleted(self, former: Mapping[str, Any]) -> None:
        if not silent.get():
            self._tell("deleted", former, {})

    def _tell(self, action: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        event(
            action,
            kind=self._meta.label_lower,
            object_id=object_id(self),
            object_name=str(self),
            before=self._shown(before),
            after=self._shown(after),
        )

    def _former(self) -> dict[str, Any]:
        if silent.get() or self._state.adding or self.pk is None:
            return {}
        rows = type(self)._base_manager.filter(pk=self.pk)
        return rows.values(*self._columns()).first() or {}

    def _shown(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        return {n: HIDDEN if n in self.hidden and value else value for n, value in columns.items()}

    def _columns(self, said: Collection[str] | None = None) -> list[str]:
        fields = [f for f in self._meta.concrete_fields if f.name not in self.untold]
        return [f.attname for f in fields if said is None or {f.name, f.attname} & {*said}]
