"""Reads a data operation's call from its query string."""

from __future__ import annotations

from urllib.parse import parse_qsl

from gateway import aggregating
from gateway.aggregating import FIRST
from gateway.routing import Narrowing
from lib.problems import InvalidRequest
from providers.call import Call
from providers.operations import Operation, parse_query, validate


def read_data(operation: Operation, query: bytes, request_id: str) -> tuple[Call, Narrowing, bool]:
    """The call, validated; what it wishes; whether it wants the choice of provider explained.
    Raises InvalidRequest."""
    params = parse_query(operation, _pairs(query))
    validate(operation, params)
    narrowing = Narrowing(params.pop("provider", ""), params.pop("fallback", True))
    strategy = params.pop("strategy", FIRST)
    if strategy != FIRST:
        narrowing = aggregating.narrowed(params, narrowing, strategy)
    explains = params.pop("explain", False)
    extra = params.pop("include", "") == "extra"
    return Call(operation.name, params, b"", request_id, extra), narrowing, explains


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    try:
        text = raw.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise InvalidRequest(
            "The query string is not valid: percent-encode it as UTF-8, 100 fields at most."
        ) from None
