"""A chat completion in Anthropic's words."""

from __future__ import annotations

from typing import Any

import orjson

from providers.call import Usage
from providers.surfaces.reading import (
    Fields,
    choice_of,
    entries_of,
    fields_of,
    reasoning_of,
    text_of,
    usage_of,
)

_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_KINDS = ("thinking", "redacted_thinking")
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


def message_of(document: Fields) -> dict[str, Any]:
    """The message that a whole chat.completion is."""
    choice = choice_of(document)
    message = fields_of(choice.get("message"))
    calls = entries_of(message.get("tool_calls"))
    said = [*thoughts_of(message), *_texts(message)]
    return {
        **head_of(document),
        "content": said + [{**call_head(call), "input": _arguments(call)} for call in calls],
        **end_of(choice, called=bool(calls)),
        "usage": counts_of(usage_of(document)),
    }


def head_of(document: Fields) -> dict[str, Any]:
    """What stands before the content, of a whole answer or of a chunk."""
    told = text_of(document.get("id")).removeprefix("chatcmpl-")
    answer_id = told if told.startswith("msg_") else f"msg_{told}"
    model = text_of(document.get("model"))
    return {"id": answer_id, "type": "message", "role": "assistant", "model": model}


def end_of(choice: Fields, *, called: bool) -> dict[str, Any]:
    """Why it ended. `called`: it has calls of tools, which some services say nothing about.
    A stop sequence is told where the provider tells which (`stop_reason`, as vLLM has it)."""
    reason = _REASONS.get(str(choice.get("finish_reason")), "end_turn")
    sequence = choice.get("stop_reason")
    if reason == "end_turn" and called:
        reason = "tool_use"
    if reason == "end_turn" and isinstance(sequence, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": sequence}
    return {"stop_reason": reason, "stop_sequence": None}


def thoughts_of(message: Fields) -> list[Fields]:
    """An Anthropic model's own blocks, signed; of another model, one that has no signature."""
    if blocks := own_thoughts_of(message):
        return blocks
    told = reasoning_of(message)
    return [{"type": "thinking", "thinking": told, "signature": ""}] if told else []


def own_thoughts_of(message: Fields) -> list[Fields]:
    ours = fields_of(fields_of(message.get("extra_content")).get("anthropic"))
    return [each for each in entries_of(ours.get("thinking_blocks")) if each.get("type") in _KINDS]


def call_head(call: Fields) -> dict[str, Any]:
    name = text_of(fields_of(call.get("function")).get("name"))
    return {"type": "tool_use", "id": text_of(call.get("id")), "name": name}


def arguments_of(call: Fields) -> str:
    return text_of(fields_of(call.get("function")).get("arguments"))


def said_of(message: Fields) -> str:
    return text_of(message.get("content")) or text_of(message.get("refusal"))


def counts_of(usage: Usage | None) -> dict[str, Any]:
    """Anthropic tells fresh input apart from what was read from a cache and written there."""
    used = usage or Usage()
    counts = {
        "input_tokens": max(0, used.input_tokens - used.cached_tokens - used.cache_write_tokens),
        "cache_creation_input_tokens": used.cache_write_tokens,
        "cache_read_input_tokens": used.cached_tokens,
        "output_tokens": used.output_tokens,
    }
    if used.reasoning_tokens:
        return {**counts, "output_tokens_details": {"thinking_tokens": used.reasoning_tokens}}
    return counts


def _texts(message: Fields) -> list[dict[str, Any]]:
    text = said_of(message)
    if not text:
        return []
    block: dict[str, Any] = {"type": "text", "text": text}
    if citations := citations_of(message):
        block["citations"] = citations
    return [block]


def citations_of(message: Fields) -> list[Fields]:
    """Those in Anthropic's form; other providers' have others, which have no place here."""
    given = entries_of(message.get("citations"))
    return [each for each in given if text_of(each.get("type")) in _LOCATIONS]


def _arguments(call: Fields) -> dict[str, Any]:
    text = arguments_of(call) or "{}"
    try:
        arguments = orjson.loads(text)
    except orjson.JSONDecodeError:
        arguments = None
    return arguments if isinstance(arguments, dict) else {_INVALID: text}
