"""`reasoning_effort` in Anthropic's terms, which changed from generation to generation.

From 4.6 on, a model thinks as it sees fit and is told how hard (`thinking: adaptive` with
`output_config.effort`). From 3.7 to 4.5 it is given a budget of tokens, which counts towards
`max_tokens`. Older ones do not think. From 5 on they think unless told not to; of 5.5 Opus cannot
be told so, and Sonnet only until it calls a tool.
"""

from __future__ import annotations

from typing import Any

from providers.adapter import Unsupported
from providers.adapters.anthropic.generations import always_thinks, generation

_EFFORTS = {"minimal": "low", **{word: word for word in ("low", "medium", "high", "xhigh", "max")}}
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
_LEAST = 1024  # tokens: Anthropic refuses a smaller budget


def thinking(effort: str | None, model: str, max_tokens: int) -> dict[str, Any]:
    """The fields of the body that ask `model` for that effort. Raises Unsupported."""
    if effort is None:
        return {}
    made = generation(model)
    if effort == "none":
        return _without_thoughts(model)
    if made >= (4, 6) and effort in _EFFORTS:
        return {"thinking": {"type": "adaptive"}, "output_config": {"effort": _EFFORTS[effort]}}
    if (3, 7) <= made < (4, 6) and effort in _BUDGETS and max_tokens > _LEAST:
        # Half of what may be said is left for the answer.
        budget = max(_LEAST, min(_BUDGETS[effort], max_tokens // 2))
        return {"thinking": {"type": "enabled", "budget_tokens": budget}}
    raise Unsupported(
        "reasoning_effort", f"{model} cannot think with effort {effort!r} and these max_tokens."
    )


def _without_thoughts(model: str) -> dict[str, Any]:
    if always_thinks(model):
        if "sonnet" in model:
            return {"thinking": {"type": "between_tools"}}
        raise Unsupported("reasoning_effort", f"{model} always thinks.")
    return {"thinking": {"type": "disabled"}} if generation(model) >= (4, 6) else {}
