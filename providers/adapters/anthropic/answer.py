"""What a message of Anthropic's, or its count, says in OpenAI's terms.

Citations keep Anthropic's shape under `citations`. Signed thoughts, which a client must send
back in a tool loop, are kept whole under `extra_content`. Blocks of tools that Anthropic runs
itself have no place in OpenAI's shape; we never ask for such tools.
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
    "pause_turn": "length",  # more would have come
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
THOUGHTS = frozenset({"thinking", "redacted_thinking"})
# Tokens. No answer uses as many: a larger figure is a mistake and counts as not told.
_ABSURD = 1_000_000_000


def message_of(blocks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The assistant's message. Raises what MISREAD names on what is not of the dialect."""
    text = reasoning = ""
    calls: list[dict[str, Any]] = []
    citations: list[Any] = []
    thoughts: list[Any] = []
    for block in blocks:
        kind = block["type"]
        if kind == "text":
            text += block["text"]
            citations += block.get("citations") or []
        elif kind == "tool_use":
            calls.append(call_of(block, orjson.dumps(block["input"]).decode()))
        elif kind in THOUGHTS:
            reasoning += block.get("thinking", "")
            thoughts.append(block)
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message |= {"content": text or None, "tool_calls": calls}
    if reasoning:
        message["reasoning_content"] = reasoning
    if citations:
        message["citations"] = citations
    return message | extra_content(thoughts)


def call_of(block: Mapping[str, Any], arguments: str) -> dict[str, Any]:
    function = {"name": text_of(block["name"]), "arguments": arguments}
    return {"id": text_of(block["id"]), "type": "function", "function": function}


def text_of(value: Any) -> str:
    """Raises TypeError for what is no text."""
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def extra_content(thoughts: list[Any]) -> dict[str, Any]:
    return {"extra_content": {"anthropic": {"thinking_blocks": thoughts}}} if thoughts else {}


def end_of(reason: Any, told: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's finish reason. One we do not know is no ordinary end, and says so. Which stop
    sequence it was has no word at OpenAI: it goes where vLLM says it."""
    end = {"finish_reason": _FINISHES.get(str(reason), "content_filter")}
    sequence = told.get("stop_sequence")
    return end | {"stop_reason": sequence} if isinstance(sequence, str) else end


def usage_of(told: Any) -> Usage | None:
    """None where nothing was told. Anthropic tells fresh input apart from what its cache wrote
    and read; its output holds the thoughts already."""
    written = _count(told, "cache_creation_input_tokens")
    read = _count(told, "cache_read_input_tokens")
    usage = Usage(
        input_tokens=_count(told, "input_tokens") + written + read,
        output_tokens=_count(told, "output_tokens"),
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=_count((told or {}).get("output_tokens_details"), "thinking_tokens"),
    )
    return usage if usage.input_tokens or usage.output_tokens else None


def _count(told: Any, name: str) -> int:
    figure = told.get(name) if isinstance(told, Mapping) else None
    return figure if type(figure) is int and 0 < figure < _ABSURD else 0
