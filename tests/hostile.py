"""Texts that would run where a page does not write them as text, and a reader that finds what
they made of a page: every one of them names `__xss`, which may be told and may do nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

from django.db import connection, models

CORPUS = (
    "javascript:__xss=1//",
    "<script>__xss=1</script>",
    "</script><script>__xss=1</script>",
    "'-(__xss=1)-'",
    '";__xss=1;//',
    '\\";__xss=1//',
    '"><img src=x onerror=__xss=1>',
    "'><svg/onload=__xss=1>",
    '" autofocus onfocus="__xss=1',
    "' onmouseover='__xss=1",
    "x onpointerenter=__xss=1 ",
    "`onfocus=__xss=1 autofocus`",
    "<svg><animate onbegin=__xss=1 attributeName=x dur=1s>",
    "<svg><script>__xss=1</script></svg>",
    '<math><mtext><mglyph><style><!--</style><img title="--&gt;&lt;img src onerror=__xss=1&gt;">',
    '<a href="java\tscript:__xss=1">x</a>',
    "<a href=' &#106;avascript:__xss=1'>x</a>",
    "<iframe srcdoc='&lt;script&gt;parent.__xss=1&lt;/script&gt;'></iframe>",
    "<object data=data:text/html;base64,PHNjcmlwdD5fX3hzcz0xPC9zY3JpcHQ+ title=__xss></object>",
    "<form action=//__xss><button formaction=javascript:__xss=1>x</button></form>",
    "<base href=//__xss/>",
    '<meta http-equiv=refresh content="0;url=javascript:__xss=1">',
    "<link rel=stylesheet href=//__xss>",
    "<style>@import '//__xss';</style>",
    "<div style=background:url(//__xss)>",
    '<div x-data="{}" x-init="__xss=1" hx-on:load="__xss=1" hx-get="//__xss" hx-trigger=load>',
    "__xss{{ 7|add:1330 }}${__xss=1}<%= __xss %>#{__xss}",
    "\u003cscript\u003e__xss=1\u003c/script\u003e",
    "\\u003cscript\\u003e__xss=1\\u003c/script\\u003e",
    "%3Cscript%3E__xss=1%3C/script%3E",
    "&lt;script&gt;__xss=1&lt;/script&gt;",
    "\uff1cscript\uff1e__xss=1\uff1c/script\uff1e",
    "\u2028__xss=1\u2029__xss=1",
    "\u202e<script>__xss=1</script>\u202c\ufeff\u200b",
    "+ADw-script+AD4-__xss=1+ADw-/script+AD4-",
    "<scr<script>ipt>__xss=1</scr</script>ipt>",
    "<ScRiPt\x0b>__xss=1</sCrIpT\n>",
    "]]><script>__xss=1</script>",
    "</textarea></title></noscript></template></style><img src onerror=__xss=1>",
    "--><img src onerror=__xss=1><!--",
)
# All at once: it begins as an address of script would, and closes whatever it may be in.
TEXT = "\n".join(CORPUS)
# Where a text may stand as a value, for it does nothing there.
_INERT = {"value", "title", "alt", "placeholder", "aria-label", "data-chart", "data-value", "label"}
_ADDRESSES = {"href", "action", "hx-get"}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        if "__xss" in tag:
            self.found.append(f"<{tag}>")
        for name, value in attrs:
            if "__xss" in name or not _harmless(tag, name, value or ""):
                self.found.append(f"<{tag} {name}={value!r:.80}>")
        if tag == "script" and ("type", "application/json") in attrs:
            self._inside = "json"

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in {"script", "style"} and "__xss" in data:
            self.found.append(f"{self._inside}: {data[:80]!r}")
        if self._inside == "json" and "__xss" in data:
            json.loads(data)
        if "1337" in data and "__xss" in data:
            self.found.append(f"a template: {data[:80]!r}")

    def handle_comment(self, data: str) -> None:
        if "__xss" in data:
            self.found.append(f"<!--{data[:80]}")

    handle_decl = handle_pi = unknown_decl = handle_comment


def _harmless(tag: str, name: str, value: str) -> bool:
    if "__xss" not in value:
        return True
    if name in _ADDRESSES:
        return tag in {"a", "form", "div"} and is_ours(value)
    return name in _INERT


def is_ours(address: str) -> bool:
    """Whether it stays on the pages: a path or a query, whatever a browser leaves out of it."""
    return re.match(r"(/(?![/\\])|\?|#)", re.sub(r"[\x00-\x20]", "", address)) is not None


def made_by_texts(html: str) -> list[str]:
    """The elements, attributes and scripts of a page that a text of the corpus made."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.found


def texts_of(model: type[models.Model]) -> Iterator[tuple[models.Field[Any, Any], Any]]:
    """The columns of free text, and what to put there. Others' texts are ids, slugs, choices or
    codes, which nobody types in."""
    for field in model._meta.concrete_fields:
        if field.primary_key or field.choices or field.is_relation:
            continue
        if isinstance(field, models.JSONField):
            yield field, json.dumps({TEXT: [TEXT]})
        elif type(field) in {models.CharField, models.TextField, models.EmailField}:
            yield field, TEXT


def plant(row: models.Model, *, keep: frozenset[str] = frozenset()) -> bool:
    """Hostile texts in every column of free text of the row, whatever would refuse them; whether
    it has any."""
    chosen = {field.column: text for field, text in texts_of(type(row)) if field.name not in keep}
    key = row._meta.pk
    if not chosen or key is None:
        return False
    sets = ", ".join(f'"{column}" = %s' for column in chosen)
    statement = f'UPDATE {row._meta.db_table} SET {sets} WHERE "{key.column}" = %s'
    with connection.cursor() as cursor:
        cursor.execute(statement, [*chosen.values(), key.get_db_prep_value(row.pk, connection)])
    return True
