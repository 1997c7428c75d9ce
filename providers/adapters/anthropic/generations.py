"""What one generation of Anthropic's models takes and the next one refuses, so that another target
may be asked, or the client hears of the field by name.

https://platform.claude.com/docs/en/about-claude/models/migration-guide
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from providers.adapter import Unsupported
from providers.adapters.anthropic.answer import THOUGHTS

_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_SAMPLING = ("temperature", "top_p", "top_k")
_LEAST_TOP_P = 0.95  # while a model thinks
_UNKNOWN = (99, 0)


def generation(model: str) -> tuple[int, int]:
    """(4, 5) of `claude-sonnet-4-5-20250929`; a name without a number is taken for a new one."""
    match = _VERSION.search(model)
    return (int(match[1]), int(match[2] or 0)) if match else _UNKNOWN


def is_since(model: str, *version: int) -> bool:
    """Whether it is surely of that generation or a later one: what has no number may be another
    maker's."""
    return version <= generation(model) < _UNKNOWN


def always_thinks(model: str) -> bool:
    """At the latest once it calls tools."""
    return is_since(model, 5, 5) and "haiku" not in model


def check(body: Mapping[str, Any], model: str) -> None:
    """Raises Unsupported for what `model` would refuse of a body that is otherwise right."""
    thinks = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
    _check_sampling(body, model, thinks=thinks)
    is_forced = body.get("tool_choice", {}).get("type") in ("any", "tool")
    if is_forced and (thinks or always_thinks(model)):
        raise Unsupported("tool_choice", "Anthropic's models choose freely while they think.")
    if body["messages"][-1]["role"] == "assistant" and is_since(model, 4, 6):
        raise Unsupported("messages", f"{model} wants a user's message at the end.")
    _check_thoughts(body)


def _check_sampling(body: Mapping[str, Any], model: str, *, thinks: bool) -> None:
    given = [name for name in _SAMPLING if name in body]
    if given and is_since(model, 4, 7):
        raise Unsupported(given[0], f"{model} takes no {given[0]!r}: leave it out.")
    if {"temperature", "top_p"} <= set(given) and is_since(model, 4, 1):
        raise Unsupported("top_p", f"{model} takes a temperature or top_p, not both.")
    if thinks and given and (given != ["top_p"] or body["top_p"] < _LEAST_TOP_P):
        raise Unsupported(given[0], f"{given[0]!r} cannot be said to a model that thinks.")


def _check_thoughts(body: Mapping[str, Any]) -> None:
    answers = [turn["content"] for turn in body["messages"] if turn["role"] == "assistant"]
    calling = bool(answers) and answers[-1][-1]["type"] == "tool_use"
    is_told = body.get("thinking", {}).get("type") == "enabled"
    if is_told and calling and answers[-1][0]["type"] not in THOUGHTS:
        raise Unsupported(
            "messages", "A thinking model wants its calls back with their `extra_content`."
        )
