"""How much larger than a document a JMESPath can make what it finds in it.

`[@, @][]` doubles a list. Written thirty times, in few characters, it would hang a gateway and
take its memory: so what an expression may multiply by is bounded when the manifest is compiled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

MAX_GROWTH: Final = 250

# What is written in these is applied to one another; in others, such as the items of a list or
# the two sides of `||`, it stands side by side.
_CHAINED: Final = frozenset(
    {
        "subexpression",
        "index_expression",
        "pipe",
        "projection",
        "value_projection",
        "filter_projection",
        "flatten",
        "function_expression",
    }
)


def growth(node: Mapping[str, Any]) -> int:
    """At most how many copies of its input a parsed JMESPath makes."""
    if node["type"] == "literal":
        return _leaves(node["value"])
    parts = [growth(child) for child in node["children"] if isinstance(child, dict)]
    if node["type"] in _CHAINED:
        return math.prod(parts)
    return max(1, sum(parts))


def _leaves(value: Any) -> int:
    if isinstance(value, dict):
        return max(1, sum(map(_leaves, value.values())))
    return max(1, sum(map(_leaves, value))) if isinstance(value, list) else 1
