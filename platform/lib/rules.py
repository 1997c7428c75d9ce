"""An object of rules as staff edit it: a field for each thing that its JSON Schema knows. What is
left empty is unsaid, and its place shows what holds then. Who sends JSON is understood too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from lib.rows import CLASSES, CheckedField, Column, column_of


def columns_of(
    schema: Mapping[str, Any], labels: Mapping[str, str], within: str = ""
) -> Iterator[Column]:
    """One for each leaf; its name is the path to it, such as `window/type`. `labels` are by path,
    or by the part of it that is the same in several."""
    for name, of in schema["properties"].items():
        path = f"{within}{name}"
        if "properties" in of:
            yield from columns_of(of, labels, f"{path}/")
        else:
            inner = path.partition("/")[2]
            known = inner if path not in labels and inner in labels else path
            yield _column(known, of, labels)._replace(name=path)


def _column(path: str, of: Mapping[str, Any], labels: Mapping[str, str]) -> Column:
    label = labels.get(path, path.rpartition("/")[2].replace("_", " ").capitalize())
    if of.get("type") == "object":
        return Column(path, label, _read_json, _write_json, tall=True)
    if of.get("type") == "array":
        return Column(path, label, str.splitlines, "\n".join, tall=True)
    return column_of(path, of, {path: label, **labels}, required=False)


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _write_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def leaves(value: Any, within: str = "") -> Iterator[tuple[str, Any]]:
    """Of an object all that is said in it, by its path; of a part that is known whole, the part."""
    for name, each in value.items() if isinstance(value, Mapping) else ():
        yield f"{within}{name}", each
        yield from leaves(each, f"{within}{name}/")


class RulesWidget(forms.Widget):
    """`holds` is what counts where nothing is said, by path."""

    template_name = "lib/rules.html"

    def __init__(self, columns: Sequence[Column], parts: Mapping[str, str]) -> None:
        super().__init__()
        self.columns = columns
        self.parts = parts
        self.holds: Mapping[str, Any] = {}

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        if name in data:
            return data[name]
        if self.value_omitted_from_data(data, files, name):
            return None  # what is not sent stays as it is
        found: dict[str, Any] = {}
        for column in self.columns:
            text = data.get(f"{name}-{column.name}", "")
            if text.strip():
                *steps, last = column.name.split("/")
                part = found
                for step in steps:
                    part = part.setdefault(step, {})
                part[last] = column.read(text if column.tall else text.strip())
        return found

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return not any(key == name or key.startswith(f"{name}-") for key in data)

    def id_for_label(self, id_: str) -> str:
        return ""  # it is many fields, each with a label of its own

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        said = dict(leaves(value))
        cells = [self._cell(column, f"{name}-{column.name}", said) for column in self.columns]
        context |= {
            "beside": [cell for cell in cells if not cell["part"]],
            "folded": [
                {"label": label, "cells": [cell for cell in cells if cell["part"] == part]}
                | {"open": part in said}
                for part, label in self.parts.items()
            ],
            "classes": CLASSES,
        }
        return context

    def _cell(self, column: Column, name: str, said: Mapping[str, Any]) -> dict[str, Any]:
        part, _, _ = column.name.partition("/")
        holds = self.holds.get(column.name)
        return {
            "column": column,
            "name": name,
            "part": part if part in self.parts else "",
            "text": column.shown(said[column.name]) if column.name in said else "",
            "holds": "" if holds is None else dict(column.choices).get(holds, column.shown(holds)),
        }


class RulesField(CheckedField):
    """`parts` are those of the object's own objects that fold, with what they are called."""

    widget: RulesWidget

    def __init__(
        self,
        *,
        schema: Mapping[str, Any],
        labels: Mapping[str, str],
        check: Callable[[Any], None],
        parts: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        columns = list(columns_of(schema, labels))
        super().__init__(**options, widget=RulesWidget(columns, parts or {}), required=False)
        self.labels = {column.name: column.label for column in columns}
        self.parts = parts or {}
        self.check = check

    def told(self, fault: ValidationError, path: Sequence[str | int]) -> str:
        place = "/".join(map(str, path))
        label = self.labels.get(place) or next(
            (label for name, label in self.labels.items() if name.startswith(f"{place}/")), ""
        )
        part = self.parts.get(str(path[0]), "") if path else ""
        where = ": ".join(filter(None, (part, label)))
        return f"{where}: {getattr(fault, 'text', fault)}" if where else "; ".join(fault.messages)
