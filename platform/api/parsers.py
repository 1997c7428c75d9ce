"""Reads request bodies: bounded, plain JSON only (no NaN, no deep nesting, no duplicate forms)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import orjson
from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from lib.problems import InvalidRequest, PayloadTooLarge, UnsupportedMediaType


class JsonParser(BaseParser):
    """A JSON object. Depth is bounded by orjson (1024), size by DATA_UPLOAD_MAX_MEMORY_SIZE."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        request: Request | None = (parser_context or {}).get("request")
        encoding = request.headers.get("Content-Encoding") if request else None
        if encoding not in (None, "identity"):
            raise UnsupportedMediaType("Send the body uncompressed.")
        return _object(_bounded(stream))


def _bounded(stream: IO[Any]) -> bytes:
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    body: bytes = stream.read(limit + 1)
    if len(body) > limit:
        raise PayloadTooLarge(f"The body is larger than {limit} bytes. Send less at once.")
    return body


def _object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ParseError from None
    if not isinstance(value, dict):
        raise InvalidRequest(
            "The body must be a JSON object.", errors=[{"detail": "Not an object.", "pointer": ""}]
        )
    return value
