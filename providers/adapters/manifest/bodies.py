"""The body of a request: a tree of templates that becomes JSON, or pairs that become a form.

Values are put into the tree before it is written, never into its text, so that no parameter can
say more than itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import orjson

from providers.adapters.manifest.templates import Template

_JSON, _FORM = "application/json", "application/x-www-form-urlencoded"
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Body:
    """`tree` has Templates for its texts. `is_form`: it is one level of them."""

    tree: Any
    is_form: bool = False

    @property
    def content_type(self) -> str:
        return _FORM if self.is_form else _JSON

    @property
    def params(self) -> frozenset[str]:
        return frozenset().union(*(template.params for template in _templates(self.tree)))

    def render(self, params: Mapping[str, Any]) -> bytes:
        """A member or item whose parameter is absent is left out."""
        filled = _filled(self.tree, params)
        if not self.is_form:
            return orjson.dumps(filled)
        pairs = ((name, template.render(params)) for name, template in self.tree.items())
        return urlencode([pair for pair in pairs if pair[1] is not None]).encode()

    def recover(self, body: bytes) -> dict[str, Any] | None:
        """The parameters of a body that this one may have made; None of any other."""
        try:
            text = body.decode()
            told = (
                dict(parse_qsl(text, keep_blank_values=True))
                if self.is_form
                else orjson.loads(body)
            )
        except ValueError:
            return None
        return _recovered(self.tree, told)


def _templates(tree: Any) -> list[Template]:
    if isinstance(tree, Template):
        return [tree]
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return [template for item in inner for template in _templates(item)]


def _filled(tree: Any, params: Mapping[str, Any]) -> Any:
    if isinstance(tree, Template):
        return _value(tree, params)
    if isinstance(tree, dict):
        members = ((name, _filled(item, params)) for name, item in tree.items())
        return {name: value for name, value in members if value is not _ABSENT}
    if isinstance(tree, list):
        return [value for item in tree if (value := _filled(item, params)) is not _ABSENT]
    return tree


def _value(template: Template, params: Mapping[str, Any]) -> Any:
    """A parameter alone keeps its type; so does its default, where that is a number or a truth."""
    if (hole := template.alone) is None:
        text = template.render(params)
        return _ABSENT if text is None else text
    value = params.get(hole.param)
    if value is not None:
        return value
    return _ABSENT if hole.default is None else _scalar(hole.default)


def _scalar(text: str) -> Any:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return value if isinstance(value, (int, float)) else text


def _recovered(tree: Any, told: Any) -> dict[str, Any] | None:
    if isinstance(tree, Template):
        return _recovered_text(tree, told)
    if isinstance(tree, dict):
        if not isinstance(told, dict) or set(told) - set(tree):
            return None
        return _joined([(item, told.get(name, _ABSENT)) for name, item in tree.items()])
    if isinstance(tree, list):
        if not isinstance(told, list) or len(told) != len(tree):
            return None
        return _joined(list(zip(tree, told, strict=True)))
    return {} if tree == told and isinstance(tree, bool) == isinstance(told, bool) else None


def _recovered_text(template: Template, told: Any) -> dict[str, Any] | None:
    if told is _ABSENT:
        return {} if template.required else None
    if (hole := template.alone) is not None:
        is_default = hole.default is not None and told == _scalar(hole.default)
        return {} if is_default else {hole.param: told}
    return template.recover(told.replace("%", "%25")) if isinstance(told, str) else None


def _joined(pairs: list[tuple[Any, Any]]) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for tree, told in pairs:
        inner = _recovered(tree, told)
        if inner is None:
            return None
        found |= inner
    return found
