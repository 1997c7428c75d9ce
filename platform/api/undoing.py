"""Takes back the last change of a row, from the audit log."""

from __future__ import annotations

import json
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ObjectDoesNotExist, ValidationError
from django.db import models, transaction

from lib.audit import HIDDEN, AuditEntry
from lib.audited import Audited

# What staff turn while it runs. Prices are not here: one that was in force stays for ever.
UNDOABLE = frozenset(
    {
        *("tenants.plan", "tenants.tenant", "tenants.housepolicy", "tenants.apikey"),
        *("providers.provider", "providers.route", "providers.target", "providers.model"),
        "providers.operation",
    }
)


def can_be_undone(entry: AuditEntry) -> bool:
    """Whether it changed columns that are all known. The row may have been changed since."""
    return (
        entry.action == "changed"
        and entry.kind in UNDOABLE
        and HIDDEN not in json.loads(entry.before).values()
    )


@transaction.atomic
def undo(*, entry: AuditEntry) -> Audited:
    """Make the row what it was before, told as a change of its own. Raises ValidationError when
    it was changed since, is gone, or would not be allowed any more."""
    if not can_be_undone(entry):
        raise ValidationError("This cannot be undone.")
    row = _row(entry)
    before, after = json.loads(entry.before), json.loads(entry.after)
    for column, value in after.items():
        if _as_told(getattr(row, _field(row, column).attname)) != value:
            raise ValidationError(f"“{column}” was changed again since. Undo that change first.")
    for column, value in before.items():
        field = _field(row, column)
        setattr(row, field.attname, value if value is None else field.to_python(value))
    row.full_clean()
    row.save()
    return row


def _row(entry: AuditEntry) -> Audited:
    model: Any = apps.get_model(entry.kind)
    named = "public_id" if hasattr(model, "public_id") else "pk"
    try:
        row: Audited = model._base_manager.select_for_update().get(**{named: entry.object_id})
    except ObjectDoesNotExist:
        raise ValidationError("It is gone.") from None
    return row


def _field(row: models.Model, column: str) -> Any:
    for field in row._meta.concrete_fields:
        if field.attname == column:
            return field
    raise FieldDoesNotExist(column)


def _as_told(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
