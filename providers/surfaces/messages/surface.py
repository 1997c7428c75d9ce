"""Anthropic's Messages API over every provider's models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from lib.problems import Problem
from providers.surfaces.messages.answer import message_of
from providers.surfaces.messages.errors import envelope
from providers.surfaces.messages.request import chat_of
from providers.surfaces.messages.stream import LAST, PING, MessageStream
from providers.surfaces.surface import Form, read_schemas

_SCHEMAS = read_schemas(Path(__file__).with_name("schema.yaml"))


class Messages:
    """Of one call."""

    quiet = PING
    annotated = True

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self.headers = [(b"request-id", request_id.encode())]
        self._stream = MessageStream()

    def chat(self, document: dict[str, Any]) -> dict[str, Any]:
        MESSAGES.check(document)
        return chat_of(document)

    def whole(self, body: bytes) -> bytes:
        return orjson.dumps(message_of(orjson.loads(body)))

    def feed(self, chunk: bytes) -> bytes:
        return self._stream.feed(chunk)

    def problem(self, problem: Problem) -> dict[str, Any]:
        return envelope(problem, self._request_id)

    def is_end(self, stream: bytes) -> bool:
        return stream.endswith(LAST)


class Counting(Messages):
    """Of a call that only asks how long its input is."""

    def chat(self, document: dict[str, Any]) -> dict[str, Any]:
        COUNT_TOKENS.check(document)
        return chat_of(document)

    def whole(self, body: bytes) -> bytes:
        return orjson.dumps({"input_tokens": orjson.loads(body)["usage"]["prompt_tokens"]})


def _form(name: str, path: str, summary: str, **fields: Any) -> Form:
    problem_schema = _SCHEMAS["error"]
    return Form(name, f"/api/v1/{path}", summary, problem_schema=problem_schema, **fields)


MESSAGES = _form(
    "messages",
    "messages",
    "The next message of a conversation, in the form of Anthropic's Messages API.",
    request_schema={**_SCHEMAS["request"], "required": ["model", "messages", "max_tokens"]},
    response_schema=_SCHEMAS["response"],
    speak=Messages,
)
COUNT_TOKENS = _form(
    "messages.count_tokens",
    "messages/count_tokens",
    "How many tokens a message's input has, estimated.",
    request_schema=_SCHEMAS["request"],
    response_schema=_SCHEMAS["counted"],
    speak=Counting,
    counts=True,
)
