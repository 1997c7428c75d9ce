"""Lists as staff edit them. One of rules has a row for each, and a column for each thing that its
schema knows; one of words has a line for each. Who sends JSON is understood too. Objects are edited
in lib/rules.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import INPUT_CLASSES, SELECT_CLASSES, UnfoldAdminTextareaWidget

SPARE = 2  # rows that are there to be filled in
MAX_ROWS = 200
NONE = "none"  # a list or an object that is there and empty
# Unfold's, but for those that mark every input of a field in which one is wrong.
CLASSES = {
    kind: " ".join(name for name in names if ".errors" not in name)
    for kind, names in {"text": INPUT_CLASSES, "select": SELECT_CLASSES}.items()
}
_WHOLE = re.compile(r"-?[0-9]{1,18}\Z")
_DECIMAL = re.compile(r"-?[0-9]{1,18}\.[0-9]{1,18}\Z")
_GAPS = re.compile(r"[\s,]+")
_YES, _NO = "true", "false"


class Column(NamedTuple):
    """`choices` are of a select. `read` makes of a text what the schema will judge, be it wrong;
    `write` is the way back."""

    name: str
    label: str
    read: Callable[[str], Any]
    write: Callable[[Any], str]
    choices: Sequence[tuple[str, str]] = ()
    hint: str = ""
    tall: bool = False

    def shown(self, value: Any) -> str:
        try:
            return self.write(value)
        except (AttributeError, TypeError):
            return str(value)  # what somebody else wrote there


def columns_of(schema: Mapping[str, Any], labels: Mapping[str, str]) -> list[Column]:
    """Of an array's JSON Schema; what can be but one thing, and may be left unsaid, has none.
    `labels` are what to say besides the names: of a column, of its choices (`name:choice`, and
    `name:` where it may be left unsaid), of an example (`name=`)."""
    items = schema["items"]
    return [
        column_of(name, of, labels, required=name in items["required"])
        for name, of in items["properties"].items()
        if name in items["required"] or len(of.get("enum", ("", ""))) > 1
    ]


def column_of(
    name: str, of: Mapping[str, Any], labels: Mapping[str, str], *, required: bool
) -> Column:
    """`labels` as in columns_of."""
    label = labels.get(name, name.replace("_", " ").capitalize())
    unsaid = ("", "–" if required else labels.get(f"{name}:", "–"))
    if "enum" in of:
        choices = [unsaid, *((each, labels.get(f"{name}:{each}", each)) for each in of["enum"])]
        return Column(name, label, str, str, choices)
    if of["type"] == "boolean":
        choices = [unsaid, *((each, labels.get(f"{name}:{each}", each)) for each in (_YES, _NO))]
        return Column(name, label, _boolean, lambda value: str(value).lower(), choices)
    read, write = _TYPES[_type(of)]
    return Column(name, label, read, write, hint=labels.get(f"{name}=", ""))


def _type(of: Mapping[str, Any]) -> str:
    return f"{of['type']} of {of['items']['type']}" if of["type"] == "array" else str(of["type"])


def _boolean(text: str) -> Any:
    return {_YES: True, _NO: False}.get(text, text)


def _whole(text: str) -> Any:
    plain = text.replace(",", "").replace("_", "").replace(" ", "")
    return int(plain) if _WHOLE.match(plain) else text


def _number(text: str) -> Any:
    return float(text) if _DECIMAL.match(text) else _whole(text)


def _several(text: str) -> list[str]:
    return [] if text == NONE else [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str) -> list[Any]:
    return [_whole(part) for part in _several(text)]


def _weighed(text: str) -> dict[str, Any]:
    pairs = (part.partition("=") for part in _several(text))
    return {name.strip(): _whole(number.strip()) for name, _, number in pairs}


def _digits(value: Any) -> str:
    """To JSON Schema 60.0 is a whole number too."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if value else NONE


def _pairs(value: Any) -> str:
    return ", ".join(f"{name}={number}" for name, number in value.items()) if value else NONE


_TYPES: Mapping[str, tuple[Callable[[str], Any], Callable[[Any], str]]] = {
    "string": (str, str),
    "integer": (_whole, _digits),
    "number": (_number, _digits),
    "array of string": (_several, _listed),
    "array of integer": (_numbers, _listed),
    "object": (_weighed, _pairs),
}


class RowsWidget(forms.Widget):
    """`unsaid` names what holds where there is no list at all; empty where there must be one."""

    template_name = "lib/rows.html"

    def __init__(self, columns: Sequence[Column], unsaid: str = "") -> None:
        super().__init__()
        self.columns = columns
        self.unsaid = unsaid

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        if name in data:
            return data[name]
        if data.get(f"{name}-unsaid"):
            return None
        told = data.get(f"{name}-rows", "")
        count = min(int(told), MAX_ROWS) if _WHOLE.match(told) else 0
        rows = (self._row(data, f"{name}-{number}") for number in range(count))
        return [row for row in rows if row]

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return name not in data and f"{name}-rows" not in data

    def id_for_label(self, id_: str) -> str:
        return ""  # it is many fields, each with a label of its own

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
        shown = [*rows, *({} for _ in range(SPARE))]
        context |= {
            "columns": self.columns,
            "rows": [self._cells(row, f"{name}-{n}", n + 1) for n, row in enumerate(shown)],
            "count": len(shown),
            "unsaid": self.unsaid,
            "is_unsaid": value is None,
            "classes": CLASSES,
        }
        return context

    def _row(self, data: Any, prefix: str) -> dict[str, Any]:
        """Empty where nothing is written, or it is to go."""
        if data.get(f"{prefix}-remove"):
            return {}
        texts = ((each, data.get(f"{prefix}-{each.name}", "").strip()) for each in self.columns)
        return {column.name: column.read(text) for column, text in texts if text}

    def _cells(self, row: Mapping[str, Any], prefix: str, number: int) -> dict[str, Any]:
        cells = [
            {
                "column": column,
                "name": f"{prefix}-{column.name}",
                "text": column.shown(row[column.name]) if column.name in row else "",
            }
            for column in self.columns
        ]
        return {"cells": cells, "number": number, "remove": f"{prefix}-remove", "is_new": not row}


class CheckedField(forms.JSONField):
    """What a widget makes of many fields. `check` raises what is wrong in it (a ValidationError,
    with a `path` of its own)."""

    empty_values = [None, ""]
    check: Callable[[Any], None]

    def prepare_value(self, value: Any) -> Any:
        return value

    def bound_data(self, data: Any, initial: Any) -> Any:
        return super().bound_data(data, initial) if isinstance(data, str) else data

    def clean(self, value: Any) -> Any:
        rules = super().clean(value)
        if value is None or isinstance(value, str):
            return rules  # sent as JSON: what is wrong is told by its path there
        try:
            self.check(rules)
        except ValidationError as fault:
            raise ValidationError(self.told(fault, getattr(fault, "path", ()))) from None
        return rules

    def told(self, fault: ValidationError, path: Sequence[str | int]) -> str:
        raise NotImplementedError


class RowsField(CheckedField):
    def __init__(
        self,
        *,
        columns: Sequence[Column],
        check: Callable[[Any], None],
        unsaid: str = "",
        **options: Any,
    ) -> None:
        super().__init__(**{**options, "widget": RowsWidget(columns, unsaid)})
        self.labels = {column.name: column.label for column in columns}
        self.check = check

    def told(self, fault: ValidationError, path: Sequence[str | int]) -> str:
        if not path or not isinstance(path[0], int):
            return "; ".join(fault.messages)
        column = self.labels.get(str(path[1]), "") if len(path) > 1 else ""
        where = f"Row {path[0] + 1}, {column}" if column else f"Row {path[0] + 1}"
        return f"{where}: {getattr(fault, 'text', fault)}"


class LinesField(forms.JSONField):
    """A list of words, one a line."""

    empty_values = [None]

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"widget": UnfoldAdminTextareaWidget(attrs={"rows": 3}), **options})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def bound_data(self, data: Any, initial: Any) -> Any:
        return data

    def to_python(self, value: Any) -> Any:
        if not isinstance(value, str) or value.lstrip().startswith("["):
            return super().to_python(value)
        return [word for word in _GAPS.split(value) if word]
