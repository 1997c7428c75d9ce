"""The sandbox's ASGI app: read the request, find who is meant, answer as told, write it down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import orjson

from providers.sandbox.calls import CallRecord, Calls, now
from providers.sandbox.control import PREFIX, Control
from providers.sandbox.definitions import Definitions
from providers.sandbox.delivery import Delivery, deliver
from providers.sandbox.dialects import DIALECTS, Dialect
from providers.sandbox.dialects.dialect import TOKEN, UNBILLED, Answer, Event, Refused, Request
from providers.sandbox.examples import DataProvider, data_provider
from providers.sandbox.faults import NO_FAULT, Cut, Fault, FaultBook, FaultError, parse
from providers.sandbox.journal import Journal
from providers.sandbox.wire import TRANSPORT, Send, Wire

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class Sandbox:
    """One server that plays every provider. See control.py for /_sandbox and faults.py."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.faults = FaultBook()
        self.calls = Calls()
        self._journal = journal or Journal()
        self._definitions = Definitions()
        self._control = Control(self.faults, self.calls, self._definitions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = await _read(receive)
        if body is None:
            return
        wire = Wire(send, scope.get("extensions", {}).get(TRANSPORT))
        path, query = scope["path"], scope["query_string"].decode("latin-1")
        if path.startswith(PREFIX):
            answer = self._control.respond(scope["method"], path.removeprefix(PREFIX), query, body)
            await _reply(wire, *answer)
            return
        request = _request(scope, query, body)
        record = self.calls.begin(request.provider, request.headers.get("x-client-request-id", ""))
        try:
            await self._watched(request, record, wire, receive)
        finally:
            record.finished = wire.finished and not wire.is_cut
            record.ended_at = now()
            if record.operation not in UNBILLED:
                self._journal.append(record.as_json())
            self.calls.end(record)

    async def _watched(
        self, request: Request, record: CallRecord, wire: Wire, receive: Receive
    ) -> None:
        """Answers, and stops at once when the client hangs up."""
        answering = asyncio.create_task(self._answer(request, record, wire))
        gone = asyncio.create_task(_hang_up(receive))
        try:
            await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
            record.hung_up = not wire.finished and not wire.is_cut and _left(answering, gone)
            if wire.is_closed:
                # The server must see the closed connection before this call returns.
                await gone
        finally:
            for task in (answering, gone):
                task.cancel()
            await asyncio.gather(answering, gone, return_exceptions=True)
        if answering.done() and not answering.cancelled():
            answering.result()

    async def _answer(self, request: Request, record: CallRecord, wire: Wire) -> None:
        speaker = self._speaker(request)
        operation = speaker.operation(request) if speaker else None
        if speaker is None or operation is None:
            record.status = 404
            await _reply(wire, 404, {"error": "The sandbox knows no such path."})
            return
        record.operation = operation
        record.model = TOKEN if operation == TOKEN else _model(request)
        try:
            fault = self._fault(request, record.model)
        except FaultError as error:
            record.status = 400
            await _reply(wire, 400, {"error": f"x-sandbox-fault: {error}"})
            return
        record.fault = fault != NO_FAULT
        if fault.no_first_byte:
            await asyncio.Event().wait()
        await asyncio.sleep(fault.delay_ms / 1000)
        answer = _answered(speaker, request, operation, fault)
        record.model, record.stream = answer.model or record.model, answer.events is not None
        record.status, record.input_tokens = answer.status, answer.input_tokens
        await _play(deliver(answer, fault, speaker.broken_off()), fault, wire, record)

    def _speaker(self, request: Request) -> Dialect | None:
        slug = request.provider
        return self._definitions.provider(slug) or data_provider(slug) or _dialect(request)

    def _fault(self, request: Request, model: str) -> Fault:
        """The header's fault, else the scripted one. Raises FaultError."""
        spec = request.headers.get("x-sandbox-fault", "")
        fault = parse(spec) if spec else NO_FAULT
        if not spec or not fault.concerns(request.provider, model):
            fault = self.faults.take(request.provider, model)
        if pace := request.headers.get("x-sandbox-pace-ms"):
            fault = replace(fault, pace_ms=parse(f"pace_ms={pace}").pace_ms)
        return fault


def _request(scope: Scope, query: str, body: bytes) -> Request:
    provider, _, path = scope["path"].removeprefix("/").partition("/")
    # Percent-escapes are still in raw_path: a data provider's path must keep them.
    raw = scope.get("raw_path", b"").decode("latin-1").removeprefix("/").partition("/")[2]
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return Request(provider, scope["method"], "/" + (raw or path), query, headers, body)


def _dialect(request: Request) -> Dialect | None:
    return next((dialect for dialect in DIALECTS if dialect.operation(request)), None)


def _model(request: Request) -> str:
    """The model asked for, wherever the dialect has it, without judging the request."""
    if "/models/" in request.path:
        return request.path.rpartition("/models/")[2].partition(":")[0]
    if request.path.startswith("/model/"):
        return unquote(request.path.removeprefix("/model/").partition("/")[0])
    try:
        document = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        return ""
    return str(document.get("model", "")) if isinstance(document, dict) else ""


def _answered(speaker: Dialect, request: Request, operation: str, fault: Fault) -> Answer:
    try:
        if fault.status is not None and fault.status >= 300:
            raise Refused(fault.status, code=fault.code, retry_after=fault.retry_after)
        if fault.example and isinstance(speaker, DataProvider):
            return speaker.named(fault.example, request, operation)
        return speaker.answer(replace(request, with_usage=not fault.no_usage), operation)
    except Refused as refused:
        return speaker.refusal(request, refused, operation)


async def _play(delivery: Delivery, fault: Fault, wire: Wire, record: CallRecord) -> None:
    if fault.slow_headers:
        await _play_slowly(delivery, fault, wire, record)
        return
    await wire.start(delivery.status, delivery.headers, length=delivery.length)
    # The last part goes out in one write with the end of the body: a client that leaves once it
    # has read all it needs must not look as if it had left before.
    held: Event | None = None
    for count, part in enumerate(delivery.parts):
        if held:
            await wire.write(held.data)
            record.count(held.tokens, is_event=delivery.is_stream)
        if count == delivery.pause_after:
            await _break_off(part.data, fault, wire)
            return
        if count:
            # Even without a pace, others get their turn: a hang-up must be seen between events.
            await asyncio.sleep(fault.pace_ms / 1000)
        held = part
    await wire.finish(held.data if held else b"")
    if held and wire.finished:
        record.count(held.tokens, is_event=delivery.is_stream)
    wire.is_cut = not delivery.is_whole


async def _play_slowly(delivery: Delivery, fault: Fault, wire: Wire, record: CallRecord) -> None:
    parts = list(delivery.parts)
    body = b"".join(part.data for part in parts)
    await wire.dribble(delivery.status, delivery.headers, body, seconds=fault.slow_headers / 1000)
    for part in parts:
        record.count(part.tokens, is_event=delivery.is_stream)


async def _break_off(rest: bytes, fault: Fault, wire: Wire) -> None:
    if fault.cut_after is None:
        await asyncio.Event().wait()
    if fault.cut is Cut.MID:
        await wire.write(rest[: len(rest) // 2])
    wire.cut(reset=fault.cut is Cut.RESET)


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None when the client left before its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _left(answering: asyncio.Task[None], gone: asyncio.Task[None]) -> bool:
    """The client is gone: seen by the watcher, or by the wire at its last byte."""
    return gone.done() or (answering.done() and answering.exception() is None)


async def _reply(wire: Wire, status: int, document: Any) -> None:
    body = orjson.dumps(document)
    await wire.start(status, {"content-type": "application/json"}, length=len(body))
    await wire.finish(body)
