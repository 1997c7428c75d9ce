"""What the answer's headers say about limits, and what goes along to the provider."""

from __future__ import annotations

import re
import secrets
from functools import lru_cache

from tenants.limits import RateLimit
from usage.limiter import LimitState

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")


def limit_headers(states: tuple[LimitState, ...]) -> list[tuple[bytes, bytes]]:
    """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers, RFC 9651 lists),
    and the X-RateLimit trio of the tightest limit, its reset in seconds."""
    if not states:
        return []
    tightest = min(states, key=lambda state: (state.remaining, -state.reset))
    items = ", ".join(f'"{s.limit.name}";r={s.remaining};t={s.reset}' for s in states)
    return [
        (b"ratelimit-policy", _policies(tuple(state.limit for state in states))),
        (b"ratelimit", items.encode()),
        (b"x-ratelimit-limit", str(tightest.limit.limit).encode()),
        (b"x-ratelimit-remaining", str(tightest.remaining).encode()),
        (b"x-ratelimit-reset", str(tightest.reset).encode()),
    ]


@lru_cache(maxsize=1024)
def _policies(limits: tuple[RateLimit, ...]) -> bytes:
    return ", ".join(f'"{x.name}";q={x.limit};w={x.per_seconds}' for x in limits).encode()


def child_traceparent(traceparent: str | None) -> str | None:
    """The header to send on: same trace, a span of our own. None for an invalid one
    (W3C Trace Context §3.2.2: `ff` and all-zero ids are invalid)."""
    match = _TRACEPARENT.match(traceparent or "")
    if not match or match[1] == "ff" or not match[2].strip("0") or not match[3].strip("0"):
        return None
    if match[1] == "00" and match[5]:
        return None
    return f"00-{match[2]}-{secrets.token_hex(8)}-{match[4]}"
