"""From our cursor to a provider's pages and back.

What stands between two pages is a position: how many items come before it (or the provider's own
cursor), how many of its page's to pass over, and how large our pages are. Outside it is sealed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from lib.problems import InvalidRequest
from providers.adapters.manifest.mapping import Source
from providers.adapters.manifest.transforms import TransformError

NUMBER, OFFSET, CURSOR = "number", "offset", "cursor"
SIZE: Final = "page.size"
_MOST_TEXT = 1000


class Position(NamedTuple):
    """`at` is None at a provider's first page, where it has cursors of its own. `limit` is how
    many items our page has at most."""

    at: int | str | None
    skip: int
    limit: int


class Page(NamedTuple):
    """What a page held: its records, and how many of them (after `skip`) were used up."""

    records: int
    used: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Paging:
    """How a provider pages. `first` is its first page's number or offset; `size` is that of its
    pages where it cannot be told one, `most` the largest that it can be told. `next` is where an
    answer has the provider's next cursor, or whether there is more."""

    by: str
    first: int = 0
    size: int = 0
    most: int = 100
    next: Source | None = None

    def position(self, params: Mapping[str, Any], usual: int) -> Position:
        """Where a call's page begins: `usual` items are asked for where nobody says how many.

        Raises InvalidRequest for a cursor of another manifest.
        """
        wanted, most = params.get("limit"), self.size or self.most
        if (text := params.get("cursor")) is None:
            return Position(None if self.by == CURSOR else 0, 0, min(wanted or usual, most))
        at, skip, limit = self._read(text)
        wanted = min(wanted or limit, most)
        if self.by != NUMBER:
            return Position(at, skip, wanted)
        if at % self._size(wanted) and not self.size:
            wanted = limit  # pages of another size would begin elsewhere
        return Position(at, at % self._size(wanted), wanted)

    def told(self, position: Position) -> dict[str, Any]:
        """What templates may say of it."""
        at, size = position.at, self._size(position.limit)
        if not isinstance(at, int):
            return {SIZE: size, "page.cursor": at}
        if self.by == OFFSET:
            return {SIZE: size, "page.offset": self.first + at}
        return {SIZE: size, "page.number": self.first + at // size}

    def _size(self, limit: int) -> int:
        return self.size or limit

    def following(
        self, position: Position, page: Page, document: Any, params: Mapping[str, Any]
    ) -> str | None:
        """The next page's position as text; None at the end. Raises TransformError."""
        at, skip, limit = position
        is_cut = skip + page.used < page.records
        if not isinstance(at, int):
            if is_cut:
                return _text(at, skip + page.used, limit)
            if at is None and page.records == page.total:
                return None
            found = self.next.read(document, document, params) if self.next else None
            further = _cursor(found) if found else at
            return None if further == at else _text(further, 0, limit)
        has_more = is_cut
        if not is_cut and self.next is not None:
            has_more = bool(self.next.read(document, document, params))
        elif not is_cut:
            full = page.records >= self._size(limit)
            has_more = full if page.total is None else at + page.used < page.total
        return _text(at + page.used, 0, limit) if has_more and page.used else None

    def _read(self, text: str) -> tuple[Any, int, int]:
        try:
            at, skip, limit = orjson.loads(text)
        except (ValueError, TypeError):
            raise _another() from None
        kinds = (str, type(None)) if self.by == CURSOR else (int,)
        if not isinstance(at, kinds) or not all(type(each) is int for each in (skip, limit)):
            raise _another()
        return at, skip, limit


def _another() -> InvalidRequest:
    detail = "This cursor is of an earlier state of the provider. Begin again without `cursor`."
    return InvalidRequest(detail, param="cursor", errors=[{"detail": detail, "pointer": "/cursor"}])


def _cursor(found: Any) -> str:
    if isinstance(found, bool) or not isinstance(found, (str, int)):
        raise TransformError("the next page's cursor is no text")
    if len(text := str(found)) > _MOST_TEXT:
        raise TransformError("the next page's cursor is too long")
    return text


def _text(at: Any, skip: int, limit: int) -> str:
    return orjson.dumps([at, skip, limit]).decode()
