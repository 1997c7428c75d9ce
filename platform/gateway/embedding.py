"""Vectors from our own embeddings routes: a call like any other, in the client's name, under its
limits and on its bill, with a row of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import orjson

from cache.semantic import Vector, vector_of
from gateway.exchange import Exchange, Receive, Scope, Send
from gateway.paths import Door, find

Handle = Callable[[Door, Scope, Receive, Send], Awaitable[None]]
PATH = "/api/v1/embeddings"
# Who asks, and from where; how the client wants its own answer is nothing to this one.
_PASSED_ON = frozenset({b"authorization", b"x-api-key", b"x-forwarded-for", b"traceparent"})


class Embedded(NamedTuple):
    """`space` says who made the vectors: those of two models cannot be compared."""

    vectors: list[Vector]
    space: str


async def embed(
    handle: Handle, exchange: Exchange, route: str, texts: Sequence[str], *, seconds: float
) -> Embedded | None:
    """The texts' vectors, in their order; None where they cannot be had in so many seconds.
    `route` is an alias or a model of ours."""
    door = find(PATH)
    assert door is not None  # noqa: S101 - a path of the data path's
    headers = [each for each in exchange.scope["headers"] if each[0] in _PASSED_ON]
    headers.append((b"content-type", b"application/json"))
    headers.append((b"x-patchbay-deadline-ms", b"%d" % max(1, seconds * 1000)))
    scope = {
        **exchange.scope,
        "method": "POST",
        "path": PATH,
        "query_string": b"",
        "headers": headers,
    }
    asked = {"model": route, "input": list(texts), "encoding_format": "base64"}
    answer = _Answer(orjson.dumps(asked))
    await handle(door, scope, answer.receive, answer.send)
    return answer.read(len(texts)) if answer.status == 200 else None


class _Answer:
    """Hands the request in and keeps what is answered."""

    def __init__(self, asked: bytes) -> None:
        self.status = 0
        self._left = [asked]
        self._provider = b""
        self._body = b""

    async def receive(self) -> dict[str, Any]:
        if self._left:
            return {"type": "http.request", "body": self._left.pop(), "more_body": False}
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._provider = dict(message["headers"]).get(b"x-patchbay-provider", b"")
        self._body += message.get("body", b"")

    def read(self, count: int) -> Embedded | None:
        try:
            document = orjson.loads(self._body)
            vectors = [vector_of(each["embedding"]) for each in document["data"]]
            model = document["model"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return None
        found = [each for each in vectors if each is not None]
        if not len(vectors) == len(found) == count:
            return None
        return Embedded(found, f"{self._provider.decode()}/{model}/{len(found[0])}")
