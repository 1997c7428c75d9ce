"""The ledger's rows as a file: a stream of pages, resumable at any row.

Each page is read when the client has taken the one before, in the request's thread, and holds
no database connection in between: a slow reader keeps nobody else waiting.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.views import APIView

from api.pacing import EXPORTS, slow_down
from api.permissions import identity_of
from api.v1 import usage
from lib.ids import is_uuid
from lib.problems import Forbidden
from tenants.models import Tenant
from usage.export import FOR_TENANTS, FORMATS, Column, Export, Selection, settled

MOST = 100_000  # rows in one answer: some seconds
PARAMETERS = [
    OpenApiParameter("from", str, description="RFC 3339, or a date: its start. The first call."),
    OpenApiParameter("to", str, description="RFC 3339, or a date: its end. 10 minutes ago."),
    OpenApiParameter("format", str, enum=list(FORMATS), default="csv"),
    OpenApiParameter(
        "cursor", str, description="The `request_id` of the last row you have: go on after it."
    ),
    OpenApiParameter("limit", int, description=f"1 to {MOST} rows.", default=MOST),
    OpenApiParameter(
        "X-Next-Cursor",
        str,
        OpenApiParameter.HEADER,
        response=[200],
        description="The last row's `request_id`, if there are more rows than `limit`.",
    ),
]
RESPONSES: dict[Any, OpenApiResponse] = {
    (200, media.partition(";")[0]): OpenApiResponse(OpenApiTypes.STR, "A row for each call.")
    for media in FORMATS.values()
}


class AnyFormat(BaseContentNegotiation):
    """`format` is a parameter of ours here; what goes wrong is told in JSON as everywhere."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class UsageExport(APIView):
    content_negotiation_class = AnyFormat

    @extend_schema(
        operation_id="usage_export", tags=["usage"], parameters=PARAMETERS, responses=RESPONSES
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """Export your tenant's calls as CSV or JSON lines."""
        identity = identity_of(request)
        if identity.tenant_id is None:
            raise Forbidden("You act for no tenant. Staff ask /internal/v1/usage/export.")
        tenant = Tenant.objects.get(pk=identity.tenant_id)
        slow_down(request, group="exports", rate=EXPORTS, tenant=tenant.public_id)
        return answer(request.query_params, FOR_TENANTS, tenant.pk, tenant.time_zone)


def answer(
    query: Mapping[str, str],
    columns: tuple[Column, ...],
    tenant_id: int | None,
    zone: str,
    *,
    also: Iterable[str] = (),
) -> StreamingHttpResponse:
    """What the query asks for. `also` are parameters that the caller reads. Raises
    InvalidRequest."""
    for name in query:
        if name not in {"from", "to", "format", "cursor", "limit", *also}:
            raise usage.refusal(name[:80], "Unknown. Leave it out.")
    chosen = query.get("format", "csv")
    if chosen not in FORMATS:
        raise usage.refusal("format", f"Must be {' or '.join(FORMATS)}.")
    cursor = query.get("cursor", "").lower()
    if cursor and not is_uuid(cursor):
        raise usage.refusal("cursor", "Must be the `request_id` of a row you have.")
    selection = _selection(query, tenant_id, zone)
    export = Export(selection, columns, chosen)
    until, has_more = export.last(cursor, _limit(query.get("limit")))
    response = StreamingHttpResponse(_stream(export, cursor, until), content_type=FORMATS[chosen])
    response["Content-Disposition"] = f'attachment; filename="usage.{chosen}"'
    if has_more:
        response["X-Next-Cursor"] = until
    return response


def _selection(query: Mapping[str, str], tenant_id: int | None, zone: str) -> Selection:
    begin = usage.moment(query, "from", zone)
    end = usage.moment(query, "to", zone)
    if end is None:
        end = settled(dt.timedelta(milliseconds=settings.ENV.DEADLINE_MS))
    elif begin and begin >= end:
        raise usage.refusal("from", "Must be before `to`.")
    return Selection(begin, end, tenant_id)


def _limit(text: str | None) -> int:
    if text is None:
        return MOST
    if text.isascii() and text.isdigit() and len(text) < 8 and 1 <= int(text) <= MOST:
        return int(text)
    raise usage.refusal("limit", f"Must be a whole number from 1 to {MOST}.")


async def _stream(export: Export, after: str, until: str) -> AsyncIterator[bytes]:
    yield export.head()
    rows = True
    while rows and (not until or after < until):
        page, after, rows = await sync_to_async(_page)(export, after, until)
        yield page


def _page(export: Export, after: str, until: str) -> tuple[bytes, str, bool]:
    try:
        page, last, rows = export.page(after, until)
    finally:
        if not connection.in_atomic_block:  # then it is whose transaction it is
            connection.close()
    return page, last, bool(rows)
