"""One inbound request and its answer, over ASGI: reading within bounds, answering once.

Everything a client sent is untrusted: sizes are capped before bytes are kept, and what is
not JSON text of a sane depth never becomes an object.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from itertools import chain
from typing import Any

import orjson

from accounts.identity import Identity
from gateway.cursors import Cursors
from gateway.explanation import HEADER as EXPLAIN
from gateway.explanation import Explanation
from gateway.headers import kept
from lib.addresses import client_address
from lib.clock import Clock, utc
from lib.ids import is_uuid, uuid7
from lib.problems import InvalidRequest, PayloadTooLarge, Problem, UnsupportedMediaType
from providers.surfaces import Surface
from usage.reservation import HungUp, Reservation

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MAX_HEADER_BYTES = 32 * 1024
MAX_DEPTH = 100

JSON = b"application/json"
PROBLEM = b"application/problem+json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"
# Caches between us and the client know nothing of tenants, and X-API-Key does not keep them from
# storing as Authorization does (RFC 9111 §3.5). The client itself may, and asks with If-None-Match.
ITS_CALLERS = (b"cache-control", b"private, no-cache")


class Exchange:
    """What came in, and the one answer that goes out."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, clock: Clock, proxy_hops: int
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.clock = clock
        self.started = clock.monotonic()
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.request_id = uuid7()
        self.headers: list[tuple[bytes, bytes]] = [(b"x-request-id", self.request_id.encode())]
        self.limits: list[tuple[bytes, bytes]] = []  # headers that tell of the caller's limits
        self.status = 0
        self.begun = False
        self.upstream_seconds = 0.0
        self.openai = False
        self.is_sound = False  # no text may follow what was sent of it
        self.surface: Surface | None = None  # the dialect that is spoken, if not chat's own
        self.caller: Identity | None = None  # once it is known
        self.reservation: Reservation | None = None
        self.cache = b"bypass"  # what the cache had to do with the answer
        self.explains = False
        self.cursors: Cursors | None = None  # of a list
        self.explanation: Explanation | None = None
        self._send = send
        self._raw_headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._header: dict[bytes, bytes] = dict(self._raw_headers)
        self._proxy_hops = proxy_hops
        self._peer: str = (scope.get("client") or ("", 0))[0]

    def header(self, name: bytes) -> str | None:
        """A request header's value by lower-case name, or None."""
        value = self._header.get(name)
        return None if value is None else value.decode("latin-1")

    def header_bytes(self, name: bytes) -> bytes | None:
        return self._header.get(name)

    def header_list(self, name: bytes) -> str:
        """All that was said under a name: in several lines, it is one list (RFC 9110 §5.3)."""
        return ",".join([value.decode("latin-1") for n, value in self._raw_headers if n == name])

    @property
    def kept_headers(self) -> str | None:
        """What its row keeps of them."""
        return kept(self._raw_headers)

    def check_headers(self) -> None:
        """Raises Problem (431) for more than 32 KiB of them."""
        if sum(map(len, chain.from_iterable(self._raw_headers))) > MAX_HEADER_BYTES:
            raise Problem(
                "The request headers are larger than 32 KiB in all. Send fewer or shorter ones.",
                code="headers_too_large",
                status=431,
            )

    @property
    def address(self) -> str:
        """The client's address; X-Forwarded-For counts only as far as our own proxies go."""
        if not self._proxy_hops:
            return self._peer
        forwarded = [
            value.decode("latin-1")
            for name, value in self._raw_headers
            if name == b"x-forwarded-for"
        ]
        return client_address(self._peer, forwarded, self._proxy_hops)

    @property
    def client_request_id(self) -> str | None:
        """The id the client sent along, if it is a UUID; logged beside ours."""
        value = self.header(b"x-client-request-id")
        return value.lower() if value and is_uuid(value) else None

    def content_type(self, usual: bytes = b"") -> bytes:
        """The body's, without parameters. Raises UnsupportedMediaType for a compressed one."""
        if self._header.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UnsupportedMediaType("Send the body uncompressed, without Content-Encoding.")
        return self._header.get(b"content-type", usual).partition(b";")[0].strip().lower()

    async def json_body(self, max_bytes: int) -> tuple[bytes, dict[str, Any]]:
        """The body as bytes and as an object.

        Raises UnsupportedMediaType, PayloadTooLarge, InvalidRequest, HungUp.
        """
        if self.content_type(JSON) != JSON:
            raise UnsupportedMediaType
        body = await self.whole_body(max_bytes)
        return body, parse_object(body)

    async def whole_body(self, max_bytes: int) -> bytes:
        """Raises PayloadTooLarge, HungUp."""
        told = self._header.get(b"content-length", b"0")
        if told.isdigit() and int(told) > max_bytes:
            raise _too_large(max_bytes)
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise HungUp
            part = message.get("body", b"")
            size += len(part)
            if size > max_bytes:
                raise _too_large(max_bytes)
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def speak(self, surface: Surface) -> None:
        """Answer in this dialect, problems too."""
        self.surface = surface
        self.headers += surface.headers

    def send_through(self, wrap: Callable[[Send], Send]) -> None:
        """From now on what is sent passes through what `wrap` makes of the way out."""
        self._send = wrap(self._send)

    async def start(self, status: int, content_type: bytes) -> None:
        """The head of the answer, with all headers noted so far."""
        self.status = status
        self.begun = True
        self.headers.append((b"content-type", content_type))
        self.headers.append((b"server-timing", self._server_timing()))
        if self.method == "GET":
            self.headers.append(ITS_CALLERS)
        self.headers += self.limits
        await self._send({"type": "http.response.start", "status": status, "headers": self.headers})

    async def more(self, body: bytes) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self, body: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": body})

    async def answer(self, body: bytes, *, status: int = 200, content_type: bytes = JSON) -> None:
        self.headers.append((b"content-length", str(len(body)).encode()))
        await self.start(status, content_type)
        await self.end(body)

    async def refuse(self, problem: Problem) -> None:
        """The problem, in OpenAI's envelope on its routes and as RFC 9457 elsewhere; as an
        error event, which ends the stream, where one has begun. Sound just breaks off."""
        if self.begun:
            if not self.is_sound:
                await self.end(self.error_event(problem))
            return
        if self.explanation is not None:
            self._explain(self.explanation, problem)
        for name, value in problem.headers.items():
            self.headers.append((name.lower().encode(), value.encode()))
        document, content_type = self.problem_document(problem)
        await self.answer(orjson.dumps(document), status=problem.status, content_type=content_type)

    def _explain(self, explanation: Explanation, problem: Problem) -> None:
        attempts = self.reservation.attempts if self.reservation else ()
        if not self.openai:
            problem.extra["explain"] = explanation.document(attempts)
        elif all(name != EXPLAIN for name, _ in self.headers):
            self.note([explanation.header(attempts)])

    def error_event(self, problem: Problem) -> bytes:
        """What OpenAI's SDKs raise on in the middle of a stream."""
        return b"data: " + orjson.dumps(problem.as_openai(self.request_id)) + b"\n\n"

    def problem_document(self, problem: Problem) -> tuple[dict[str, Any], bytes]:
        if self.surface is not None:
            return self.surface.problem(problem), JSON
        if self.openai:
            return problem.as_openai(self.request_id), JSON
        return problem.as_problem(self.request_id, utc(self.clock.now())), PROBLEM

    def note(self, headers: Mapping[bytes, bytes] | list[tuple[bytes, bytes]]) -> None:
        """Headers for the answer's head."""
        self.headers.extend(headers.items() if isinstance(headers, Mapping) else headers)

    @property
    def elapsed(self) -> float:
        """Seconds since the request's head came."""
        return self.clock.monotonic() - self.started

    def _server_timing(self) -> bytes:
        upstream = self.upstream_seconds * 1000
        own = max(0.0, self.elapsed * 1000 - upstream)
        return b"gateway;dur=%.2f, upstream;dur=%.2f" % (own, upstream)


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises InvalidRequest, also for NaN, lone surrogates and
    nesting deeper than MAX_DEPTH."""
    if not body:
        raise InvalidRequest("The body is empty. Send a JSON object.")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        detail = f"The body is not valid JSON (line {error.lineno}, column {error.colno})."
        raise InvalidRequest(detail, errors=[{"detail": detail, "pointer": ""}]) from None
    if not isinstance(document, dict):
        raise InvalidRequest("The body must be a JSON object.")
    # Nesting costs brackets: only a body with many of them is walked.
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _deeper_than(document, MAX_DEPTH):
        raise InvalidRequest(f"The body is nested deeper than {MAX_DEPTH} levels.")
    return document


def _deeper_than(document: Any, limit: int) -> bool:
    level = [document]
    for _ in range(limit):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _too_large(max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {max_bytes} bytes. Send less at once.")
