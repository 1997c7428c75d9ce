"""One message's content: Anthropic's blocks on the left, OpenAI's parts on the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from providers.adapter import Unsupported
from providers.annotations import MARK
from providers.surfaces.surface import refuse_others

Block = Mapping[str, Any]

_MARKED = frozenset({"type", MARK})
_FIELDS = {
    "text": _MARKED | {"text"},
    "image": _MARKED | {"source"},
    "document": _MARKED | {"source", "title"},
    "tool_use": _MARKED | {"id", "name", "input"},
    "tool_result": _MARKED | {"tool_use_id", "content", "is_error"},
    "thinking": {"type", "thinking", "signature"},
    "redacted_thinking": {"type", "data"},
}
_PDF = "application/pdf"


def check(block: Block, kinds: Sequence[str], place: str) -> str:
    """The block's kind. Raises Unsupported for one that may not stand here, and for a member
    that OpenAI's shape has no place for."""
    kind = str(block["type"])
    if kind not in kinds:
        names = ", ".join(kinds)
        raise Unsupported(f"{place}.type", f"No {kind[:40]!r} can stand here, only: {names}.")
    refuse_others(block, _FIELDS[kind], place)
    return kind


def content_of(content: Any, kinds: Sequence[str], place: str) -> str | list[dict[str, Any]]:
    """A content whose blocks are all of `kinds`, which may be text, image and document."""
    if isinstance(content, str):
        return content
    blocks = content or ()
    for index, block in enumerate(blocks):
        check(block, kinds, f"{place}.{index}")
    return simplest([part_of(block, f"{place}.{index}") for index, block in enumerate(blocks)])


def simplest(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """One text is a plain string, as nearly every client of OpenAI's says it."""
    if not parts:
        return ""
    return parts[0]["text"] if len(parts) == 1 and parts[0].keys() == {"type", "text"} else parts


def part_of(block: Block, place: str) -> dict[str, Any]:
    made: dict[str, Any]
    if block["type"] == "text":
        made = {"type": "text", "text": block["text"]}
    elif block["type"] == "image":
        made = {"type": "image_url", "image_url": {"url": _url(block["source"], place)}}
    else:
        made = {"type": "file", "file": _file(block, place)}
    return marked(made, block)


def marked(made: dict[str, Any], block: Block) -> dict[str, Any]:
    return made | {MARK: block[MARK]} if block.get(MARK) else made


def call_of(block: Block) -> dict[str, Any]:
    arguments = orjson.dumps(block["input"]).decode()
    function = {"name": block["name"], "arguments": arguments}
    return marked({"id": block["id"], "type": "function", "function": function}, block)


def result_of(block: Block, place: str) -> dict[str, Any]:
    """The message that tells what a tool gave."""
    content = content_of(block.get("content"), ("text", "image", "document"), f"{place}.content")
    made = {"role": "tool", "tool_call_id": block["tool_use_id"], "content": content}
    return marked(made | ({"is_error": True} if block.get("is_error") else {}), block)


def _url(source: Mapping[str, Any], place: str) -> str:
    if source["type"] == "url" and "url" in source:
        return str(source["url"])
    if source["type"] == "base64" and {"media_type", "data"} <= source.keys():
        return f"data:{source['media_type']};base64,{source['data']}"
    raise Unsupported(
        f"{place}.source", "Send base64 with media_type and data, or a URL: no files are kept here."
    )


def _file(block: Block, place: str) -> dict[str, Any]:
    source = block["source"]
    if source["type"] != "base64" or source.get("media_type") != _PDF or "data" not in source:
        raise Unsupported(f"{place}.source", f"Send a document as base64 of {_PDF}.")
    made = {"file_data": f"data:{_PDF};base64,{source['data']}"}
    return made | {"filename": block["title"]} if block.get("title") else made
