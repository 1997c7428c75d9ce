"""What a chat call may say beyond OpenAI's shape, because its client speaks Anthropic's.

Anthropic's own models are given all of it. Other dialects have no words for it, and are given
the call without: marks of what to cache, signatures of thoughts and `is_error` say nothing that
another model could use, and how hard to think is said in OpenAI's word. docs/api/messages.md
tells clients so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from providers.call import Call

MARK = "cache_control"
LONGEST_USER = 64  # characters that OpenAI takes as `user`
_ANTHROPICS = frozenset({MARK, "thinking", "output_config"})
# The most tokens of thought that each word stands for, as in the dialects' own tables.
_LOW, _MEDIUM = 1024, 8192
_EFFORTS = {"max": "xhigh"}


def plain(call: Call) -> Call:
    """An annotated call as every other dialect may take it."""
    params = {name: value for name, value in call.params.items() if name not in _ANTHROPICS}
    params["messages"] = [_message(message) for message in params["messages"]]
    if params.get("tools"):
        params["tools"] = [_without(tool, MARK) for tool in params["tools"]]
    if (effort := _effort(call.params)) and not params.get("reasoning_effort"):
        params["reasoning_effort"] = effort
    user = params.get("user")
    if user and len(user) > LONGEST_USER:
        params["user"] = hashlib.sha256(user.encode()).hexdigest()
    return replace(call, params=params, body=b"", annotated=False)


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    made = _without(message, MARK, "is_error")
    if isinstance(made.get("content"), list):
        made["content"] = _content(made["content"])
    if made.get("tool_calls"):
        made["tool_calls"] = [_without(call, MARK) for call in made["tool_calls"]]
    if extra := made.pop("extra_content", None):
        kept = _without(extra, "anthropic")
        made |= {"extra_content": kept} if kept else {}
    return made


def _content(parts: list[Any]) -> list[Any] | str:
    """One text that has no marks any more is a plain string, which every service takes."""
    bare = [_without(part, MARK) for part in parts]
    return bare[0]["text"] if len(bare) == 1 and bare[0]["type"] == "text" else bare


def _effort(params: Mapping[str, Any]) -> str | None:
    """`high` is what Anthropic's models do unless told otherwise; without a word about thinking
    it asks for nothing."""
    asked = (params.get("output_config") or {}).get("effort")
    thinking = params.get("thinking") or {}
    if thinking.get("type") == "enabled":
        budget = thinking["budget_tokens"]
        return "low" if budget <= _LOW else "medium" if budget <= _MEDIUM else "high"
    if thinking.get("type") == "adaptive":
        asked = asked or "high"
    elif asked == "high":
        return None
    return _EFFORTS.get(asked, asked) if asked else None


def _without(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in names}
