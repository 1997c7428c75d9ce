"""Reads Gemini's answers into OpenAI's words and counts what they used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.adapter import StreamFault
from providers.adapters.gemini.answer import Reading, extra_content, read, usage_of
from providers.adapters.gemini.outcome import error_outcome, failed_finish
from providers.translation import ChatMeter, EmbeddingsMeter
from providers.whole import bad_payload


class GeminiChatMeter(ChatMeter):
    """A stream has no closing event of its own: the one with a finish reason is the last that
    says anything, and later ones only count. Counts come with every event, so far each."""

    dialect = "Gemini"
    _calls = 0

    def _read_whole(self, document: Any) -> dict[str, Any]:
        reading = self._read(document)
        if reading.finish is None:
            raise bad_payload("Gemini's answer has no candidate, and no reason why.")
        message: dict[str, Any] = {"role": "assistant", "content": reading.text}
        if reading.calls:
            message |= {"content": reading.text or None, "tool_calls": reading.calls}
        message |= _asides(reading)
        choice = {"message": message, "finish_reason": reading.finish}
        return choice | _logprobs(reading)

    def _read_event(self, document: Any) -> list[bytes]:
        if error := document.get("error"):
            raise StreamFault(error_outcome(error, 200))
        if reason := failed_finish(document):
            raise bad_payload(f"Gemini gave up: {reason}.")
        calls_before, ended = self._calls, self.complete
        reading = self._read(document)
        if ended:
            return []
        said = []
        if delta := _delta(reading, calls_before):
            said.append(self._say(delta, **_logprobs(reading)))
        if reading.finish:
            said.append(self._say({}, finish_reason=reading.finish))
            self.complete = True
        return said

    def _read(self, document: Mapping[str, Any]) -> Reading:
        self._head = self._head.named(document.get("responseId"), document.get("modelVersion"))
        seed = document.get("responseId") or self._call.request_id
        reading = read(document, seed=seed, calls_before=self._calls)
        self._calls += len(reading.calls)
        if counts := document.get("usageMetadata"):
            self.usage = usage_of(counts)
        return reading


class GeminiEmbeddingsMeter(EmbeddingsMeter):
    """Gemini does not tell what embeddings used."""

    dialect = "Gemini"

    def _vectors(self, document: Any) -> list[list[float]]:
        return [entry["values"] for entry in document["embeddings"]]


def _delta(reading: Reading, calls_before: int) -> dict[str, Any]:
    delta: dict[str, Any] = {"content": reading.text} if reading.text else {}
    if reading.calls:
        calls = enumerate(reading.calls, start=calls_before)
        delta["tool_calls"] = [{"index": index, **call} for index, call in calls]
    return delta | _asides(reading)


def _asides(reading: Reading) -> dict[str, Any]:
    """What OpenAI's shape has no field for, under the names that clients know."""
    asides: dict[str, Any] = {}
    if reading.reasoning:
        asides["reasoning_content"] = reading.reasoning
    if reading.signature:
        asides["extra_content"] = extra_content(reading.signature)
    return asides


def _logprobs(reading: Reading) -> dict[str, Any]:
    return {"logprobs": {"content": reading.logprobs, "refusal": None}} if reading.logprobs else {}
