"""What a chat message has in `extra_content` (signed thoughts, signatures) as `encrypted_content`
of a reasoning item, which clients send back unread. It is no secret of ours, only packed."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import orjson

_MARK = "pb1."


def sealed(extra: Mapping[str, Any]) -> str:
    return _MARK + base64.urlsafe_b64encode(orjson.dumps(extra)).decode()


def opened(text: str) -> dict[str, Any] | None:
    """None for what is not of our making."""
    if not text.startswith(_MARK):
        return None
    try:
        extra = orjson.loads(base64.urlsafe_b64decode(text[len(_MARK) :]))
    except (binascii.Error, ValueError):
        return None
    return extra if isinstance(extra, dict) else None
