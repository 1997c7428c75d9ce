"""`reasoning_effort` in Anthropic's terms, which changed from generation to generation.

From 4.6 on, a model thinks as it sees fit and is told how hard (`thinking: adaptive` with
`output_config.effort`). From 3.7 to 4.5 it is given a budget of tokens, which counts towards
`max_tokens`. Older ones do not think. Thinking is off unless asked for.
"""

from __future__ import annotations

import re
from typing import Any

from providers.adapter import Unsupported

_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")

_EFFORTS = {"minimal": "low", **{word: word for word in ("low", "medium", "high", "xhigh", "max")}}
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
_LEAST = 1024  # tokens: Anthropic refuses a smaller budget


def thinking(effort: str | None, model: str, max_tokens: int) -> dict[str, Any]:
    """The fields of the body that ask `model` for that effort. Raises Unsupported."""
    if effort is None:
        return {}
    generation = _generation(model)
    if effort == "none":
        return {"thinking": {"type": "disabled"}} if generation >= (4, 6) else {}
    if generation >= (4, 6) and effort in _EFFORTS:
        return {"thinking": {"type": "adaptive"}, "output_config": {"effort": _EFFORTS[effort]}}
    if (3, 7) <= generation < (4, 6) and effort in _BUDGETS and max_tokens > _LEAST:
        # Half of what may be said is left for the answer.
        budget = max(_LEAST, min(_BUDGETS[effort], max_tokens // 2))
        return {"thinking": {"type": "enabled", "budget_tokens": budget}}
    raise Unsupported(
        "reasoning_effort", f"{model} cannot think with effort {effort!r} and these max_tokens."
    )


def _generation(model: str) -> tuple[int, int]:
    """(4, 5) of `claude-sonnet-4-5-20250929`; a name without a number is taken for a new one."""
    match = _VERSION.search(model)
    return (int(match[1]), int(match[2] or 0)) if match else (99, 0)
