"""Reads chat answers in OpenAI's dialect: passed on as they came, counted on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from providers import openai_wire as wire
from providers.adapter import StreamFault
from providers.adapters.openai.alike import Alike
from providers.adapters.openai.outcome import error_of, failure, is_content_filter
from providers.adapters.openai.repair import (
    FAILED_FINISHES,
    characters,
    chunk_choice,
    is_plain,
    same_choices,
    whole_choice,
)
from providers.call import Answer, Call, Outcome, Upstream, Usage, Verdict
from providers.rejection import clean_message
from providers.sse import DONE, Decoder, Event, EventTooLarge, encode

_WHOLE = "chat.completion"
_CHUNK = "chat.completion.chunk"
_LAST = "chat.completion.done"  # Perplexity's closing event, with no `[DONE]` behind it
_LOOKS = 4  # for events that are alike: where each has a padding of its own there are none
# What reading a document raises when it has not the form it should have.
_MISREAD = (LookupError, TypeError, AttributeError, ValueError)


class ChatMeter:
    def __init__(self, call: Call, upstream: Upstream) -> None:
        self.usage: Usage | None = None
        self.output_characters = 0
        self.complete = False
        self._call = call
        self._upstream = upstream
        self._decoder = Decoder()
        self._told: Mapping[str, Any] = {}
        self._head: wire.Head | None = None
        self._alike: Alike | None = None
        self._looks = _LOOKS
        self._finished = False
        self._ended = False

    def whole(self, outcome: Outcome, body: bytes) -> Answer:
        document = outcome.document
        plain = is_plain(document)
        if not plain and error_of(document):
            return self._blocked()
        try:
            choices = document["choices"]
            if not plain:
                _check_finishes(choices)
                choices = [whole_choice(c, n) for n, c in enumerate(choices)]
            self._count(document)
            self.output_characters = characters(choices[0]["message"])
            is_right = plain and self._is_told_right(document)
            if not is_right and (repairs := self._repairs(document, _WHOLE, choices)):
                document = {**document, **repairs}
                body = orjson.dumps(document)
        except _MISREAD:
            raise _bad("The answer is no chat completion.") from None
        if self._call.stream:
            self._head = wire.Head(**self._identity(document))  # for the count that follows
        self.complete = True
        return Answer(body, document)

    def feed(self, chunk: bytes) -> list[bytes]:
        said: list[bytes] = []
        try:
            for event in self._decoder.feed(chunk):
                if self._ended:
                    break
                if self._is_more_text(event):
                    said.append(b"data: " + event.data + b"\n\n")
                elif event.data == b"[DONE]":
                    self._end()
                else:
                    said += self._read(orjson.loads(event.data), event)
        except (EventTooLarge, *_MISREAD):
            raise _bad("An event of the stream is no chat completion chunk.") from None
        return said

    def close(self) -> list[bytes]:
        if not self._call.wants_usage_chunk:
            return [DONE]
        usage = self.usage or self._guess()
        shown = {**wire.usage_object(usage), **self._told, **_corrected(self._told, usage)}
        fields = {**self._identity({}), "object": _CHUNK, "choices": []}
        try:
            return [encode({**fields, "usage": shown}), DONE]
        except TypeError:  # what was told beside the figures is no JSON that can be written
            return [encode({**fields, "usage": wire.usage_object(usage)}), DONE]

    def _end(self) -> None:
        if self._head is None:
            raise _bad("The stream ended before it said anything.")
        self._ended = self.complete = True

    def _is_more_text(self, event: Event) -> bool:
        """Whether it is the event before again, but for its text, which is counted."""
        if self._alike is None or event.name:
            return False
        text = self._alike.text(event.data)
        self.output_characters += len(text or "")
        return text is not None

    def _read(self, document: dict[str, Any], event: Event) -> list[bytes]:
        self._alike = None
        error = error_of(document)
        if error or event.name == "error":
            return self._broken_off(error or document)
        told = document.get("choices") or ()
        _check_finishes(told)
        choices = [chunk_choice(c, n) for n, c in enumerate(told)]
        self._count(document)
        if not choices:
            self.complete |= self._is_last(document)
            return []  # the closing count, or Azure's filter results
        if self._head is None:
            self._head = wire.Head(**self._identity(document))
        self.output_characters += sum(characters(choice["delta"]) for choice in choices)
        self._finished |= bool(choices[0].get("finish_reason"))
        self.complete |= self._is_last(document)
        repairs = self._repairs(document, _CHUNK, choices)
        if repairs or b"\n" in event.data:
            return [encode({**document, **repairs})]
        if not self._finished and self._looks:
            self._looks -= 1
            self._alike = Alike.to(event.data, document)
        return [b"data: " + event.data + b"\n\n"]

    def _is_last(self, document: Mapping[str, Any]) -> bool:
        """Where no mark ends a stream, its finish does, or the count where one is to follow."""
        if not self._finished or document.get("object") == _LAST:
            return self._finished
        settings = self._upstream.settings
        unmarked = settings.get("done_marker", True) is False
        return unmarked and (self.usage is not None or settings.get("stream_usage") is False)

    def _count(self, document: Mapping[str, Any]) -> None:
        """The count so far; it may come in any event, and Groq has a place of its own for it."""
        told = document.get("usage") or (document.get("x_groq") or {}).get("usage") or {}
        if usage := wire.read_usage(told):
            self.usage, self._told = usage, told

    def _is_told_right(self, document: Mapping[str, Any]) -> bool:
        told = document.get("usage")
        return not told or self.usage is None or not _corrected(told, self.usage)

    def _repairs(
        self, document: Mapping[str, Any], kind: str, choices: list[dict[str, Any]]
    ) -> dict[str, Any]:
        repairs: dict[str, Any] = {}
        if document.get("object") != kind:
            repairs["object"] = kind
        if not _is_identified(document):
            repairs |= self._identity(document)
        if not same_choices(document["choices"], choices):
            repairs["choices"] = choices
        if told := document.get("usage"):
            if kind is _CHUNK:
                repairs["usage"] = None  # clients add up what chunks tell; `close` tells it once
            elif self.usage and (corrected := _corrected(told, self.usage)):
                repairs["usage"] = {**told, **corrected}
        return repairs

    def _identity(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """What all parts of one answer repeat, as the provider tells it or as we make it."""
        head = self._head or wire.Head.of(self._call, self._upstream)
        return {
            name: told if (told := document.get(name)) and isinstance(told, kind) else made
            for name, kind, made in (
                ("id", str, head.id),
                ("model", str, head.model),
                ("created", int, head.created),
            )
        }

    def _broken_off(self, error: Mapping[str, Any]) -> list[bytes]:
        """An error in a stream that began with 200. Held back by a filter, it is an answer."""
        if not is_content_filter(error):
            raise StreamFault(failure(error, 200))
        self._head = self._head or wire.Head.of(self._call, self._upstream)
        self._ended = self.complete = True
        return [wire.chunk(self._head, {}, finish_reason="content_filter")]

    def _blocked(self) -> Answer:
        """A prompt the provider blocked is an answer: empty, for the reason content_filter."""
        self.usage = Usage()
        self.complete = True
        choice = {
            "message": {"role": "assistant", "content": ""},
            "finish_reason": "content_filter",
        }
        head = wire.Head.of(self._call, self._upstream)
        return Answer(body=orjson.dumps(wire.completion(head, choice, self.usage)))

    def _guess(self) -> Usage:
        output = -(-self.output_characters // wire.CHARACTERS_PER_TOKEN)
        return Usage(wire.input_estimate(self._call), output, estimated=True)


def _check_finishes(choices: Iterable[Mapping[str, Any]]) -> None:
    """Raises StreamFault for an answer that ended in a failure."""
    for choice in choices:
        if choice.get("finish_reason") in FAILED_FINISHES:
            told = clean_message((choice.get("error") or {}).get("message"))
            words = told or "The provider gave up midway."
            raise StreamFault(Outcome(Verdict.UNAVAILABLE, 200, words))


def _is_identified(document: Mapping[str, Any]) -> bool:
    answer_id, model, created = document.get("id"), document.get("model"), document.get("created")
    right = isinstance(answer_id, str) and isinstance(model, str) and isinstance(created, int)
    return right and bool(answer_id and model and created)


def _corrected(told: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
    """The figures that must change for the contract: output counts the reasoning (xAI's does
    not), and the total is there."""
    prompt, output = usage.input_tokens, usage.output_tokens
    figures = (("prompt_tokens", prompt), ("completion_tokens", output))
    right = (*figures, ("total_tokens", prompt + output))
    return {name: figure for name, figure in right if told.get(name) != figure}


def _bad(message: str) -> StreamFault:
    return StreamFault(Outcome(Verdict.BAD_PAYLOAD, 200, message))
