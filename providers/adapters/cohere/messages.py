"""OpenAI's messages as Cohere's, which differ in few places.

A plan that goes with tool calls is `content` (or `reasoning_content`) at OpenAI and
`tool_plan` at Cohere. Other `reasoning_content` is not sent back: it is no input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from providers.adapter import Unsupported
from providers.turns import SYSTEM, role_of

_FIELDS = {
    "system": {"content"},
    "developer": {"content"},
    "user": {"content"},
    "assistant": {"content", "tool_calls", "refusal"},
    "tool": {"content", "tool_call_id", "name"},
}
_PART_TYPES = {"user": {"text", "image_url"}, "tool": {"text", "document"}}


def conversation(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Raises Unsupported for a role, field or content part that Cohere does not have."""
    return [_message(message, f"messages.{index}") for index, message in enumerate(messages)]


def _message(message: Mapping[str, Any], place: str) -> dict[str, Any]:
    role = role_of(message, place, _FIELDS, provider="Cohere")
    if role == "assistant":
        return _answer(message, place)
    content = _content(message.get("content"), role, f"{place}.content")
    if role == "tool":
        return {"role": role, "tool_call_id": message.get("tool_call_id"), "content": content}
    return {"role": "system" if role in SYSTEM else role, "content": content}


def _answer(message: Mapping[str, Any], place: str) -> dict[str, Any]:
    said = message.get("content") or message.get("refusal") or ""
    content = _content(said, "assistant", f"{place}.content")
    calls = message.get("tool_calls")
    if not calls:
        return {"role": "assistant", "content": content}
    answer: dict[str, Any] = {"role": "assistant", "tool_calls": [_call(call) for call in calls]}
    if plan := _text(content) or message.get("reasoning_content"):
        answer["tool_plan"] = plan
    return answer


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {
        "id": call["id"],
        "type": "function",
        "function": {"name": function["name"], "arguments": function.get("arguments") or "{}"},
    }


def _content(content: Any, role: str, place: str) -> Any:
    if content is None or isinstance(content, str):
        return content or ""
    return [_part(part, role, f"{place}.{index}") for index, part in enumerate(content)]


def _part(part: Mapping[str, Any], role: str, place: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind == "refusal" and role == "assistant":
        return {"type": "text", "text": part["refusal"]}
    if kind not in _PART_TYPES.get(role, {"text"}):
        raise Unsupported(f"{place}.type", f"Cohere takes no part of type {kind!r} here.")
    return {"type": kind, kind: part[kind]}


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
