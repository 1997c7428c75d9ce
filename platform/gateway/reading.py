"""What a call asks for: read from its body, its form or its query, and checked by its
operation's schema."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from gateway import aggregating, cursors, surfacing
from gateway.aggregating import FIRST
from gateway.cursors import Cursors
from gateway.exchange import Exchange
from gateway.explanation import HEADER as EXPLAIN
from gateway.forms import read_form
from gateway.routing import Narrowing, Plan
from lib.problems import InvalidRequest
from providers.call import Call
from providers.operations import Kind, Operation, parse_query, validate

DEADLINE = b"x-patchbay-deadline-ms"


@dataclass(frozen=True, slots=True)
class Reading:
    """With the most bytes that a body may have, a form with a file, and the most seconds that a
    call may take."""

    cursors: Cursors
    max_body: int
    max_upload: int
    seconds: float

    async def read(self, exchange: Exchange, operation: Operation) -> tuple[Call, Narrowing, bytes]:
        """The call, validated, and its body as it came; of a form none. Raises InvalidRequest,
        and what Exchange.json_body and read_form raise."""
        if operation.kind is Kind.DATA:
            return self._read_query(exchange, operation)
        exchange.explains = exchange.header_bytes(EXPLAIN) == b"true"
        if operation.kind is Kind.TRANSCRIPTION:
            return await read_form(exchange, operation, self.max_upload), Narrowing(), b""
        body, params = await exchange.json_body(self.max_body)
        if exchange.surface is not None:
            return surfacing.read(exchange, operation, params), Narrowing(), body
        if operation.default_model:
            params.setdefault("model", operation.default_model)
        validate(operation, params)
        return Call(operation.name, params, body, exchange.request_id), Narrowing(), body

    def deadline(self, exchange: Exchange, plan: Plan) -> float:
        """The loop's time by which the call must have ended. Raises InvalidRequest."""
        seconds = min(plan.timeouts.total, self.seconds)
        asked = exchange.header(DEADLINE)
        if asked is not None:
            seconds = min(seconds, _milliseconds(asked) / 1000)
        return asyncio.get_running_loop().time() + seconds

    def _read_query(
        self, exchange: Exchange, operation: Operation
    ) -> tuple[Call, Narrowing, bytes]:
        """Raises InvalidRequest."""
        call, narrowing, exchange.explains = read_data(
            operation, exchange.query, exchange.request_id
        )
        if operation.is_list:
            exchange.cursors = self.cursors
            if (cursor := call.params.get("cursor")) is not None:
                narrowing = self._go_on(operation, call.params, cursor, narrowing)
        return call, narrowing, b""

    def _go_on(
        self, operation: Operation, params: dict[str, Any], cursor: str, narrowing: Narrowing
    ) -> Narrowing:
        """A cursor belongs to the provider that gave it. Raises InvalidRequest."""
        provider, params["cursor"] = self.cursors.open(operation.name, cursor)
        if narrowing.provider not in ("", provider):
            raise cursors.refusal(
                f"This cursor goes on with {provider}. Leave `provider` out, or begin again there "
                "without `cursor`."
            )
        return Narrowing(provider, narrowing.fallback)


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


def _milliseconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:10]) <= 3_600_000):
        raise InvalidRequest("X-Patchbay-Deadline-Ms must be a whole number from 1 to 3600000.")
    return int(text)
