"""Limits told in headers, and the trace that goes along to the provider."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import headers as headers_module
from gateway.headers import MAX_KEPT, MAX_LINE, child_traceparent, kept, limit_headers
from tenants.limits import RateLimit, Scope
from tests.gateway.unit.rig import Rig, failure, route, target
from tests.loops import on_loop
from usage.counters.claims import MICROSECONDS, RateClaim, State

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"


def state(limit: int, remaining: int, reset: int, per_seconds: int = 60) -> State:
    """`reset` in microseconds."""
    made = RateLimit(Scope.KEY, limit, per_seconds)
    return State(RateClaim(made, f"rate:{made.key}"), remaining, reset)


def limit_of(told: State) -> RateLimit:
    assert isinstance(told.claim, RateClaim)
    return told.claim.limit


def test_no_limits_no_headers() -> None:
    assert limit_headers(()) == []


states = st.builds(
    state,
    st.integers(1, 10**9),
    st.integers(0, 10**9),
    st.integers(0, 10**12),
    st.sampled_from([1, 10, 60, 3600, 86400, 7]),
)


@given(st.lists(states, min_size=1, max_size=5))
def test_both_fields_are_structured_lists_that_agree(told: list[State]) -> None:
    headers = dict(limit_headers(tuple(told)))
    policies = http_sf.parse(headers[b"ratelimit-policy"], tltype="list")
    left = http_sf.parse(headers[b"ratelimit"], tltype="list")
    assert [(name, p["q"], p["w"]) for name, p in policies] == [
        (limit_of(s).name, limit_of(s).limit, limit_of(s).per_seconds) for s in told
    ]
    assert [(name, p["r"], p["t"]) for name, p in left] == [
        (limit_of(s).name, s.left, math.ceil(Fraction(s.wait, MICROSECONDS))) for s in told
    ]
    tightest = min(told, key=lambda s: s.left)
    assert int(headers[b"x-ratelimit-remaining"]) == tightest.left
    assert int(headers[b"x-ratelimit-limit"]) == limit_of(tightest).limit
    assert int(headers[b"x-ratelimit-reset"]) * MICROSECONDS >= tightest.wait


def test_what_is_remembered_of_policies_is_bounded_and_never_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(headers_module, "MAX_POLICIES", 3)
    for limit in [*range(1, 12), *range(1, 12)]:
        headers = dict(limit_headers((state(limit, 0, 1),)))
        assert headers[b"ratelimit-policy"] == f'"key-minute";q={limit};w=60'.encode()


INVALID = {
    "nothing": None,
    "empty": "",
    "version ff": f"ff-{TRACE}-{SPAN}-01",
    "no trace": f"00-{'0' * 32}-{SPAN}-01",
    "no span": f"00-{TRACE}-{'0' * 16}-01",
    "upper case": f"00-{TRACE.upper()}-{SPAN}-01",
    "short": f"00-{TRACE[:-1]}-{SPAN}-01",
    "more than version 00 has": f"{GOOD}-extra",
    "a second line": f"{GOOD}\nx: y",
    "two": f"{GOOD},{GOOD}",
}


@pytest.mark.parametrize("shown", INVALID.values(), ids=INVALID.keys())
def test_what_is_no_trace_is_not_passed_on(shown: str | None) -> None:
    assert child_traceparent(shown) is None


@pytest.mark.parametrize("shown", [GOOD, f"01-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-more"])
def test_a_trace_goes_on_with_a_span_of_our_own(shown: str) -> None:
    told = child_traceparent(shown) or ""
    assert re.fullmatch(rf"00-{TRACE}-[0-9a-f]{{16}}-01", told)
    assert SPAN not in told
    assert told != child_traceparent(shown)


@on_loop
async def test_every_attempt_carries_the_trace_and_our_request_id(rig: Rig) -> None:
    rig.serve(route(target("one"), target("two")))
    rig.upstreams.by_provider(one=failure)
    client = await rig.chat(headers={"traceparent": GOOD, "x-client-request-id": "theirs"})
    assert len(rig.upstreams.sent) == 2
    for request in rig.upstreams.sent:
        assert request.headers["traceparent"].startswith(f"00-{TRACE}-")
        assert request.headers["x-client-request-id"] == client.headers["x-request-id"]
        assert request.headers["accept-encoding"] == "identity"


@on_loop
async def test_nothing_else_of_the_clients_headers_reaches_a_provider(rig: Rig) -> None:
    own = {"cookie": "session=canary", "user-agent": "canary", "x-anything": "canary"}
    await rig.chat(headers={**own, "traceparent": "canary"})
    sent = str(rig.upstreams.sent[0].headers)
    assert "canary" not in sent
    assert rig.key not in sent
    assert "traceparent" not in sent


def test_of_a_requests_headers_those_are_kept_that_prove_nothing() -> None:
    told = [
        (b"authorization", b"Bearer pb_live_canary"),
        (b"x-api-key", b"canary"),
        (b"cookie", b"session=canary"),
        (b"idempotency-key", b"canary"),
        (b"x-forwarded-for", b"203.0.113.7"),
        (b"user-agent", b"OpenAI/Python 2.8"),
        (b"x-patchbay-cache-control", b"max-age=60"),
    ]
    assert kept(told) == "user-agent: OpenAI/Python 2.8\nx-patchbay-cache-control: max-age=60"
    assert kept(told[:5]) is None


NAMES = st.sampled_from([b"user-agent", b"x-patchbay-a", b"x-patchbay-" + b"a" * 9000])


@given(st.lists(st.tuples(NAMES, st.binary())))
def test_whatever_a_client_says_is_kept_in_few_bytes_that_every_store_takes(
    told: list[tuple[bytes, bytes]],
) -> None:
    lines = (kept(told) or "").split("\n") if told else []
    assert len(lines) == min(len(told), MAX_KEPT)
    assert all(line.isprintable() and len(line) <= 4 * MAX_LINE for line in lines)


@on_loop
async def test_they_stand_in_its_row(rig: Rig) -> None:
    told = {"user-agent": "curl/8", "cookie": "a=b"}
    await rig.chat(headers=told)
    assert rig.final.record.headers == "user-agent: curl/8"
