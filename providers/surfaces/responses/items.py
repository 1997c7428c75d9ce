"""The items of a Responses conversation as chat messages.

What an assistant did in one turn is several items there (its reasoning, what it said, each
call) and one message here, which ends when somebody else's item comes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from providers.adapter import Unsupported
from providers.surfaces.reading import joined
from providers.surfaces.responses.sealing import opened
from providers.surfaces.surface import refuse_others

Item = Mapping[str, Any]
Message = dict[str, Any]

_ABOUT = {"type", "id", "status", "phase"}  # they say nothing to a model
_FIELDS = {
    "message": _ABOUT | {"role", "content"},
    "function_call": _ABOUT | {"call_id", "name", "arguments"},
    "function_call_output": _ABOUT | {"call_id", "output"},
    "reasoning": _ABOUT | {"summary", "content", "encrypted_content"},
}
_PARTS = {
    "input_text": {"type", "text"},
    "output_text": {"type", "text", "annotations", "logprobs"},
    "refusal": {"type", "refusal"},
    "input_image": {"type", "image_url", "detail"},
    "input_file": {"type", "file_data", "filename"},
}
_INPUTS = ("input_text", "input_image", "input_file")
_OF_ROLE = {"user": _INPUTS, "assistant": ("output_text", "refusal", "input_text")}
_NOT_KEPT = "Nothing is kept here between calls: send the item itself."


def messages_of(items: Sequence[Item]) -> list[Message]:
    """Raises Unsupported for an item, part or member that chat has no place for."""
    messages: list[Message] = []
    for index, item in enumerate(items):
        place = f"input.{index}"
        kind = item.get("type") or "message"
        if kind == "item_reference":
            raise Unsupported(f"{place}.type", _NOT_KEPT)
        if kind not in _FIELDS:
            names = ", ".join(_FIELDS)
            raise Unsupported(f"{place}.type", f"No {kind[:40]!r} can be taken, only: {names}.")
        refuse_others(item, _FIELDS[kind], place)
        if kind == "function_call_output":
            content = _content(item["output"], _INPUTS, f"{place}.output")
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": content})
        elif kind == "message" and item["role"] != "assistant":
            kinds = _OF_ROLE.get(item["role"], ("input_text",))
            content = _content(item["content"], kinds, f"{place}.content")
            messages.append({"role": item["role"], "content": content})
        else:
            _add(_turn(messages), kind, item, place)
    return [_finished(message) for message in messages]


def _turn(messages: list[Message]) -> Message:
    """The assistant's message that is being put together."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": []})
    return messages[-1]


def _add(turn: Message, kind: str, item: Item, place: str) -> None:
    if kind == "message":
        turn["content"] += _parts(item["content"], _OF_ROLE["assistant"], f"{place}.content")
    elif kind == "function_call":
        function = {"name": item["name"], "arguments": item["arguments"]}
        call = {"id": item["call_id"], "type": "function", "function": function}
        turn["tool_calls"] = [*turn.get("tool_calls", ()), call]
    else:
        _think(turn, item, place)


def _think(turn: Message, item: Item, place: str) -> None:
    """What only its maker can read goes back as it came; other reasoning as what it says."""
    if sealed := item.get("encrypted_content"):
        extra = opened(sealed)
        if extra is None:
            raise Unsupported(f"{place}.encrypted_content", "It is not of ours: leave it out.")
        turn["extra_content"] = joined(turn.get("extra_content", {}), extra)
        return
    told = item.get("content") or item.get("summary") or ()
    text = "".join(part.get("text", "") for part in told)
    if text:
        turn["reasoning_content"] = turn.get("reasoning_content", "") + text


def _finished(message: Message) -> Message:
    if message["role"] != "assistant":
        return message
    said = _simplest(message["content"])
    return {**message, "content": said or (None if message.get("tool_calls") else "")}


def _content(content: Any, kinds: Sequence[str], place: str) -> Any:
    return content if isinstance(content, str) else _simplest(_parts(content, kinds, place))


def _simplest(parts: list[dict[str, Any]]) -> Any:
    if not parts:
        return ""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _parts(content: Any, kinds: Sequence[str], place: str) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [_part(part, kinds, f"{place}.{index}") for index, part in enumerate(content)]


def _part(part: Mapping[str, Any], kinds: Sequence[str], place: str) -> dict[str, Any]:
    kind = part["type"]
    if kind not in kinds:
        names = ", ".join(kinds)
        raise Unsupported(f"{place}.type", f"No {kind[:40]!r} can stand here, only: {names}.")
    refuse_others(part, _PARTS[kind], place)
    if kind == "refusal":
        return {"type": "refusal", "refusal": part["refusal"]}
    if kind == "input_image":
        return {"type": "image_url", "image_url": _image(part, place)}
    if kind == "input_file":
        return {"type": "file", "file": _file(part, place)}
    return {"type": "text", "text": part["text"]}


def _image(part: Mapping[str, Any], place: str) -> dict[str, Any]:
    url, detail = part.get("image_url"), part.get("detail")
    if not url:
        raise Unsupported(f"{place}.image_url", "Send a URL, or the image as a data URL.")
    return {"url": url} if detail in (None, "auto") else {"url": url, "detail": detail}


def _file(part: Mapping[str, Any], place: str) -> dict[str, Any]:
    if not part.get("file_data"):
        raise Unsupported(f"{place}.file_data", "Send the file itself, as a base64 data URL.")
    return {name: part[name] for name in ("file_data", "filename") if part.get(name)}
