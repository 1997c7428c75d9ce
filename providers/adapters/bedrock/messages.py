"""OpenAI's messages as Converse's: system apart, tool results as a user's blocks, roles that
take turns.

Results of calls stand at the head of the turn that follows the calls, and calls at the end of
theirs. Signed thoughts come back in `extra_content`, where we put them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from providers.adapter import Unsupported
from providers.turns import Blocks, arguments_of, in_turns

_FIELDS = {
    "system": {"content"},
    "developer": {"content"},
    "user": {"content"},
    "assistant": {"content", "tool_calls", "refusal"},
    "tool": {"content", "tool_call_id", "name"},  # the call's id tells the name
}
_ORDER = {"toolResult": 0, "reasoningContent": 0, "toolUse": 2}
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[^,;]+)*;base64,(.*)", re.DOTALL)
_IMAGES = {
    **{"image/gif": "gif", "image/jpeg": "jpeg", "image/jpg": "jpeg"},
    **{"image/png": "png", "image/webp": "webp"},
}
_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_-]")
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9\-()\[\] ]+")


def conversation(messages: Sequence[Mapping[str, Any]]) -> tuple[Blocks, list[dict[str, Any]]]:
    """The system prompt's blocks, and the turns. Neighbours of one role become one turn.

    Raises Unsupported for a role, field or content part that Converse does not have.
    """
    system, turns = in_turns(messages, _FIELDS, provider="Bedrock", texts=_texts, blocks=_blocks)
    for turn in turns:
        turn["content"].sort(key=lambda block: _ORDER.get(next(iter(block)), 1))
    return system, turns


def uses_tools(turns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a turn holds a call or its result."""
    return any("toolUse" in b or "toolResult" in b for turn in turns for b in turn["content"])


def _blocks(message: Mapping[str, Any], role: str, place: str) -> Blocks:
    if role == "tool":
        return [_result(message, place)]
    said = message.get("content") or message.get("refusal")
    ours = (message.get("extra_content") or {}).get("bedrock") or {}
    blocks: Blocks = [{"reasoningContent": each} for each in ours.get("reasoning_content") or ()]
    blocks += _content(said, f"{place}.content")
    for index, call in enumerate(message.get("tool_calls") or ()):
        blocks.append(_use(call, f"{place}.tool_calls.{index}"))
    return blocks


def _result(message: Mapping[str, Any], place: str) -> dict[str, Any]:
    content = _content(message.get("content"), f"{place}.content") or [{"text": "(nothing)"}]
    return {"toolResult": {"toolUseId": _id(message["tool_call_id"]), "content": content}}


def _use(call: Mapping[str, Any], place: str) -> dict[str, Any]:
    arguments = arguments_of(call, place, provider="Bedrock")
    name = call["function"]["name"]
    use = {"toolUseId": _id(call["id"]), "name": name, "input": arguments}
    return {"toolUse": use}


def _id(call_id: str) -> str:
    """Bedrock's ids know fewer characters, and 64 of them at most."""
    return _NOT_IN_IDS.sub("_", call_id)[:64]


def _content(content: Any, place: str) -> Blocks:
    """The blocks of a string, a list of parts, or nothing. Blank texts, which Bedrock refuses and
    which say nothing, are left out."""
    if isinstance(content, str):
        return [{"text": content}] if content.strip() else []
    blocks = [_block(part, f"{place}.{index}") for index, part in enumerate(content or ())]
    return [block for block in blocks if block.get("text", "x").strip()]


def _texts(content: Any, place: str) -> Blocks:
    blocks = _content(content, place)
    if any("text" not in block for block in blocks):
        raise Unsupported(place, "Bedrock takes only text here.")
    return blocks


def _block(part: Mapping[str, Any], place: str) -> dict[str, Any]:
    kind = part.get("type")
    for field, value in part.items():
        if value and field not in ("type", kind):
            raise Unsupported(f"{place}.{field}", f"Bedrock cannot express {field!r} here.")
    if kind in ("text", "refusal"):
        return {"text": part[kind]}
    if kind == "image_url":
        return _image(part["image_url"], f"{place}.image_url")
    if kind == "file":
        return _document(part["file"], f"{place}.file")
    raise Unsupported(f"{place}.type", f"Bedrock takes no part of type {kind!r} here.")


def _image(image: Mapping[str, Any], place: str) -> dict[str, Any]:
    if image.get("detail") not in (None, "auto"):
        raise Unsupported(f"{place}.detail", "Bedrock chooses the detail itself: send 'auto'.")
    match = _DATA_URL.fullmatch(image["url"])
    form = _IMAGES.get(match[1]) if match else None
    if not match or not form:
        raise Unsupported(f"{place}.url", "Send a base64 data URL of a JPEG, PNG, GIF or WebP.")
    return {"image": {"format": form, "source": {"bytes": match[2]}}}


def _document(file: Mapping[str, Any], place: str) -> dict[str, Any]:
    match = _DATA_URL.fullmatch(file.get("file_data") or "")
    if not match or match[1] != "application/pdf":
        raise Unsupported(f"{place}.file_data", "Bedrock takes files as base64 PDF data URLs.")
    name = " ".join(_NOT_IN_NAMES.sub(" ", file.get("filename") or "").split())[:200]
    source = {"bytes": match[2]}
    return {"document": {"format": "pdf", "name": name or "document", "source": source}}
