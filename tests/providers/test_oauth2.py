"""Client credentials: how a token is asked for, and every way in which none comes."""

from __future__ import annotations

import base64
import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.adapter import StreamFault
from providers.call import Grant, Upstream, Verdict
from providers.oauth2 import KEPT, MOST, UNTOLD, request_of, token_of

GRANT = Grant("https://id.example/token", "read write")
CLIENT = Upstream("p", "https://p.example", parts={"client_id": "i:d", "client_secret": "s&é+%"})


def test_by_basic_both_parts_are_encoded_first() -> None:
    request = request_of(GRANT, CLIENT)
    assert (request.method, request.url) == ("POST", GRANT.url)
    kind, _, pair = request.headers["authorization"].partition(" ")
    assert (kind, base64.b64decode(pair)) == ("Basic", b"i%3Ad:s%26%C3%A9%2B%25")
    assert request.body == b"grant_type=client_credentials&scope=read+write"


def test_in_the_body_there_is_no_header() -> None:
    request = request_of(Grant(GRANT.url, in_body=True), CLIENT)
    assert "authorization" not in request.headers
    assert request.body == (
        b"grant_type=client_credentials&client_id=i%3Ad&client_secret=s%26%C3%A9%2B%25"
    )


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        (3600, 3600 * KEPT),
        ("3600", 3600 * KEPT),
        (1.5, 1.5 * KEPT),
        (None, UNTOLD * KEPT),
        ("soon", UNTOLD * KEPT),
        ([], UNTOLD * KEPT),
        ("nan", UNTOLD * KEPT),
        (-5, 0),
        (0, 0),
        (10**12, MOST * KEPT),
        ("inf", MOST * KEPT),
    ],
)
def test_a_token_is_kept_for_nine_tenths_of_its_life(told: object, seconds: float) -> None:
    body = orjson.dumps({"access_token": "to.ken", "expires_in": told})
    token = token_of(200, {}, body)
    assert (token.text, token.seconds) == ("to.ken", pytest.approx(seconds))
    assert math.isfinite(token.seconds)


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (401, b"", Verdict.AUTH),
        (401, b'{"error": "invalid_client"}', Verdict.AUTH),
        (400, b'{"error": "invalid_client"}', Verdict.AUTH),
        (400, b'{"error": "unauthorized_client"}', Verdict.AUTH),
        (400, b'{"error": "invalid_scope"}', Verdict.BLOCKED),
        (400, b'["invalid_client"]', Verdict.BLOCKED),
        (403, b"", Verdict.BLOCKED),
        (404, b"", Verdict.BLOCKED),
        (302, b"", Verdict.BLOCKED),
        (429, b"", Verdict.RATE_LIMITED),
        (500, b"{}", Verdict.UNAVAILABLE),
        (503, b"", Verdict.UNAVAILABLE),
        (200, b"", Verdict.BAD_PAYLOAD),
        (200, b"<html>", Verdict.BAD_PAYLOAD),
        (200, b"[]", Verdict.BAD_PAYLOAD),
        (200, b'{"access_token": ""}', Verdict.BAD_PAYLOAD),
        (200, b'{"access_token": 5}', Verdict.BAD_PAYLOAD),
        (200, b'{"access_token": "a\\r\\nhost: evil"}', Verdict.BAD_PAYLOAD),
        (200, b'{"token": "a"}', Verdict.BAD_PAYLOAD),
    ],
)
def test_every_way_in_which_none_comes(status: int, body: bytes, verdict: Verdict) -> None:
    with pytest.raises(StreamFault) as caught:
        token_of(status, {"retry-after": "7"}, body)
    outcome = caught.value.outcome
    assert outcome.verdict is verdict
    waits = verdict in (Verdict.RATE_LIMITED, Verdict.UNAVAILABLE)
    assert outcome.retry_after == (7 if waits else None)


@given(st.integers(200, 599), st.binary(max_size=60))
def test_no_answer_is_quoted(status: int, body: bytes) -> None:
    try:
        token_of(status, {}, body)
    except StreamFault as fault:
        assert str(status) in fault.outcome.message or status < 300
        assert len(fault.outcome.message) < 80
