"""What a whole JSON answer passes on its way out, whoever gave it: an ETag for what may be asked
for again, and the compression that the client asked for.

Streams, files and pages go as they are. Pages are never compressed: they hold what their reader
typed beside what only they may know, and the size would tell of it (BREACH).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Any

from lib.compression import CODINGS

Scope = dict[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

LEAST_BYTES = 1024  # what is smaller gains nothing
MOST_BYTES = 1024 * 1024  # what is larger would hold up the other calls of the worker
_JSON = re.compile(rb"application/(?:[\w.+-]+\+)?json(?:;|\Z)")
_CODING = re.compile(rb"\s*([\w*-]+)\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*)?\Z", re.IGNORECASE)
_TAG = re.compile(rb'(?:W/)?("[^"]*")')
_OF_THE_BODY = frozenset({b"content-length", b"content-type"})


def outgoing(scope: Scope, send: Send) -> Send:
    """The way out for an answer to that request: `send` itself, where nothing can change."""
    accepted = tag = b""
    for name, value in scope["headers"]:
        if name == b"accept-encoding":  # said in several lines, it is one list
            accepted += b"," + value
        elif name == b"if-none-match":
            tag += b"," + value
    is_get = scope["method"] == "GET"
    coding = chosen(accepted) if accepted else b""
    return _Answer(send, coding, tag, is_get=is_get) if coding or is_get else send


def chosen(accepted: bytes) -> bytes:
    """The coding for an Accept-Encoding (RFC 9110 §12.5.3): the best of those that the client
    likes most; nothing where it takes none of ours, or would rather have none."""
    likes: dict[bytes, float] = {}
    for part in accepted.split(b","):
        found = _CODING.match(part)
        if found:
            likes[found[1].lower()] = float(found[2] or 1)
    rest = likes.get(b"*", 0.0)
    liked = max(CODINGS, key=lambda name: likes.get(name, rest))  # of equals, the first
    weight = likes.get(liked, rest)
    return liked if weight > 0 and weight >= likes.get(b"identity", 0.0) else b""


class _Answer:
    """Passes an answer on. One that is whole and JSON is held until all of it is here."""

    __slots__ = ("_coding", "_is_get", "_parts", "_send", "_start", "_tag")

    def __init__(self, send: Send, coding: bytes, tag: bytes, *, is_get: bool) -> None:
        self._send = send
        self._coding = coding
        self._tag = tag
        self._is_get = is_get
        self._start: dict[str, Any] | None = None
        self._parts: list[bytes] = []

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start" and _is_whole_json(message["headers"]):
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                start, body = self._finished(self._start, b"".join(self._parts))
                await self._send(start)
                await self._send({"type": "http.response.body", "body": body})

    def _finished(self, start: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        headers: Headers = [(name.lower(), value) for name, value in start["headers"]]
        is_small = len(body) < LEAST_BYTES
        if not is_small:
            headers.append((b"vary", b"accept-encoding"))
        if self._is_get and start["status"] == 200:
            known = _known_tag(headers, body)
            if self._tag and _matches(self._tag, known):
                kept = [each for each in headers if each[0] not in _OF_THE_BODY]
                return start | {"status": 304, "headers": kept}, b""
        if self._coding and not is_small:
            body = CODINGS[self._coding](body)
            headers = [each for each in headers if each[0] != b"content-length"]
            headers.append((b"content-encoding", self._coding))
            headers.append((b"content-length", str(len(body)).encode()))
        return start | {"headers": headers}, body


def _is_whole_json(headers: Headers) -> bool:
    """Whether it says how long it is, which is not too long, is JSON, and not compressed."""
    told = {name.lower(): value for name, value in headers}
    length = told.get(b"content-length", b"")
    return (
        length.isdigit()
        and int(length) <= MOST_BYTES
        and b"content-encoding" not in told
        and _JSON.match(told.get(b"content-type", b"").lower()) is not None
    )


def _known_tag(headers: Headers, body: bytes) -> bytes:
    """The answer's ETag; one that has none gets one. It is weak, since it stands for the answer
    however that is compressed (RFC 9110 §8.8.1)."""
    for name, value in headers:
        if name == b"etag":
            return value
    tag = b'W/"%b"' % hashlib.blake2b(body, digest_size=12).hexdigest().encode()
    headers.append((b"etag", tag))
    return tag


def _matches(asked: bytes, tag: bytes) -> bool:
    """If-None-Match (RFC 9110 §13.1.2), by the weak comparison."""
    ours = _TAG.match(tag)
    return asked.strip(b" \t,") == b"*" or (ours is not None and ours[1] in _TAG.findall(asked))
