"""Reads Anthropic's answers into OpenAI's words and counts what they used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from providers.adapter import StreamFault
from providers.adapters.anthropic.answer import (
    THOUGHTS,
    call_of,
    end_of,
    extra_content,
    message_of,
    text_of,
    usage_of,
)
from providers.adapters.anthropic.outcome import error_of, failure, is_filtered
from providers.call import Call, Upstream, Usage
from providers.translation import ChatMeter

# What holds text, and where OpenAI's clients look for it.
_TEXTS = {"text": "content", "thinking": "reasoning_content"}


class AnthropicMeter(ChatMeter):
    """Counts come in two parts: the input with `message_start`, the output with the last
    `message_delta`. Events and blocks of kinds not named here (pings, the work of Anthropic's
    own tools) say nothing to an OpenAI client, or are of tomorrow."""

    dialect = "Anthropic"

    def __init__(self, call: Call, upstream: Upstream) -> None:
        super().__init__(call, upstream)
        self._told: dict[str, Any] = {}
        self._calls: dict[int, int] = {}  # a block's index: the number of the call in it
        self._without_arguments: set[int] = set()
        self._thoughts: dict[int, dict[str, Any]] = {}
        self._finished = False

    def _read_whole(self, document: Any) -> dict[str, Any]:
        if error_of(document):
            self.usage = Usage()
            message: dict[str, Any] = {"role": "assistant", "content": ""}
            return {"message": message, "finish_reason": "content_filter"}
        self._name(document)
        self.usage = usage_of(document.get("usage"))
        end = end_of(document["stop_reason"], document)
        return {"message": message_of(document["content"]), **end}

    def _read_event(self, document: Any) -> list[bytes]:
        reader = self._readers.get(document["type"])
        return reader(self, document) if reader and not self.complete else []

    def _start(self, event: Mapping[str, Any]) -> list[bytes]:
        self._name(event["message"])
        self._add(event["message"].get("usage"))
        return [self._say({"content": ""})]

    def _finish(self, event: Mapping[str, Any]) -> list[bytes]:
        self._add(event.get("usage"))
        reason = event["delta"].get("stop_reason")
        if reason is None or self._finished:
            return []
        self._finished = True
        return [self._say({}, **end_of(reason, event["delta"]))]

    def _end(self, event: Mapping[str, Any]) -> list[bytes]:
        self.complete = self._finished
        return []

    def _broken_off(self, event: Mapping[str, Any]) -> list[bytes]:
        """An error in a stream that began with 200. Held back by a filter, it is an answer."""
        error = error_of(event)
        if not is_filtered(error):
            raise StreamFault(failure(error, 200))
        self.complete = True
        return [self._say({}, finish_reason="content_filter")]

    def _block(self, event: Mapping[str, Any]) -> list[bytes]:
        index, block = event["index"], event["content_block"]
        kind = block["type"]
        if kind == "tool_use":
            number = self._calls[index] = len(self._calls)
            self._without_arguments.add(index)
            return [self._say({"tool_calls": [{"index": number, **call_of(block, "")}]})]
        if kind in THOUGHTS:
            self._thoughts[index] = {**block}
        return self._text(kind, block)

    def _delta(self, event: Mapping[str, Any]) -> list[bytes]:
        index, delta = event["index"], event["delta"]
        kind = delta["type"]
        if kind == "citations_delta":
            return [self._say({"citations": [delta["citation"]]})]
        if kind == "input_json_delta" and delta["partial_json"] and index in self._calls:
            self._without_arguments.discard(index)
            return [self._argue(index, text_of(delta["partial_json"]))]
        field = kind.removesuffix("_delta")
        if kind in ("thinking_delta", "signature_delta"):
            thought = self._thoughts.setdefault(index, {"type": "thinking"})
            thought[field] = thought.get(field, "") + text_of(delta[field])
        return self._text(field, delta)

    def _block_end(self, event: Mapping[str, Any]) -> list[bytes]:
        """Of a call without arguments Anthropic streams nothing, but OpenAI's clients want an
        object. A whole thought goes out with its signature, to be brought back."""
        index = event["index"]
        if index in self._without_arguments:
            self._without_arguments.remove(index)
            return [self._argue(index, "{}")]
        thought = self._thoughts.pop(index, None)
        return [self._say(extra_content([thought]))] if thought else []

    def _text(self, kind: str, holder: Mapping[str, Any]) -> list[bytes]:
        text = holder.get(kind) if kind in _TEXTS else None
        return [self._say({_TEXTS[kind]: text_of(text)})] if text else []

    def _argue(self, index: int, arguments: str) -> bytes:
        call = {"index": self._calls[index], "function": {"arguments": arguments}}
        return self._say({"tool_calls": [call]})

    def _name(self, message: Mapping[str, Any]) -> None:
        told = (message.get("id"), message.get("model"))
        answer_id, model = (name if isinstance(name, str) else None for name in told)
        self._head = self._head.named(answer_id, model)

    def _add(self, told: Any) -> None:
        """Later figures are totals so far and stand in for earlier ones."""
        self._told |= {name: figure for name, figure in (told or {}).items() if figure is not None}
        self.usage = usage_of(self._told)

    _readers: ClassVar[Mapping[str, Callable[[AnthropicMeter, Mapping[str, Any]], list[bytes]]]] = {
        "content_block_delta": _delta,
        "content_block_start": _block,
        "content_block_stop": _block_end,
        "error": _broken_off,
        "message_delta": _finish,
        "message_start": _start,
        "message_stop": _end,
    }
