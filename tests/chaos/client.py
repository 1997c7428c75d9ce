"""A client that keeps every byte it was sent, however the connection ended.

Client libraries, asyncio's own StreamReader included, drop what they have buffered when a
connection breaks. Here those bytes are the evidence: who got them must find a ledger row.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

CHAT = "/api/v1/chat/completions"
SECONDS = 30.0  # no call of a test takes longer; a hanging one fails it
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Seen:
    """What a client saw of one call: the answer as it came over the wire, or its beginning."""

    raw: bytes
    streamed: bool
    begun: float = 0.0
    ended: float = 0.0
    """When the call was sent and the connection ended, on the loop's clock (seconds)."""

    @cached_property
    def headers(self) -> dict[str, str]:
        """Lower-case names; empty when the head did not come whole."""
        head, end, _ = self.raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")[1:] if end else []
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def status(self) -> int:
        return int(self.raw[9:12]) if self.headers else 0

    @property
    def request_id(self) -> str:
        return self.headers.get("x-request-id", "")

    @property
    def body(self) -> bytes:
        """Of a stream, with the chunks' frames around its events."""
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def events(self) -> int:
        return self.body.count(b"data: ")

    @property
    def done(self) -> bool:
        """The stream said that it is complete."""
        return DONE in self.body

    @cached_property
    def whole(self) -> bool:
        """The last byte came: `[DONE]`, or the whole of a JSON document."""
        if self.streamed:
            return self.done
        if len(self.body) != int(self.headers.get("content-length", -1)):
            return False
        return isinstance(json.loads(self.body), dict)


class _Wire(asyncio.Protocol):
    def __init__(self) -> None:
        self.raw = bytearray()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.raw += data

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(None)


async def call(port: int, key: str, ask: dict[str, Any], **headers: str) -> Seen:
    """One call on a connection of its own. Raises OSError when nobody listens: then it was
    never made. A connection that breaks is an answer: as much of it as came."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(SECONDS):
        transport, wire = await loop.create_connection(_Wire, "127.0.0.1", port)
        begun = loop.time()
        try:
            transport.write(_request(key, ask, headers))
            await wire.over
        finally:
            transport.abort()
    return Seen(bytes(wire.raw), ask.get("stream") is True, begun, loop.time())


def _request(key: str, ask: dict[str, Any], headers: dict[str, str]) -> bytes:
    body = json.dumps(ask).encode()
    told = {
        "Host": "patchbay.test",
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"POST {CHAT} HTTP/1.1\r\n{lines}\r\n".encode() + body


def prompt(words: int, number: int, *, stream: bool) -> dict[str, Any]:
    """The sandbox's answer echoes it, a token for each word; in a stream, an event."""
    text = " ".join([f"call-{number}", *("word" for _ in range(words))])
    return {
        "model": "lab/gpt-x",
        "messages": [{"role": "user", "content": text}],
        "stream": stream,
    }
