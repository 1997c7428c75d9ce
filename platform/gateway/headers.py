"""What the answer's headers say about limits, and what goes along to the provider."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence

from tenants.quotas import Metric
from usage.counters.claims import MICROSECONDS, RateClaim, State

MAX_POLICIES = 4096
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")


# What a call's row keeps of its request's headers: which client it was and what it wanted of us.
# Nothing that proves who somebody is: not Authorization, X-API-Key, Idempotency-Key or cookies.
_KEPT = frozenset({b"accept", b"content-type", b"traceparent", b"user-agent"})
_OURS = b"x-patchbay-"
MAX_KEPT = 20
MAX_LINE = 200  # bytes


def kept(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """Those of the request that are kept with its row, a line each; None for none."""
    told = [pair for pair in headers if pair[0] in _KEPT or pair[0].startswith(_OURS)]
    return "\n".join([_line(b": ".join(pair)) for pair in told[:MAX_KEPT]]) if told else None


def _line(said: bytes) -> str:
    """In characters that every store takes: a row that one refuses is a call not answered."""
    text = said[:MAX_LINE].decode("latin-1")
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def limit_headers(states: Sequence[State]) -> list[tuple[bytes, bytes]]:
    """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers, RFC 9651 lists),
    and the X-RateLimit trio of the tightest limit, its reset in seconds."""
    claims, items = [], []
    tightest: tuple[int, int, int] | None = None  # left, seconds, limit
    for claim, left, wait, _ in states:
        if type(claim) is RateClaim:
            seconds = -(-wait // MICROSECONDS)
            if tightest is None or left < tightest[0]:
                tightest = (left, seconds, claim.limit.limit)
            claims.append(claim)
            items.append(f'"{claim.limit.name}";r={left};t={seconds}')
    if tightest is None:
        return []
    left, seconds, limit = tightest
    return [
        (b"ratelimit-policy", _policies(tuple([claim.key for claim in claims]), claims)),
        (b"ratelimit", ", ".join(items).encode()),
        (b"x-ratelimit-limit", b"%d" % limit),
        (b"x-ratelimit-remaining", b"%d" % left),
        (b"x-ratelimit-reset", b"%d" % seconds),
    ]


_known_policies: dict[tuple[str, ...], bytes] = {}


def _policies(keys: tuple[str, ...], claims: Sequence[RateClaim]) -> bytes:
    """The same few lists of limits over and over: written once each."""
    known = _known_policies.get(keys)
    if known is None:
        if len(_known_policies) > MAX_POLICIES:
            _known_policies.clear()
        known = _known_policies[keys] = ", ".join(map(_policy, claims)).encode()
    return known


def _policy(claim: RateClaim) -> str:
    """Units other than requests have a name of our own: no registered one counts tokens."""
    limit = claim.limit
    unit = "" if claim.metric is Metric.REQUESTS else f';qu="patchbay-{claim.metric.value}"'
    return f'"{limit.name}";q={limit.limit}{unit};w={limit.per_seconds}'


def child_traceparent(traceparent: str | None) -> str | None:
    """The header to send on: same trace, a span of our own. None for an invalid one
    (W3C Trace Context §3.2.2: `ff` and all-zero ids are invalid)."""
    match = _TRACEPARENT.match(traceparent or "")
    if not match or match[1] == "ff" or not match[2].strip("0") or not match[3].strip("0"):
        return None
    if match[1] == "00" and match[5]:
        return None
    return f"00-{match[2]}-{secrets.token_hex(8)}-{match[4]}"
