"""One message's content, OpenAI's parts on the left and Gemini's on the right."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from providers.adapter import Unsupported

Part = dict[str, Any]

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[^,;]+)*;base64,(.*)", re.DOTALL)

# Gemini fetches public HTTPS files itself (models since 2.5); it wants to know what they are,
# and a URL's ending is all there is to tell.
_MIME_BY_SUFFIX = {
    "gif": "image/gif",
    "heic": "image/heic",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "pdf": "application/pdf",
    "png": "image/png",
    "webp": "image/webp",
}


def parts_of(content: Any, place: str) -> list[Part]:
    """Gemini's parts for a message's `content`: a string, a list of parts, or nothing.

    `place` is the dotted path that an Unsupported names.
    """
    if not content:
        return []
    if isinstance(content, str):
        return [{"text": content}]
    return [_part(part, f"{place}.{index}") for index, part in enumerate(content)]


def text_of(content: Any, place: str) -> str:
    """The text of a content that may hold nothing else."""
    parts = parts_of(content, place)
    for index, part in enumerate(parts):
        if "text" not in part:
            raise Unsupported(f"{place}.{index}.type", "Gemini takes only text here.")
    return "".join(part["text"] for part in parts)


def _part(part: Mapping[str, Any], place: str) -> Part:
    kind = part.get("type")
    if kind in ("text", "refusal"):
        return {"text": part[kind]}
    if kind == "image_url":
        return _image(part["image_url"], f"{place}.image_url")
    if kind == "input_audio":
        audio = part["input_audio"]
        return _inline(f"audio/{audio['format']}", audio["data"])
    if kind == "file":
        return _file(part["file"], f"{place}.file")
    raise Unsupported(f"{place}.type", f"Gemini has no content part of type {kind!r}.")


def _image(image: Mapping[str, Any], place: str) -> Part:
    if image.get("detail") not in (None, "auto"):
        raise Unsupported(f"{place}.detail", "Gemini chooses the detail itself: send `auto`.")
    url: str = image["url"]
    if url.startswith("data:"):
        return _from_data_url(url, f"{place}.url")
    if not url.startswith("https://"):
        raise Unsupported(f"{place}.url", "Gemini takes `data:…;base64,` and https URLs.")
    file = {"fileUri": url}
    suffix = url.partition("?")[0].rpartition(".")[2].lower()
    if suffix in _MIME_BY_SUFFIX:
        file["mimeType"] = _MIME_BY_SUFFIX[suffix]
    return {"fileData": file}


def _file(file: Mapping[str, Any], place: str) -> Part:
    data = file.get("file_data")
    if not data:
        raise Unsupported(f"{place}.file_id", "Gemini cannot see files stored elsewhere.")
    return _from_data_url(data, f"{place}.file_data")


def _from_data_url(url: str, place: str) -> Part:
    match = _DATA_URL.fullmatch(url)
    if not match:
        raise Unsupported(place, "Send a URL of the form `data:<type>/<subtype>;base64,<data>`.")
    return _inline(match[1], match[2])


def _inline(mime_type: str, data: str) -> Part:
    return {"inlineData": {"mimeType": mime_type, "data": data}}
