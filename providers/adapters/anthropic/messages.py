"""OpenAI's messages as Anthropic's: system apart, tool results as a user's blocks, roles that
take turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from providers.adapter import Unsupported

_FIELDS = {
    "system": {"content"},
    "developer": {"content"},
    "user": {"content"},
    "assistant": {"content", "tool_calls", "refusal", "reasoning_content", "extra_content"},
    "tool": {"content", "tool_call_id"},
}

Blocks = list[dict[str, Any]]


def conversation(messages: Sequence[Mapping[str, Any]]) -> tuple[Blocks, list[dict[str, Any]]]:
    """The system prompt's blocks, and the turns. Neighbours of one role become one turn.

    Raises Unsupported for a role, field or content part that Anthropic does not have.
    """
    system: Blocks = []
    turns: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        place = f"messages.{index}"
        role = _role(message, place)
        blocks = _blocks(message, role, place)
        if role in ("system", "developer"):
            system += blocks
            continue
        speaker = "assistant" if role == "assistant" else "user"
        if turns and turns[-1]["role"] == speaker:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": speaker, "content": blocks})
    return system, turns


def _role(message: Mapping[str, Any], place: str) -> str:
    role = str(message.get("role"))
    known = _FIELDS.get(role)
    if known is None:
        raise Unsupported(f"{place}.role", f"Anthropic has no role {role!r}.")
    for field, value in message.items():
        if value and field not in known and field not in ("role", "name"):
            raise Unsupported(f"{place}.{field}", f"Anthropic cannot express {field!r} here.")
    return role


def _blocks(message: Mapping[str, Any], role: str, place: str) -> Blocks:
    if role == "tool":
        return [_result(message, place)]
    said = message.get("content") or message.get("refusal")
    blocks = _content(said, f"{place}.content")
    for call in message.get("tool_calls") or ():
        blocks.append(_use(call, place))
    return blocks


def _result(message: Mapping[str, Any], place: str) -> dict[str, Any]:
    content = message.get("content")
    if not isinstance(content, str):
        content = _content(content, f"{place}.content")
    return {
        "type": "tool_result",
        "tool_use_id": message.get("tool_call_id"),
        "content": content,
    }


def _use(call: Mapping[str, Any], place: str) -> dict[str, Any]:
    function = call["function"]
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
    except orjson.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise Unsupported(f"{place}.tool_calls", "Anthropic takes arguments that are an object.")
    return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": arguments}


def _content(content: Any, place: str) -> Blocks:
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [_part(part, f"{place}.{index}") for index, part in enumerate(content)]


def _part(part: Mapping[str, Any], place: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind in ("text", "refusal"):
        block: dict[str, Any] = {"type": "text", "text": part[kind]}
        if part.get("cache_control"):
            block["cache_control"] = part["cache_control"]
        return block
    if kind == "image_url":
        return {"type": "image", "source": _source(part["image_url"], place)}
    raise Unsupported(f"{place}.type", f"Anthropic takes no part of type {kind!r} here.")


def _source(image: Any, place: str) -> dict[str, Any]:
    url = str(image.get("url") if isinstance(image, Mapping) else image)
    if url.startswith("https://"):
        return {"type": "url", "url": url}
    head, comma, data = url.partition(",")
    if comma and head.startswith("data:image/") and head.endswith(";base64"):
        media = head.removeprefix("data:").removesuffix(";base64")
        return {"type": "base64", "media_type": media, "data": data}
    raise Unsupported(f"{place}.image_url", "Send images as an https URL or base64 data URL.")
