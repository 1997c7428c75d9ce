"""The half of a meter that is the same wherever an answer is never streamed as events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from providers import openai_wire as wire
from providers.adapter import StreamFault
from providers.call import Answer, Call, Outcome, Upstream, Usage, Verdict

# What reading a document raises when it has not the form it should have.
MISREAD = (LookupError, TypeError, AttributeError, ValueError, OverflowError)


class Unstreamed:
    """What a meter knows where there are no events to come."""

    def __init__(self, call: Call, upstream: Upstream) -> None:
        self.usage: Usage | None = None
        self.output_characters = 0
        self.complete = False
        self._call = call
        self._upstream = upstream

    def close(self) -> list[bytes]:
        return []


class WholeMeter(Unstreamed, ABC):
    """A dialect adds how its answer reads in the client's words."""

    def whole(self, outcome: Outcome, body: bytes) -> Answer:
        try:
            answer = self._read(outcome.document, body)
        except MISREAD:
            raise bad_payload(f"The answer is none of {self._call.operation}.") from None
        self.complete = True
        return answer

    def feed(self, chunk: bytes) -> list[bytes]:
        raise bad_payload("The answer came as a stream, unasked.")

    @abstractmethod
    def _read(self, document: Any, body: bytes) -> Answer:
        """Notes `usage`. Raises any of MISREAD for what is no answer, and StreamFault."""
        ...


def tokens_told(told: Any) -> Usage | None:
    """A usage object, also one that tells its total only (Voyage) or in other words (OpenAI's
    images and transcripts); None when it is none."""
    usage = wire.read_usage(told)
    if usage is not None or not isinstance(told, Mapping):
        return usage
    read, made = _figure(told, "input_tokens"), _figure(told, "output_tokens")
    read = read or _figure(told, "total_tokens")
    return Usage(read, made) if read else None


def _figure(told: Mapping[str, Any], name: str) -> int:
    usage = wire.read_usage({"prompt_tokens": told.get(name)})
    return usage.input_tokens if usage else 0


def bad_payload(message: str) -> StreamFault:
    return StreamFault(Outcome(Verdict.BAD_PAYLOAD, 200, message))
