"""Reads Anthropic's answers into OpenAI's words and counts what they used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from providers.adapter import StreamFault
from providers.adapters.anthropic.outcome import failure
from providers.call import Usage
from providers.translation import ChatMeter

_FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class AnthropicMeter(ChatMeter):
    """Counts come in two parts: the input with `message_start`, the output with the last
    `message_delta`. Events of kinds not named here frame others, or are of tomorrow."""

    dialect = "Anthropic"

    def _read_whole(self, document: Any) -> dict[str, Any]:
        self._head = self._head.named(document.get("id"), document.get("model"))
        self.usage = _usage(document.get("usage") or {})
        blocks: Sequence[Mapping[str, Any]] = document["content"]
        message: dict[str, Any] = {"role": "assistant", "content": _texts(blocks, "text")}
        if calls := [_call(block) for block in blocks if block["type"] == "tool_use"]:
            message |= {"content": message["content"] or None, "tool_calls": calls}
        if reasoning := _texts(blocks, "thinking"):
            message["reasoning_content"] = reasoning
        return {"message": message, "finish_reason": _finish(document["stop_reason"])}

    def _read_event(self, document: Any) -> list[bytes]:
        kind = document["type"]
        if kind == "content_block_delta":
            return self._delta(document["index"], document["delta"])
        if kind == "content_block_start":
            return self._block(document["index"], document["content_block"])
        if kind == "message_start":
            return self._start(document["message"])
        if kind == "message_delta":
            self._add(document.get("usage") or {})
            return [self._say({}, finish_reason=_finish(document["delta"]["stop_reason"]))]
        if kind == "message_stop":
            self.complete = True
        if kind == "error":
            raise StreamFault(failure(document["error"], 200))
        return []

    def _start(self, message: Mapping[str, Any]) -> list[bytes]:
        self._head = self._head.named(message.get("id"), message.get("model"))
        self._told: dict[str, Any] = {}
        self._calls: dict[int, int] = {}
        self._add(message.get("usage") or {})
        return [self._say({"content": ""})]

    def _add(self, told: Mapping[str, Any]) -> None:
        """Later figures are totals so far and stand in for earlier ones."""
        self._told |= {name: figure for name, figure in told.items() if figure is not None}
        self.usage = _usage(self._told)

    def _block(self, index: int, block: Mapping[str, Any]) -> list[bytes]:
        if block["type"] != "tool_use":
            text = block.get("text")
            return [self._say({"content": text})] if text else []
        number = self._calls[index] = len(self._calls)
        function = {"name": block["name"], "arguments": ""}
        call = {"index": number, "id": block["id"], "type": "function", "function": function}
        return [self._say({"tool_calls": [call]})]

    def _delta(self, index: int, delta: Mapping[str, Any]) -> list[bytes]:
        kind = delta["type"]
        if kind == "text_delta":
            return [self._say({"content": delta["text"]})]
        if kind == "thinking_delta":
            return [self._say({"reasoning_content": delta["thinking"]})]
        if kind == "input_json_delta" and delta["partial_json"] and index in self._calls:
            function = {"arguments": delta["partial_json"]}
            call = {"index": self._calls[index], "function": function}
            return [self._say({"tool_calls": [call]})]
        return []


def _usage(told: Mapping[str, Any]) -> Usage:
    """Anthropic tells fresh input apart from what its cache wrote and read."""
    written = told.get("cache_creation_input_tokens") or 0
    read = told.get("cache_read_input_tokens") or 0
    return Usage(
        input_tokens=(told.get("input_tokens") or 0) + written + read,
        output_tokens=told.get("output_tokens") or 0,
        cached_tokens=read,
        cache_write_tokens=written,
    )


def _finish(reason: Any) -> str:
    return _FINISHES.get(str(reason), "stop")


def _texts(blocks: Sequence[Mapping[str, Any]], kind: str) -> str:
    return "".join(block[kind] for block in blocks if block["type"] == kind)


def _call(block: Mapping[str, Any]) -> dict[str, Any]:
    arguments = orjson.dumps(block["input"]).decode()
    function = {"name": block["name"], "arguments": arguments}
    return {"id": block["id"], "type": "function", "function": function}
