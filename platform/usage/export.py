"""The ledger as files: CSV or JSON lines, a row a call, in pages of constant size.

Rows come in the order of their request ids, so the last id that somebody has is the cursor to
go on from. A call's id is made when it comes and its row is written when it ends, so of the
last minutes there may still come rows whose ids are before others': see `settled`.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model
from django.utils import timezone

from accounts.models import User
from lib.ids import first_uuid7
from lib.money import to_usd
from tenants.models import ApiKey, Project, Tenant
from usage.models import SKEW
from usage.sums import stored

PAGE = 2000  # rows in memory at once
FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}
MARGIN = dt.timedelta(minutes=9)  # after the deadline: a late commit, a crash's call reaped
# With these a cell begins that a spreadsheet takes for a formula (OWASP, CSV injection).
_FORMULA = frozenset("=+-@\t\r\n＝＋－＠")

Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Selection:
    """Calls from `begin` (None: the first) up to and without `end`, of one tenant or of all."""

    begin: dt.datetime | None
    end: dt.datetime
    tenant_id: int | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """`show` makes a value what is shown; `named` finds the public names of ids."""

    name: str
    source: str
    show: Callable[[Any], Any] | None = None
    named: tuple[type[Model], str] | None = None
    is_text: bool = False


def _text(name: str) -> Column:
    return Column(name, name, is_text=True)


def _name(name: str, model: type[Model], field: str) -> Column:
    return Column(name, f"{name}_id", named=(model, field), is_text=True)


def _moment(value: Any) -> str:
    """RFC 3339. SQLite gives text."""
    text = value.replace(" ", "T") if isinstance(value, str) else _plain(value)
    return f"{text}Z"


def _plain(value: dt.datetime) -> str:
    return value.astimezone(dt.UTC).replace(tzinfo=None).isoformat()


_TENANT = _name("tenant", Tenant, "slug")
_BOTH = (
    Column("request_id", "request_id"),
    Column("created_at", "created_at", show=_moment),
    _name("project", Project, "public_id"),
    _name("key", ApiKey, "key_id"),
    _name("user", User, "public_id"),
    *map(_text, ("mode", "operation", "route", "provider", "model")),
    Column("status", "status"),
    _text("code"),
    Column("streamed", "streamed", show=bool),
    _text("estimate"),
    Column("attempts", "attempts"),
    Column("input_tokens", "input_tokens"),
    Column("output_tokens", "output_tokens"),
    Column("cached_tokens", "cached_tokens"),
    Column("cache_write_tokens", "cache_write_tokens"),
    Column("reasoning_tokens", "reasoning_tokens"),
    Column("units", "units"),
    Column("bytes", "bytes"),
    Column("charge_microusd", "charge"),
    Column("charge_usd", "charge", show=to_usd),
    _text("cache"),
    Column("latency_ms", "latency_ms"),
)
FOR_TENANTS = _BOTH
# What the providers take, and how the charge came of it, is nobody else's.
FOR_STAFF = (
    *_BOTH[:2],
    _TENANT,
    *_BOTH[2:],
    Column("cost_microusd", "cost"),
    Column("cost_usd", "cost", show=to_usd),
    Column("price_id", "price_id"),
    Column("markup", "markup"),
)


def settled(deadline: dt.timedelta) -> dt.datetime:
    """Up to when every call has its row by now, if none takes longer than its deadline."""
    return timezone.now() - deadline - MARGIN


@dataclass(frozen=True, slots=True)
class Export:
    """A selection as it is shown to somebody."""

    selection: Selection
    columns: tuple[Column, ...]
    format: str
    using: str = DEFAULT_DB_ALIAS

    def head(self) -> bytes:
        return _csv([[column.name for column in self.columns]]) if self.format == "csv" else b""

    def last(self, after: str, rows: int) -> tuple[str, bool]:
        """The id of the last of so many rows after one, and whether there are more. Without
        more it is empty: the rest is less."""
        where, parameters = self._where(after)
        statement = f"SELECT request_id {where} LIMIT 2 OFFSET %s"
        found = self._ask(statement, [*parameters, rows - 1])
        return (found[0][0], True) if len(found) == 2 else ("", False)

    def page(self, after: str, until: str = "", size: int = PAGE) -> tuple[bytes, str, int]:
        """The next rows' bytes, the last one's id and how many there are, `until` being the
        last; no bytes at the end."""
        where, parameters = self._where(after, until)
        sources = ", ".join(("request_id", *(column.source for column in self.columns)))
        rows = self._ask(f"SELECT {sources} {where} LIMIT %s", [*parameters, size])
        if not rows:
            return b"", after, 0
        return self._written(self._shown(rows)), rows[-1][0], len(rows)

    def pages(self) -> Iterator[tuple[bytes, int]]:
        """All of it: bytes, and how many rows they are."""
        yield self.head(), 0
        after = ""
        while True:
            page, after, rows = self.page(after)
            if not rows:
                return
            yield page, rows

    def _ask(self, statement: str, parameters: Sequence[Any]) -> list[Row]:
        with connections[self.using].cursor() as cursor:
            cursor.execute(statement, parameters)
            found: list[Row] = cursor.fetchall()
        return found

    def _where(self, after: str, until: str = "") -> tuple[str, list[Any]]:
        """The ids' bounds are what pages and partitions are found by; the moment is exact."""
        chosen, using = self.selection, self.using
        end = first_uuid7((chosen.end + SKEW).timestamp())
        bounds = [("request_id <", end), ("created_at <", stored(chosen.end.timestamp(), using))]
        if chosen.begin:
            after = max(after, first_uuid7((chosen.begin - SKEW).timestamp()))
            bounds.append(("created_at >=", stored(chosen.begin.timestamp(), using)))
        bounds.append(("request_id >", after))
        if until:
            bounds.append(("request_id <=", until))
        if chosen.tenant_id is not None:
            # The plus keeps SQLite, which knows nothing of how many rows there are, from
            # sorting all of the tenant's for every page.
            column = "+tenant_id" if connections[using].vendor == "sqlite" else "tenant_id"
            bounds.append((f"{column} =", chosen.tenant_id))
        where = " AND ".join(f"{bound} %s" for bound, _ in bounds)
        return f"FROM usage_usagerecord WHERE {where} ORDER BY request_id", [
            value for _, value in bounds
        ]

    def _shown(self, rows: Sequence[Row]) -> Iterator[list[Any]]:
        shows = [
            (place, self._show(column, place + 1, rows))
            for place, column in enumerate(self.columns)
            if column.show or column.named
        ]
        for row in rows:
            cells = list(row[1:])
            for place, show in shows:
                cells[place] = show(cells[place])
            yield cells

    def _show(self, column: Column, place: int, rows: Sequence[Row]) -> Callable[[Any], Any]:
        """Ids get their names, None where there is none or the thing is long gone."""
        if column.named is None:
            return column.show or str
        model, field = column.named
        ids = {row[place] for row in rows} - {None}
        found = model._default_manager.using(self.using).in_bulk(ids) if ids else {}
        return {pk: getattr(each, field) for pk, each in found.items()}.get

    def _written(self, rows: Iterable[list[Any]]) -> bytes:
        if self.format == "csv":
            return _csv(self._harmless(rows))
        names = [column.name for column in self.columns]
        return b"".join(
            orjson.dumps(dict(zip(names, row, strict=True)), option=orjson.OPT_APPEND_NEWLINE)
            for row in rows
        )

    def _harmless(self, rows: Iterable[list[Any]]) -> Iterator[list[Any]]:
        """Texts that come from callers or providers must not run in somebody's spreadsheet."""
        texts = [place for place, column in enumerate(self.columns) if column.is_text]
        flags = [place for place, column in enumerate(self.columns) if column.show is bool]
        for cells in rows:
            for place in texts:
                cells[place] = inert(cells[place])
            for place in flags:
                cells[place] = "true" if cells[place] else "false"
            yield cells


def inert(cell: Any) -> Any:
    """A text that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell and cell[0] in _FORMULA else cell


def _csv(rows: Iterable[Sequence[Any]]) -> bytes:
    """RFC 4180."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
