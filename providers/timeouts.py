"""How long a call may wait, and for what. All in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Timeouts:
    """`first_byte` runs from sending the request to the first byte of the answer's body (or,
    in a stream, its first event); `idle` is the longest gap between two chunks after it."""

    connect: float = 5.0
    first_byte: float = 30.0
    idle: float = 30.0
    total: float = 60.0

    def over(self, milliseconds: Mapping[str, int]) -> Timeouts:
        """These, with what a provider's or route's `{"connect_ms": …}` says instead."""
        fields = {
            name: milliseconds[f"{name}_ms"] / 1000
            for name in ("connect", "first_byte", "idle", "total")
            if f"{name}_ms" in milliseconds
        }
        return replace(self, **fields) if fields else self
