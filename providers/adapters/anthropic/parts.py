"""One message's content, OpenAI's parts on the left and Anthropic's blocks on the right."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from providers.adapter import Unsupported
from providers.turns import Blocks

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[^,;]+)*;base64,(.*)", re.DOTALL)
_IMAGES = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp"})


def blocks_of(content: Any, place: str) -> Blocks:
    """Anthropic's blocks for a message's `content`: a string, a list of parts, or nothing.

    Blank texts, which Anthropic refuses and which say nothing, are left out. `place` is the
    dotted path that an Unsupported names.
    """
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    blocks = [_block(part, f"{place}.{index}") for index, part in enumerate(content or ())]
    return [block for block in blocks if block["type"] != "text" or block["text"].strip()]


def texts_of(content: Any, place: str) -> Blocks:
    """The blocks of a content that may hold text only."""
    blocks = blocks_of(content, place)
    if any(block["type"] != "text" for block in blocks):
        raise Unsupported(place, "Anthropic takes only text here.")
    return blocks


def _block(part: Mapping[str, Any], place: str) -> dict[str, Any]:
    """`cache_control` is Anthropic's own; clients set it on OpenAI's parts too."""
    block = _translated(part, place)
    for field, value in part.items():
        if field == "cache_control" and value:
            block[field] = value
        elif value and field not in ("type", part["type"]):
            raise Unsupported(f"{place}.{field}", f"Anthropic cannot express {field!r} here.")
    return block


def _translated(part: Mapping[str, Any], place: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind in ("text", "refusal"):
        return {"type": "text", "text": part[kind]}
    if kind == "image_url":
        return {"type": "image", "source": _image(part["image_url"], f"{place}.image_url")}
    if kind == "file":
        return _document(part["file"], f"{place}.file")
    raise Unsupported(f"{place}.type", f"Anthropic takes no part of type {kind!r} here.")


def _image(image: Mapping[str, Any], place: str) -> dict[str, Any]:
    if image.get("detail") not in (None, "auto"):
        raise Unsupported(f"{place}.detail", "Anthropic chooses the detail itself: send 'auto'.")
    url: str = image["url"]
    if url.startswith("https://"):
        return {"type": "url", "url": url}
    match = _DATA_URL.fullmatch(url)
    media_type = "image/jpeg" if match and match[1] == "image/jpg" else match and match[1]
    if not match or media_type not in _IMAGES:
        raise Unsupported(
            f"{place}.url", "Send an https URL, or a base64 data URL of a JPEG, PNG, GIF or WebP."
        )
    return {"type": "base64", "media_type": media_type, "data": match[2]}


def _document(file: Mapping[str, Any], place: str) -> dict[str, Any]:
    match = _DATA_URL.fullmatch(file.get("file_data") or "")
    if not match or match[1] != "application/pdf":
        raise Unsupported(f"{place}.file_data", "Anthropic takes files as base64 PDF data URLs.")
    source = {"type": "base64", "media_type": match[1], "data": match[2]}
    document: dict[str, Any] = {"type": "document", "source": source}
    return document | {"title": name} if (name := file.get("filename")) else document
