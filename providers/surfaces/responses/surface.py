"""OpenAI's Responses API over every provider's models, but for what is kept between calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from lib.problems import Problem
from providers.surfaces.responses.request import chat_of
from providers.surfaces.responses.stream import ResponseStream, is_end
from providers.surfaces.surface import Form, read_schemas

_SCHEMAS = read_schemas(Path(__file__).with_name("schema.yaml"))


class Responses:
    """Of one call."""

    quiet = b": keep-alive\n\n"

    def __init__(self, request_id: str) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.annotated = False
        self._request_id = request_id
        self._stream = ResponseStream(request_id)

    def chat(self, document: dict[str, Any]) -> dict[str, Any]:
        RESPONSES.check(document)
        params = chat_of(document)
        self._stream.asked = document
        self.annotated = any("extra_content" in message for message in params["messages"])
        return params

    def whole(self, body: bytes) -> bytes:
        return orjson.dumps(self._stream.whole(orjson.loads(body)))

    def feed(self, chunk: bytes) -> bytes:
        return self._stream.feed(chunk)

    def problem(self, problem: Problem) -> dict[str, Any]:
        return problem.as_openai(self._request_id)

    def is_end(self, stream: bytes) -> bool:
        return is_end(stream)


RESPONSES = Form(
    "responses",
    "/api/v1/responses",
    "The next message of a conversation, in the form of OpenAI's Responses API.",
    request_schema=_SCHEMAS["request"],
    response_schema=_SCHEMAS["response"],
    speak=Responses,
)
