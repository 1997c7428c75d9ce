"""Reads Bedrock's answers into OpenAI's words and counts what they used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import orjson

from providers.adapter import StreamFault
from providers.adapters.bedrock.answer import (
    call_of,
    extra_content,
    finish_of,
    message_of,
    text_of,
    usage_of,
)
from providers.adapters.bedrock.eventstream import Corrupt, Decoder, Message
from providers.adapters.bedrock.outcome import failed_stop, failure
from providers.call import Call, Outcome, Upstream, Usage, Verdict
from providers.openai_wire import clean_message
from providers.translation import MISREAD, ChatMeter, EmbeddingsMeter
from providers.whole import bad_payload


class ConverseMeter(ChatMeter):
    """A stream says why it stopped with `messageStop`, and ends with the count in `metadata`.
    Events and blocks of kinds not named here say nothing to an OpenAI client."""

    dialect = "Bedrock"

    def __init__(self, call: Call, upstream: Upstream) -> None:
        super().__init__(call, upstream)
        self._frames = Decoder()
        self._calls: dict[int, int] = {}  # a block's index: the number of the call in it
        self._without_arguments: set[int] = set()
        self._thoughts: dict[int, dict[str, Any]] = {}
        self._stopped = False

    def feed(self, chunk: bytes) -> list[bytes]:
        said: list[bytes] = []
        try:
            for message in self._frames.feed(chunk):
                if not self.complete:
                    said += self._read_event(_event_of(message))
        except Corrupt as fault:
            raise bad_payload(f"The stream is no event stream of AWS: {fault}.") from None
        except MISREAD:
            raise bad_payload("An event is not of Bedrock's form.") from None
        return said

    def _read_whole(self, document: Any) -> dict[str, Any]:
        self.usage = usage_of(document.get("usage"))
        message = message_of(document["output"]["message"]["content"])
        return {"message": message, "finish_reason": finish_of(document["stopReason"])}

    def _read_event(self, document: Any) -> list[bytes]:
        ((kind, event),) = document.items()
        reader = self._readers.get(kind)
        return reader(self, event) if reader else []

    def _start(self, event: Mapping[str, Any]) -> list[bytes]:
        return [self._say({"content": ""})]

    def _block(self, event: Mapping[str, Any]) -> list[bytes]:
        index, use = event["contentBlockIndex"], event["start"].get("toolUse")
        if use is None:
            return []
        number = self._calls[index] = len(self._calls)
        self._without_arguments.add(index)
        return [self._say({"tool_calls": [{"index": number, **call_of(use, "")}]})]

    def _delta(self, event: Mapping[str, Any]) -> list[bytes]:
        index, delta = event["contentBlockIndex"], event["delta"]
        if text := delta.get("text"):
            return [self._say({"content": text_of(text)})]
        if thought := delta.get("reasoningContent"):
            return self._think(index, thought)
        arguments = (delta.get("toolUse") or {}).get("input")
        if arguments and index in self._calls:
            self._without_arguments.discard(index)
            return [self._argue(index, text_of(arguments))]
        return []

    def _think(self, index: int, delta: Mapping[str, Any]) -> list[bytes]:
        """The thought comes in pieces, and has its signature at the end."""
        thought = self._thoughts.setdefault(index, {})
        if redacted := delta.get("redactedContent"):
            thought["redactedContent"] = thought.get("redactedContent", "") + text_of(redacted)
            return []
        signed = thought.setdefault("reasoningText", {"text": ""})
        for name in ("text", "signature"):
            if piece := delta.get(name):
                signed[name] = signed.get(name, "") + text_of(piece)
        text = delta.get("text")
        return [self._say({"reasoning_content": text})] if text else []

    def _block_end(self, event: Mapping[str, Any]) -> list[bytes]:
        """Of a call without arguments nothing is streamed, but OpenAI's clients want an object."""
        index = event["contentBlockIndex"]
        if index in self._without_arguments:
            self._without_arguments.remove(index)
            return [self._argue(index, "{}")]
        thought = self._thoughts.pop(index, None)
        return [self._say(extra_content([thought]))] if thought else []

    def _stop(self, event: Mapping[str, Any]) -> list[bytes]:
        reason = event["stopReason"]
        if fault := failed_stop(reason):
            raise StreamFault(fault)
        if self._stopped:
            return []
        self._stopped = True
        return [self._say({}, finish_reason=finish_of(reason))]

    def _end(self, event: Mapping[str, Any]) -> list[bytes]:
        self.usage = usage_of(event.get("usage"))
        self.complete = self._stopped
        return []

    def _argue(self, index: int, arguments: str) -> bytes:
        call = {"index": self._calls[index], "function": {"arguments": arguments}}
        return self._say({"tool_calls": [call]})

    _readers: ClassVar[Mapping[str, Callable[[ConverseMeter, Mapping[str, Any]], list[bytes]]]] = {
        "contentBlockDelta": _delta,
        "contentBlockStart": _block,
        "contentBlockStop": _block_end,
        "messageStart": _start,
        "messageStop": _stop,
        "metadata": _end,
    }


def _event_of(message: Message) -> dict[str, Any]:
    """Raises StreamFault for an exception in a stream that began with 200."""
    headers = message.headers
    match headers.get(":message-type"):
        case "event":
            return {headers[":event-type"]: orjson.loads(message.payload)}
        case "exception":
            told = orjson.loads(message.payload or b"{}")
            raise StreamFault(failure(headers.get(":exception-type", ""), told, 200))
    words = clean_message(headers.get(":error-message"))
    raise StreamFault(Outcome(Verdict.UNAVAILABLE, 200, words))


class TitanMeter(EmbeddingsMeter):
    dialect = "Titan"

    def _vectors(self, document: Any) -> list[list[float]]:
        return [document["embedding"]]

    def _count(self, document: Any) -> Usage | None:
        tokens = document.get("inputTextTokenCount")
        return None if tokens is None else Usage(input_tokens=int(tokens))


class CohereMeter(EmbeddingsMeter):
    """What it counted is in a header, which is not for us to see."""

    dialect = "Cohere on Bedrock"

    def _vectors(self, document: Any) -> list[list[float]]:
        found = document["embeddings"]
        vectors: list[list[float]] = found["float"] if isinstance(found, Mapping) else found
        return vectors
