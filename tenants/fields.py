"""A column for a list that one schema checks."""

from __future__ import annotations

from typing import Any

from django.db import models


class JSONListField(models.JSONField):
    """As a JSONField, but what is empty is checked too: `{}` is no list, and [] is not null."""

    empty_values: list[Any] = []

    def __init__(self, **options: Any) -> None:
        options.setdefault("blank", True)
        options.setdefault("error_messages", {"null": "Write [] for none."})
        super().__init__(**options)

    def deconstruct(self) -> Any:
        """To migrations it is a JSONField: the column is the same."""
        name, _, arguments, options = super().deconstruct()
        options.pop("error_messages", None)
        return name, "django.db.models.JSONField", arguments, options
