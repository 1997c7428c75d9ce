"""Calls in other dialects than chat's own (providers/surfaces): translated where they come in,
and their answers where they go out.

All between is the same call, counted once, in the same limits and the same cache. What is kept
to be repeated under an Idempotency-Key is kept as it went out.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson

from gateway.exchange import EVENT_STREAM, Exchange, Send
from gateway.relay import COMMENT
from gateway.routing import Plan
from providers import openai_wire as wire
from providers.call import Call, Usage
from providers.operations import Operation, validate
from providers.surfaces import Surface


def read(exchange: Exchange, operation: Operation, document: dict[str, Any]) -> Call:
    """The chat call that a client's body asks for. Raises InvalidRequest."""
    surface = exchange.surface
    assert surface is not None  # noqa: S101 - asked only of such a call
    params = surface.chat(document)
    validate(operation, params)
    body, annotated = orjson.dumps(params), surface.annotated
    return Call(operation.name, params, body, exchange.request_id, annotated=annotated)


def translate(exchange: Exchange) -> None:
    """From now on what a provider said, or the cache, goes out in the client's dialect. What
    refuses is in it already."""
    surface = exchange.surface
    assert surface is not None  # noqa: S101 - asked only of such a call
    exchange.send_through(lambda send: _Translator(surface, send).pass_on)


def counted(call: Call, plan: Plan) -> bytes:
    """A whole answer that says nothing but how much input would be reserved for."""
    first = plan.candidates[0]
    usage = first.target.provider.adapter.estimate(call, first.upstream)
    return orjson.dumps({"usage": wire.usage_object(Usage(usage.input_tokens))})


class _Translator:
    """Stands in the way out of one answer, and sees the messages that ASGI has for it. The head
    of a whole answer waits for the body, whose length it tells."""

    def __init__(self, surface: Surface, send: Send) -> None:
        self._surface = surface
        self._send = send
        self._say: Send = send

    async def pass_on(self, message: dict[str, Any]) -> None:
        if message["type"] != "http.response.start":
            await self._say(message)
        elif message["status"] != 200:
            await self._send(message)
        elif (b"content-type", EVENT_STREAM) in message["headers"]:
            self._say = self._feed
            await self._send(message)
        else:
            self._say = partial(self._tell, message)

    async def _tell(self, head: dict[str, Any], message: dict[str, Any]) -> None:
        body = self._surface.whole(message["body"])
        length = (b"content-length", b"%d" % len(body))
        headers = [length if each[0] == length[0] else each for each in head["headers"]]
        await self._send({**head, "headers": headers})
        await self._send({**message, "body": body})

    async def _feed(self, message: dict[str, Any]) -> None:
        body, more = message["body"], message.get("more_body", False)
        said = self._surface.quiet if body == COMMENT else self._surface.feed(body)
        if said or not more:
            await self._send({**message, "body": said})
