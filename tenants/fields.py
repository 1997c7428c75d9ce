"""A column for a list of rules that one schema checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import models

_LABELS = {
    "per_seconds": "In any so many seconds",
    "limit_usd": "or limit, USD",
    "hard": "When it is used up",
    "hard:": "(refuse)",
    "hard:true": "refuse",
    "hard:false": "go on, and tell",
    "metric:": "(requests)",
    "scope:": "(its own)",
    "thresholds": "Tell at, %",
    "thresholds=": "50, 80, 100",
    "weights=": "embeddings=2, *=1",
    "operations=": "all; or embeddings, !rerank",
}


class JSONListField(models.JSONField):
    """As a JSONField, but what is empty is checked too: `{}` is no list, and [] is not null.

    A form has a row for each rule, with what the `schema` knows of one. `unsaid` says there what
    holds where the list is null, and `form_help` what `help_text` says of the list as JSON.
    """

    empty_values: list[Any] = []

    def __init__(
        self,
        *,
        schema: Mapping[str, Any] | None = None,
        unsaid: str = "",
        form_help: str = "",
        **options: Any,
    ) -> None:
        options.setdefault("blank", True)
        options.setdefault("error_messages", {"null": "Write [] for none."})
        super().__init__(**options)
        self.schema = schema
        self.unsaid = unsaid
        self.form_help = form_help

    def deconstruct(self) -> Any:
        """To migrations it is a JSONField: the column is the same."""
        name, _, arguments, options = super().deconstruct()
        options.pop("error_messages", None)
        return name, "django.db.models.JSONField", arguments, options

    def formfield(self, **options: Any) -> Any:
        from lib.rows import RowsField, columns_of  # of the admin, which few processes show

        if self.schema is None:
            return super().formfield(**options)
        of_rows = {
            "form_class": RowsField,
            "columns": columns_of(self.schema, _LABELS),
            "check": self._check,
            "unsaid": self.unsaid,
            "help_text": self.form_help or self.help_text,
        }
        return super().formfield(**{**options, **of_rows})

    def _check(self, value: Any) -> None:
        for validator in self.validators:
            validator(value)
