"""How long a call may wait, and for what. All in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

MAX_MS = 24 * 3600 * 1000
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        f"{name}_ms": {"type": "integer", "minimum": 1, "maximum": MAX_MS}
        for name in ("connect", "first_byte", "idle", "total")
    },
}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """`first_byte` runs from sending the request to the first byte of the answer's body (or,
    in a stream, its first event); `idle` is the longest gap between two chunks after it."""

    connect: float = 5.0
    first_byte: float = 30.0
    idle: float = 30.0
    total: float = 60.0

    def over(self, milliseconds: Mapping[str, int]) -> Timeouts:
        """These, with what a provider's or route's `{"connect_ms": …}` says instead.

        Raises ValueError for what is no time: staff write it as free JSON.
        """
        if not isinstance(milliseconds, Mapping):
            raise ValueError('time-outs are an object such as {"connect_ms": 2000}')
        fields = {
            name: _seconds(milliseconds[f"{name}_ms"])
            for name in ("connect", "first_byte", "idle", "total")
            if f"{name}_ms" in milliseconds
        }
        return replace(self, **fields) if fields else self

    def as_json(self) -> dict[str, int]:
        """As `over` reads them."""
        return {f"{name}_ms": round(seconds * 1000) for name, seconds in asdict(self).items()}


def _seconds(milliseconds: object) -> float:
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        raise ValueError("a time-out is a number of milliseconds")
    if not 0 < milliseconds <= MAX_MS:
        raise ValueError(f"a time-out is more than 0 and at most {MAX_MS} milliseconds")
    return milliseconds / 1000
