"""One application of a file: rows compared with it, written where they differ, and told."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from api.configuration.document import ConfigurationFault, ConfigurationFile, Place
from providers.models import Provider
from tenants.limits import ItemFault

HIDDEN = frozenset({"settings"})  # may hold what should not be printed
_WIDTH = 100


class Kind(enum.StrEnum):
    ADDED = "+"
    CHANGED = "~"
    REMOVED = "-"


@dataclass(frozen=True, slots=True)
class Change:
    """A line of the diff; `details` hold no secret."""

    kind: Kind
    what: str
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.what}" + (f": {', '.join(self.details)}" if self.details else "")


@dataclass(slots=True)
class Run:
    """What was changed so far, and the keys that were made: {"tenant/name": text}."""

    file: ConfigurationFile
    changes: list[Change] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)

    def put(self, row: models.Model, values: Mapping[str, Any], *, what: str, place: Place) -> bool:
        """Bring `row` to `values` (by column name) and save it. Whether anything changed."""
        is_new = row.pk is None
        before = {name: getattr(row, name) for name in values}
        differing = {name: new for name, new in values.items() if is_new or before[name] != new}
        if not differing and not is_new:
            return False
        for name, value in differing.items():
            setattr(row, name, value)
        if not is_new and getattr(row, "source", None) == Provider.Source.BUILTIN:
            row.source = Provider.Source.OPERATOR  # type: ignore[attr-defined]
        self.save(row, place)
        if is_new:
            self.tell(Kind.ADDED, what)
        else:
            self.tell(Kind.CHANGED, what, (_changed(n, before[n], v) for n, v in differing.items()))
        return True

    def save(self, row: models.Model, place: Place) -> None:
        """Raises ConfigurationFault for what the model refuses."""
        try:
            row.full_clean()
        except ValidationError as error:
            raise self.refusal(place, error) from None
        row.save()

    def tell(self, kind: Kind, what: str, details: Iterable[str] = ()) -> None:
        self.changes.append(Change(kind, what, tuple(details)))

    def fault(self, place: Place, text: str) -> ConfigurationFault:
        return self.file.fault(place, text)

    def refusal(self, place: Place, error: ValidationError) -> ConfigurationFault:
        """The fault for what a model or service refused; what is wrong in a list, at its line."""
        for name, errors in getattr(error, "error_dict", {}).items():
            for each in errors:
                if isinstance(each, ItemFault):
                    return self.file.fault((*place, name, *each.path), each.text)
        return self.file.fault(place, " ".join(error.messages))


def _changed(name: str, before: Any, after: Any) -> str:
    if name in HIDDEN:
        return f"{name} (hidden)"
    return f"{name} {_shown(before)} → {_shown(after)}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
