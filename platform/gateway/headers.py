"""What the answer's headers say about limits, and what goes along to the provider."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence

from tenants.quotas import Metric
from usage.counters.claims import MICROSECONDS, RateClaim, State

MAX_POLICIES = 4096
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")


def limit_headers(states: Sequence[State]) -> list[tuple[bytes, bytes]]:
    """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers, RFC 9651 lists),
    and the X-RateLimit trio of the tightest limit, its reset in seconds."""
    limits = [state for state in states if type(state.claim) is RateClaim]
    if not limits:
        return []
    tightest = limits[0]
    items = []
    for state in limits:
        if state.left < tightest.left:
            tightest = state
        items.append(f'"{state.claim.limit.name}";r={state.left};t={_seconds(state.wait)}')
    return [
        (b"ratelimit-policy", _policies(tuple([state.claim.key for state in limits]), limits)),
        (b"ratelimit", ", ".join(items).encode()),
        (b"x-ratelimit-limit", b"%d" % tightest.claim.limit.limit),
        (b"x-ratelimit-remaining", b"%d" % tightest.left),
        (b"x-ratelimit-reset", b"%d" % _seconds(tightest.wait)),
    ]


_known_policies: dict[tuple[str, ...], bytes] = {}


def _policies(keys: tuple[str, ...], states: Sequence[State]) -> bytes:
    """The same few lists of limits over and over: written once each."""
    known = _known_policies.get(keys)
    if known is None:
        if len(_known_policies) > MAX_POLICIES:
            _known_policies.clear()
        known = _known_policies[keys] = ", ".join(map(_policy, states)).encode()
    return known


def _policy(state: State) -> str:
    """Units other than requests have a name of our own: no registered one counts tokens."""
    claim = state.claim
    assert type(claim) is RateClaim  # noqa: S101 - limit_headers lets no other pass
    limit = claim.limit
    unit = "" if claim.metric is Metric.REQUESTS else f';qu="patchbay-{claim.metric.value}"'
    return f'"{limit.name}";q={limit.limit}{unit};w={limit.per_seconds}'


def _seconds(microseconds: int) -> int:
    return -(-microseconds // MICROSECONDS)


def child_traceparent(traceparent: str | None) -> str | None:
    """The header to send on: same trace, a span of our own. None for an invalid one
    (W3C Trace Context §3.2.2: `ff` and all-zero ids are invalid)."""
    match = _TRACEPARENT.match(traceparent or "")
    if not match or match[1] == "ff" or not match[2].strip("0") or not match[3].strip("0"):
        return None
    if match[1] == "00" and match[5]:
        return None
    return f"00-{match[2]}-{secrets.token_hex(8)}-{match[4]}"
