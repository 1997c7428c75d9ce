"""The Response object: what was asked, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.call import Usage

_ASKED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": None,
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "user": None,
}
_NEVER: Mapping[str, Any] = {
    "background": False,
    "max_tool_calls": None,
    "previous_response_id": None,
    "store": False,
    "truncation": "disabled",
}
_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}


def response_of(
    head: Mapping[str, Any], asked: Mapping[str, Any], output: list[dict[str, Any]], **end: Any
) -> dict[str, Any]:
    """`head` tells id, created_at and model; `end` what is known once it is over."""
    echoed = {
        name: default if (told := asked.get(name)) is None else told
        for name, default in _ASKED.items()
    }
    reasoning, text = asked.get("reasoning") or {}, asked.get("text") or {}
    return {
        "object": "response",
        **head,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "output": output,
        "usage": None,
        "reasoning": {name: reasoning.get(name) for name in ("effort", "summary")},
        "text": {**text, "format": text.get("format") or {"type": "text"}},
        **echoed,
        **_NEVER,
        **end,
    }


def end_of(finish: Any, usage: Usage | None) -> dict[str, Any]:
    """How it ended, by chat's finish reason."""
    cut = _CUT.get(str(finish))
    return {
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": cut} if cut else None,
        "usage": usage and counts_of(usage),
    }


def counts_of(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
