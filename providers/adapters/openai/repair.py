"""What OpenAI's own SDKs could not read in the answers of services that speak almost their
dialect, put right. What is right already comes back as the same object: nothing is copied, and
the caller can see that the bytes may go on as they came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

Fields = dict[str, Any]

_FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_RENAMED = {
    "max_tokens": "length",
    "model_length": "length",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
}
# Finish reasons that tell of no end but of a failure (OpenRouter; DeepSeek).
FAILED_FINISHES = frozenset({"error", "insufficient_system_resource"})


def is_plain(document: Fields) -> bool:
    """Whether a whole answer is one choice of text, written as OpenAI writes it: there is
    nothing to repair, which is so for nearly all answers and found out quickly."""
    try:
        (choice,) = document["choices"]
        message = choice["message"]
        return (
            document["object"] == "chat.completion"
            and type(message["content"]) is str
            and message["role"] == "assistant"
            and type(document["id"]) is type(document["model"]) is str
            and type(document["created"]) is int
            and type(choice["index"]) is int
            and choice["finish_reason"] in _FINISHES
            and not message.get("tool_calls")
            and bool(document["id"] and document["model"] and document["created"])
            and "error" not in document
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        return False


def whole_choice(choice: Fields, index: int) -> Fields:
    """A choice of a whole answer. Raises LookupError, TypeError or AttributeError for what is
    no choice."""
    message = _message(choice["message"])
    if "content" not in message or not message.get("role"):
        message = {**message, "role": "assistant", "content": message.get("content")}
    reason = choice.get("finish_reason")
    if reason not in _FINISHES:
        called = "tool_calls" if message.get("tool_calls") else "stop"
        reason = _RENAMED.get(str(reason).lower(), called)
    return _changed(choice, index=choice.get("index", index), message=message, finish_reason=reason)


def chunk_choice(choice: Fields, index: int) -> Fields:
    """A choice of one chunk of a stream. Raises as `whole_choice` does."""
    delta = _message(choice.get("delta") or {})
    if calls := delta.get("tool_calls"):
        numbered = [_changed(call, index=call.get("index", n)) for n, call in enumerate(calls)]
        delta = _changed(delta, tool_calls=_same_if_same(calls, numbered))
    reason = choice.get("finish_reason")
    if reason is not None and reason not in _FINISHES:
        reason = _RENAMED.get(str(reason).lower(), "stop")
    if reason is not None:
        choice = _changed(choice, finish_reason=reason)
    return _changed(choice, index=choice.get("index", index), delta=delta)


def same_choices(choices: list[Fields], repaired: list[Fields]) -> bool:
    return _same_if_same(choices, repaired) is choices


def characters(message: Mapping[str, Any]) -> int:
    """The output in a message or delta: text, refusal, reasoning, and the calls it makes."""
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    texts = [message.get("content"), message.get("refusal"), reasoning]
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        texts += [function.get("name"), function.get("arguments")]
    return sum([len(text) for text in texts if isinstance(text, str)])


def _message(message: Fields) -> Fields:
    """A message or delta: text is text (Mistral's reasoning models tell parts), and a call has
    a type and arguments as text."""
    if isinstance(message.get("content"), list):
        text, reasoning = _split(message["content"])
        message = {**message, "content": text}
        if reasoning:
            message["reasoning_content"] = reasoning
    if calls := message.get("tool_calls"):
        repaired = [_call(call) for call in calls]
        message = _changed(message, tool_calls=_same_if_same(calls, repaired))
    return message


def _split(parts: list[Fields]) -> tuple[str, str]:
    text = reasoning = ""
    for part in parts:
        if part["type"] == "text":
            text += part["text"]
        elif part["type"] == "thinking":
            thoughts = part["thinking"]
            reasoning += thoughts if isinstance(thoughts, str) else _split(thoughts)[0]
    return text, reasoning


def _call(call: Fields) -> Fields:
    if call.get("id") and not call.get("type"):
        call = {**call, "type": "function"}
    function = call.get("function") or {}
    arguments = function.get("arguments")
    if isinstance(arguments, dict):
        text = orjson.dumps(arguments).decode()
        call = {**call, "function": {**function, "arguments": text}}
    return call


def _changed(fields: Fields, **changes: Any) -> Fields:
    """`fields` itself, unless one of `changes` differs from what it holds."""
    for name, value in changes.items():
        if name not in fields or (fields[name] is not value and fields[name] != value):
            return {**fields, **changes}
    return fields


def _same_if_same(old: list[Fields], new: list[Fields]) -> list[Fields]:
    return old if all(a is b for a, b in zip(old, new, strict=True)) else new
