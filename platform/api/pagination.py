"""Lists in pages: `?limit=&cursor=` → {"data", "next_cursor", "has_more"}."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from django.db.models import Model, QuerySet
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

from lib.problems import InvalidRequest

DEFAULT_LIMIT = 50
MAX_LIMIT = 100
_MAX_ID = 2**63 - 1


class CursorPages(BasePagination):
    """Newest first by primary key, so that rows made meanwhile move no page.

    A cursor is the last row's key in disguise: opaque to clients, harmless when forged, for
    the queryset holds only what the caller may see.
    """

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        limit = _limit(request.query_params.get("limit"))
        cursor = request.query_params.get("cursor")
        rows: QuerySet[Any] = queryset.order_by("-pk")
        if cursor is not None:
            rows = rows.filter(pk__lt=_decode(cursor))
        page: list[Model] = list(rows[: limit + 1])
        self._has_more = len(page) > limit
        self._next = _encode(page[limit - 1].pk) if self._has_more else None
        return page[:limit]

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"data": data, "next_cursor": self._next, "has_more": self._has_more})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["data", "next_cursor", "has_more"],
            "properties": {
                "data": schema,
                "next_cursor": {"type": ["string", "null"]},
                "has_more": {"type": "boolean"},
            },
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
        return [
            {"name": "limit", "in": "query", "required": False, "schema": limit},
            {"name": "cursor", "in": "query", "required": False, "schema": {"type": "string"}},
        ]


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MAX_LIMIT:
        return int(text)
    raise _refusal("limit", f"Must be a whole number from 1 to {MAX_LIMIT}.")


def _encode(key: int) -> str:
    return base64.urlsafe_b64encode(key.to_bytes(8)).decode().rstrip("=")


def _decode(cursor: str) -> int:
    try:
        raw = base64.b64decode(cursor.encode() + b"=", altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    key = int.from_bytes(raw)
    if len(raw) != 8 or key > _MAX_ID:
        raise _refusal("cursor", "Must be the `next_cursor` of an earlier page.")
    return key


def _refusal(name: str, detail: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name}: {detail}", param=name, errors=[{"detail": detail, "pointer": f"/{name}"}]
    )
