"""Reads answers in OpenAI's dialect: passed on as they came, counted on the way.

Only what OpenAI's own SDKs could not read is repaired: a missing id, object, created or
model, a finish reason outside their list, vectors that came as numbers when base64 was asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from providers import openai_wire as wire
from providers.adapter import StreamFault
from providers.adapters.openai.outcome import failure, is_content_filter
from providers.call import Answer, Call, Outcome, Upstream, Usage, Verdict
from providers.sse import DONE, Decoder, EventTooLarge, encode

_FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_RENAMED = {"model_length": "length", "eos": "stop", "end_turn": "stop", "max_tokens": "length"}


class ChatMeter:
    def __init__(self, call: Call, upstream: Upstream) -> None:
        self.usage: Usage | None = None
        self.output_characters = 0
        self.complete = False
        self._call = call
        self._upstream = upstream
        self._decoder = Decoder()
        self._finished = False
        self._usage_event = b""
        self._last: dict[str, Any] = {}

    def whole(self, outcome: Outcome, body: bytes) -> Answer:
        document = outcome.document
        if isinstance(document.get("error"), dict):
            return self._blocked()
        try:
            message = document["choices"][0]["message"]
            self.output_characters = _characters(message)
        except (LookupError, TypeError, AttributeError):
            raise _bad("The answer has no message.") from None
        self.usage = wire.read_usage(document.get("usage"))
        self.complete = True
        repairs = self._repairs(document, "chat.completion")
        return Answer(body=orjson.dumps({**document, **repairs}) if repairs else body)

    def feed(self, chunk: bytes) -> list[bytes]:
        try:
            events = self._decoder.feed(chunk)
        except EventTooLarge:
            raise _bad("An event of the stream is too large.") from None
        said: list[bytes] = []
        for event in events:
            if event.data == b"[DONE]":
                self.complete = True
            elif not self.complete:
                said += self._event(event.data)
        return said

    def close(self) -> list[bytes]:
        if not self._call.wants_usage_chunk:
            return [DONE]
        return [self._usage_event or self._own_usage_event(), DONE]

    def _event(self, data: bytes) -> list[bytes]:
        try:
            document = orjson.loads(data)
            choices = document.get("choices")
        except (orjson.JSONDecodeError, AttributeError):
            raise _bad("An event of the stream is not JSON.") from None
        if document.get("error"):
            raise StreamFault(_stream_failure(document["error"]))
        told = document.get("usage") or (document.get("x_groq") or {}).get("usage")
        if told and (usage := wire.read_usage(told)):
            self.usage = usage
        if not choices:
            if told:
                self._usage_event = b"data: " + data + b"\n\n"
            return []  # Azure's first event tells filter results and no choice
        try:
            return self._choice(document, choices[0], data)
        except (LookupError, TypeError, AttributeError):
            raise _bad("An event of the stream is no chat completion chunk.") from None

    def _choice(self, document: dict[str, Any], choice: dict[str, Any], data: bytes) -> list[bytes]:
        self._last = document
        self.output_characters += _characters(choice.get("delta") or {})
        if choice.get("finish_reason"):
            self._finished = True
            if self._upstream.settings.get("done_marker", True) is False:
                self.complete = True
        repairs = self._repairs(document, "chat.completion.chunk")
        return [encode({**document, **repairs}) if repairs else b"data: " + data + b"\n\n"]

    def _repairs(self, document: Mapping[str, Any], kind: str) -> dict[str, Any]:
        repairs: dict[str, Any] = {}
        if document.get("object") != kind:
            repairs["object"] = kind
        if not all(document.get(field) for field in ("id", "created", "model")):
            head = wire.Head.of(self._call, self._upstream)
            repairs |= {
                field: document.get(field) or getattr(head, field)
                for field in ("id", "created", "model")
            }
        choice = document["choices"][0]
        reason = choice.get("finish_reason")
        if reason is not None and reason not in _FINISHES:
            repaired = {**choice, "finish_reason": _RENAMED.get(reason, "stop")}
            repairs["choices"] = [repaired, *document["choices"][1:]]
        return repairs

    def _own_usage_event(self) -> bytes:
        """For services that count in their last chunk, or not at all."""
        head = wire.Head.of(self._call, self._upstream)
        if self._last.get("id"):
            head = wire.Head(self._last["id"], self._last.get("model") or head.model, head.created)
        output = -(-self.output_characters // wire.CHARACTERS_PER_TOKEN)
        guess = Usage(wire.input_estimate(self._call), output, estimated=True)
        return wire.usage_chunk(head, self.usage or guess)

    def _blocked(self) -> Answer:
        """A prompt the provider blocked is an answer: empty, for the reason content_filter."""
        self.usage = Usage()
        self.complete = True
        message = {"role": "assistant", "content": ""}
        head = wire.Head.of(self._call, self._upstream)
        choice = {"message": message, "finish_reason": "content_filter"}
        return Answer(body=orjson.dumps(wire.completion(head, choice, self.usage)))


class EmbeddingsMeter:
    def __init__(self, call: Call, upstream: Upstream) -> None:
        self.usage: Usage | None = None
        self.output_characters = 0
        self.complete = False
        self._call = call
        self._upstream = upstream

    def whole(self, outcome: Outcome, body: bytes) -> Answer:
        document = outcome.document
        try:
            vectors = [entry["embedding"] for entry in document["data"]]
            tokens = (document.get("usage") or {}).get("prompt_tokens")
        except (LookupError, TypeError, AttributeError):
            raise _bad("The answer holds no embeddings.") from None
        if isinstance(tokens, int):
            self.usage = Usage(input_tokens=tokens)
        self.complete = True
        if self._call.params.get("encoding_format") != "base64" or isinstance(vectors[0], str):
            return Answer(body=body)
        usage = self.usage or Usage(wire.input_estimate(self._call), estimated=True)
        packed = wire.embeddings(vectors, model=self._upstream.model, usage=usage, base64=True)
        return Answer(body=orjson.dumps(packed))

    def feed(self, chunk: bytes) -> list[bytes]:
        raise _bad("Embeddings are never streamed.")

    def close(self) -> list[bytes]:
        return []


def _characters(message: Mapping[str, Any]) -> int:
    """The output in a message or delta: text, refusal, reasoning, and the calls it makes."""
    count = 0
    for field in ("content", "reasoning_content", "reasoning", "refusal"):
        text = message.get(field)
        if isinstance(text, str):
            count += len(text)
    for tool_call in message.get("tool_calls") or ():
        function = tool_call.get("function") or {}
        count += len(function.get("arguments") or "") + len(function.get("name") or "")
    return count


def _stream_failure(error: Any) -> Outcome:
    """An error event in a stream that began with 200."""
    error = error if isinstance(error, Mapping) else {"message": str(error)}
    if is_content_filter(error):
        return Outcome(Verdict.BLOCKED, 200, "The provider's filter stopped the answer.")
    code = error.get("code")
    return failure(error, code if isinstance(code, int) and 400 <= code < 600 else 200)


def _bad(message: str) -> StreamFault:
    return StreamFault(Outcome(Verdict.BAD_PAYLOAD, 200, message))
