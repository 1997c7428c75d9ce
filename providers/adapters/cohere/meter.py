"""Reads Cohere's answers into OpenAI's words and counts what they used."""

from __future__ import annotations

from typing import Any

from providers.adapter import StreamFault
from providers.adapters.cohere.answer import (
    delta_of,
    finish_of,
    logprobs_of,
    message_of,
    usage_of,
)
from providers.adapters.cohere.outcome import failed_finish
from providers.call import Outcome, Usage, Verdict
from providers.openai_wire import clean_message
from providers.translation import ChatMeter, EmbeddingsMeter

_SPEAKING = frozenset(
    {
        "citation-start",
        "content-delta",
        "content-start",
        "tool-call-delta",
        "tool-call-start",
        "tool-plan-delta",
    }
)


class CohereChatMeter(ChatMeter):
    """Events of kinds that are not named here frame others, or are of tomorrow."""

    dialect = "Cohere"

    def _read_whole(self, document: Any) -> dict[str, Any]:
        self._head = self._head.named(document.get("id"), None)
        self.usage = usage_of(document.get("usage"))
        choice = {
            "message": message_of(document),
            "finish_reason": finish_of(document["finish_reason"]),
        }
        if items := document.get("logprobs"):
            choice["logprobs"] = {"content": logprobs_of(items), "refusal": None}
        return choice

    def _read_event(self, document: Any) -> list[bytes]:
        kind = document.get("type")
        if kind is None:
            raise StreamFault(_failure(document["message"]))
        if kind == "message-start":
            self._head = self._head.named(document.get("id"), None)
        if kind == "message-end":
            return [self._end(document["delta"])]
        delta = delta_of(document) if kind in _SPEAKING else {}
        if not delta:
            return []
        if item := document.get("logprobs"):
            return [self._say(delta, logprobs={"content": logprobs_of([item]), "refusal": None})]
        return [self._say(delta)]

    def _end(self, delta: Any) -> bytes:
        if failure := failed_finish(delta["finish_reason"]):
            raise StreamFault(failure)
        self.usage = usage_of(delta.get("usage"))
        self.complete = True
        return self._say({}, finish_reason=finish_of(delta["finish_reason"]))


class CohereEmbeddingsMeter(EmbeddingsMeter):
    dialect = "Cohere"

    def _vectors(self, document: Any) -> list[list[float]]:
        vectors: list[list[float]] = document["embeddings"]["float"]
        return vectors

    def _count(self, document: Any) -> Usage | None:
        billed = (document.get("meta") or {}).get("billed_units") or {}
        tokens = billed.get("input_tokens")
        return None if tokens is None else Usage(input_tokens=int(tokens))


def _failure(message: Any) -> Outcome:
    return Outcome(Verdict.UNAVAILABLE, 200, clean_message(message))
