"""What the answer's headers say about limits, and what goes along to the provider."""

from __future__ import annotations

import re
import secrets

from usage.limiter import LimitState

MAX_POLICIES = 4096
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")


def limit_headers(states: tuple[LimitState, ...]) -> list[tuple[bytes, bytes]]:
    """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers, RFC 9651 lists),
    and the X-RateLimit trio of the tightest limit, its reset in seconds."""
    if not states:
        return []
    tightest = states[0]
    for state in states:
        if state.remaining < tightest.remaining:
            tightest = state
    items = ", ".join([f'"{s.limit.name}";r={s.remaining};t={s.reset}' for s in states])
    return [
        (b"ratelimit-policy", _policies(tuple([state.limit.key for state in states]), states)),
        (b"ratelimit", items.encode()),
        (b"x-ratelimit-limit", str(tightest.limit.limit).encode()),
        (b"x-ratelimit-remaining", str(tightest.remaining).encode()),
        (b"x-ratelimit-reset", str(tightest.reset).encode()),
    ]


_known_policies: dict[tuple[str, ...], bytes] = {}


def _policies(keys: tuple[str, ...], states: tuple[LimitState, ...]) -> bytes:
    """The same few lists of limits over and over: written once each."""
    known = _known_policies.get(keys)
    if known is None:
        if len(_known_policies) > MAX_POLICIES:
            _known_policies.clear()
        items = [f'"{s.limit.name}";q={s.limit.limit};w={s.limit.per_seconds}' for s in states]
        known = _known_policies[keys] = ", ".join(items).encode()
    return known


def child_traceparent(traceparent: str | None) -> str | None:
    """The header to send on: same trace, a span of our own. None for an invalid one
    (W3C Trace Context §3.2.2: `ff` and all-zero ids are invalid)."""
    match = _TRACEPARENT.match(traceparent or "")
    if not match or match[1] == "ff" or not match[2].strip("0") or not match[3].strip("0"):
        return None
    if match[1] == "00" and match[5]:
        return None
    return f"00-{match[2]}-{secrets.token_hex(8)}-{match[4]}"
