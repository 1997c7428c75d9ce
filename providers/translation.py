"""What the dialects share that are no OpenAI dialect: which fields ask for nothing, and how a
stream of their events becomes a stream of OpenAI's chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping
from typing import Any

import orjson

from lib.problems import InvalidRequest
from providers import openai_wire as wire
from providers import sse
from providers.adapter import Unsupported
from providers.call import Answer, Call, Outcome, Upstream, Usage
from providers.whole import Unstreamed, bad_payload

# What reading a document raises when it has not the form it should have.
MISREAD = (TypeError, KeyError, AttributeError, ValueError, OverflowError)

# Fields that say who asks or how to deliver: the gateway's business, or no provider's.
_ABOUT_THE_CALL = frozenset(
    {
        "metadata",
        "model",
        "prompt_cache_key",
        "safety_identifier",
        "stream",
        "stream_options",
        "user",
    }
)
# The values that ask for what every provider does anyway.
_NOTHING_ASKED: Mapping[str, tuple[Any, ...]] = {
    "logit_bias": ({},),
    "modalities": (["text"],),
    "n": (1,),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
}


def refuse_others(params: Mapping[str, Any], expressed: Container[str], dialect: str) -> None:
    """Raises Unsupported for the first field that is not in `expressed`, unless it is null,
    asks for nothing, or tells nothing that a provider needs."""
    for field, value in params.items():
        if value is None or field in expressed or field in _ABOUT_THE_CALL:
            continue
        if value not in _NOTHING_ASKED.get(field, ()):
            raise Unsupported(field, f"{dialect} cannot express {field!r} with this value.")


def stop_list(params: Mapping[str, Any]) -> list[str]:
    """`stop`, which may be one string."""
    stop = params.get("stop") or []
    return [stop] if isinstance(stop, str) else list(stop)


def embedding_texts(params: Mapping[str, Any], dialect: str) -> list[str]:
    """`input` as texts. Raises Unsupported for arrays of tokens, which only the maker of a
    tokenizer can read."""
    texts = params["input"]
    texts = [texts] if isinstance(texts, str) else texts
    if not all(isinstance(text, str) for text in texts):
        raise Unsupported("input", f"{dialect} embeds texts; send strings, not tokens.")
    return list(texts)


def encoded(
    build: Callable[[Call, Upstream], dict[str, Any]], call: Call, upstream: Upstream
) -> bytes:
    """The body that `build` makes. Raises InvalidRequest when a field has not the form that
    OpenAI's API gives it, on which `build` may rely."""
    try:
        return orjson.dumps(build(call, upstream))
    except MISREAD:
        raise InvalidRequest(
            "A field inside `messages`, `tools` or another list lacks a part or has a wrong type."
        ) from None


class ChatMeter(ABC):
    """The half of a chat meter that is the same for every translated dialect: bytes to events,
    deltas to chunks. A dialect adds `_read_whole` and `_read_event`."""

    dialect = ""

    def __init__(self, call: Call, upstream: Upstream) -> None:
        self.usage: Usage | None = None
        self.output_characters = 0
        self.complete = False
        self._call = call
        self._upstream = upstream
        self._head = wire.Head.of(call, upstream)
        self._decoder = sse.Decoder()
        self._begun = False

    def whole(self, outcome: Outcome, body: bytes) -> Answer:
        try:
            choice = self._read_whole(outcome.document)
        except MISREAD:
            raise bad_payload(f"The answer is not of {self.dialect}'s form.") from None
        self.output_characters = characters(choice["message"])
        self.complete = True
        return Answer(body=orjson.dumps(wire.completion(self._head, choice, self._counted())))

    def feed(self, chunk: bytes) -> list[bytes]:
        said: list[bytes] = []
        try:
            for event in self._decoder.feed(chunk):
                if event.data != b"[DONE]":
                    said += self._read_event(orjson.loads(event.data))
        except (sse.EventTooLarge, *MISREAD):
            raise bad_payload(f"An event is not of {self.dialect}'s form.") from None
        return said

    def close(self) -> list[bytes]:
        if not self._call.wants_usage_chunk:
            return [sse.DONE]
        return [wire.usage_chunk(self._head, self._counted()), sse.DONE]

    @abstractmethod
    def _read_whole(self, document: Any) -> dict[str, Any]:
        """OpenAI's only choice. Notes `usage`, and may set `_head`."""
        ...

    @abstractmethod
    def _read_event(self, document: Any) -> list[bytes]:
        """The chunks that one event makes. Notes `usage` and `complete`."""
        ...

    def _say(self, delta: dict[str, Any], **choice: Any) -> bytes:
        """One chunk. The first one names the role."""
        self.output_characters += characters(delta)
        if not self._begun:
            delta = {"role": "assistant", **delta}
            self._begun = True
        return wire.chunk(self._head, delta, **choice)

    def _counted(self) -> Usage:
        """What the provider told, or else an estimate, flagged."""
        if self.usage is not None:
            return self.usage
        output = -(-self.output_characters // wire.CHARACTERS_PER_TOKEN)
        return Usage(wire.input_estimate(self._call), output, estimated=True)


class EmbeddingsMeter(Unstreamed, ABC):
    """Embeddings are never streamed; a dialect adds where its vectors and its count are."""

    dialect = ""

    def whole(self, outcome: Outcome, body: bytes) -> Answer:
        usage = Usage(wire.input_estimate(self._call), estimated=True)
        try:
            vectors = [[float(x) for x in vector] for vector in self._vectors(outcome.document)]
            usage = self._count(outcome.document) or usage
            form = self._call.params.get("encoding_format")
            answer = wire.embeddings(
                vectors, model=self._upstream.model, usage=usage, base64=form == "base64"
            )
        except MISREAD:
            raise bad_payload(f"The answer is not of {self.dialect}'s form.") from None
        if len(vectors) != self._texts():
            raise bad_payload(f"{self.dialect} answered with another number of vectors.")
        self.usage, self.complete = usage, True
        return Answer(body=orjson.dumps(answer))

    def feed(self, chunk: bytes) -> list[bytes]:
        raise bad_payload(f"{self.dialect} streamed an answer that has no streamed form.")

    def _texts(self) -> int:
        texts = self._call.params["input"]
        return 1 if isinstance(texts, str) else len(texts)

    @abstractmethod
    def _vectors(self, document: Any) -> list[list[float]]: ...

    def _count(self, document: Any) -> Usage | None:
        """None when the answer does not tell."""
        return None


def characters(message: Mapping[str, Any]) -> int:
    """The output in a message or a delta: text, reasoning, and calls by name and arguments."""
    texts = [message.get("content") or "", message.get("reasoning_content") or ""]
    for call in message.get("tool_calls") or []:
        texts += [call["function"].get("name", ""), call["function"].get("arguments", "")]
    return sum(map(len, texts))
