"""A chat completion in Anthropic's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_LOCATIONS = frozenset(
    {
        "char_location",
        "content_block_location",
        "page_location",
        "search_result_location",
        "web_search_result_location",
    }
)
# Where arguments are no JSON object, Anthropic's documents wrap them so.
_INVALID = "INVALID_JSON"


def message_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The message that a whole chat.completion is."""
    choice = document["choices"][0]
    message = choice["message"]
    calls = message.get("tool_calls") or []
    said = [*thoughts_of(message), *_texts(message)]
    return {
        **head_of(document),
        "content": said + [{**call_head(call), "input": _arguments(call)} for call in calls],
        **end_of(choice, called=bool(calls)),
        "usage": usage_of(document.get("usage")),
    }


def head_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """What stands before the content, of a whole answer or of a chunk."""
    told = str(document.get("id") or "").removeprefix("chatcmpl-")
    answer_id = told if told.startswith("msg_") else f"msg_{told}"
    model = document.get("model") or ""
    return {"id": answer_id, "type": "message", "role": "assistant", "model": model}


def end_of(choice: Mapping[str, Any], *, called: bool) -> dict[str, Any]:
    """Why it ended. `called`: it has calls of tools, which some services say nothing about.
    A stop sequence is told where the provider tells which (`stop_reason`, as vLLM has it)."""
    reason = _REASONS.get(str(choice.get("finish_reason")), "end_turn")
    sequence = choice.get("stop_reason")
    if reason == "end_turn" and called:
        reason = "tool_use"
    if reason == "end_turn" and isinstance(sequence, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": sequence}
    return {"stop_reason": reason, "stop_sequence": None}


def thoughts_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An Anthropic model's own blocks, signed; of another model, one that has no signature."""
    if blocks := own_thoughts_of(message):
        return blocks
    told = reasoning_of(message)
    return [{"type": "thinking", "thinking": told, "signature": ""}] if told else []


def own_thoughts_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    ours = (message.get("extra_content") or {}).get("anthropic") or {}
    return list(ours.get("thinking_blocks") or ())


def reasoning_of(message: Mapping[str, Any]) -> str:
    told = message.get("reasoning_content") or message.get("reasoning")
    return told if isinstance(told, str) else ""


def call_head(call: Mapping[str, Any]) -> dict[str, Any]:
    name = (call.get("function") or {}).get("name") or ""
    return {"type": "tool_use", "id": call.get("id") or "", "name": name}


def usage_of(told: Mapping[str, Any] | None) -> dict[str, Any]:
    """Anthropic tells fresh input apart from what was read from a cache and written there."""
    told = told or {}
    inputs = told.get("prompt_tokens_details") or {}
    read, written = inputs.get("cached_tokens") or 0, inputs.get("cache_write_tokens") or 0
    usage = {
        "input_tokens": max(0, (told.get("prompt_tokens") or 0) - read - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": told.get("completion_tokens") or 0,
    }
    outputs = told.get("completion_tokens_details") or {}
    if thought := outputs.get("reasoning_tokens"):
        return {**usage, "output_tokens_details": {"thinking_tokens": thought}}
    return usage


def _texts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    text = message.get("content") or message.get("refusal")
    if not text:
        return []
    block: dict[str, Any] = {"type": "text", "text": text}
    if citations := citations_of(message):
        block["citations"] = citations
    return [block]


def citations_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those in Anthropic's form; other providers' have others, which have no place here."""
    told = message.get("citations")
    given = told if isinstance(told, list) else []
    return [each for each in given if isinstance(each, dict) and each.get("type") in _LOCATIONS]


def _arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    text = (call.get("function") or {}).get("arguments") or "{}"
    try:
        arguments = orjson.loads(text)
    except orjson.JSONDecodeError:
        arguments = None
    return arguments if isinstance(arguments, dict) else {_INVALID: text}
