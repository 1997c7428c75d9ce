"""What a Converse answer, or its count, says in OpenAI's terms.

Signed thoughts, which some models want to see again in a tool loop, are kept whole under
`extra_content`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from providers.call import Usage

_FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
# Tokens. No answer uses as many: a larger figure is a mistake and counts as not told.
_ABSURD = 1_000_000_000


def message_of(blocks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The assistant's message. Raises what MISREAD names on what is not of the dialect."""
    text = reasoning = ""
    calls: list[dict[str, Any]] = []
    thoughts: list[Any] = []
    for block in blocks:
        if "text" in block:
            text += block["text"]
        elif "toolUse" in block:
            use = block["toolUse"]
            calls.append(call_of(use, orjson.dumps(use["input"]).decode()))
        elif "reasoningContent" in block:
            thought = block["reasoningContent"]
            reasoning += (thought.get("reasoningText") or {}).get("text", "")
            thoughts.append(thought)
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message |= {"content": text or None, "tool_calls": calls}
    if reasoning:
        message["reasoning_content"] = reasoning
    return message | extra_content(thoughts)


def call_of(use: Mapping[str, Any], arguments: str) -> dict[str, Any]:
    function = {"name": text_of(use["name"]), "arguments": arguments}
    return {"id": text_of(use["toolUseId"]), "type": "function", "function": function}


def text_of(value: Any) -> str:
    """Raises TypeError for what is no text."""
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def extra_content(thoughts: list[Any]) -> dict[str, Any]:
    return {"extra_content": {"bedrock": {"reasoning_content": thoughts}}} if thoughts else {}


def finish_of(reason: Any) -> str:
    """OpenAI's finish reason. One we do not know is no ordinary end, and says so."""
    return _FINISHES.get(str(reason), "content_filter")


def usage_of(told: Any) -> Usage | None:
    """None where nothing was told. Fresh input is told apart from what a cache wrote and read."""
    written = _count(told, "cacheWriteInputTokens")
    read = _count(told, "cacheReadInputTokens")
    usage = Usage(
        input_tokens=_count(told, "inputTokens") + written + read,
        output_tokens=_count(told, "outputTokens"),
        cached_tokens=read,
        cache_write_tokens=written,
    )
    return usage if usage.input_tokens or usage.output_tokens else None


def _count(told: Any, name: str) -> int:
    figure = told.get(name) if isinstance(told, Mapping) else None
    return figure if type(figure) is int and 0 < figure < _ABSURD else 0
