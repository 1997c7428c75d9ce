"""Refusals: no secret comes out, every wait is read, and each verdict is one of our problems."""

from __future__ import annotations

import datetime as dt
import math

import pytest
import time_machine
from hypothesis import example, given
from hypothesis import strategies as st

from lib.problems import Unavailable, UpstreamRejected, UpstreamTimeout
from providers.call import Outcome, Verdict
from providers.rejection import (
    MAX_MESSAGE,
    clean_message,
    of_a_page,
    parsed,
    problem,
    retry_after,
    retry_delay,
)

NOW = dt.datetime(2026, 11, 20, 12, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "secret",
    [
        "sk-abcdef",
        "sk-proj-Ab3_d-9fgh",
        "sk-ant-api03-xyz",
        "gsk_A1b2C3d4",
        "hf_AbCdEfGh",
        "xai-12345678",
        "pplx-0a1b2c3d",
        "pb_live_k3y_s3cr3t",
        "AIzaSyD-00000",
        "eyJhbGciOi.eyJzdWIi.c2ln",
        "org-S3cretOrg",
        "0123456789abcdef0123456789abcdef",
        "sk-ab***********cd",
    ],
)
def test_secrets_are_taken_out(secret: str) -> None:
    for sentence in (f"Key {secret} is wrong", f"({secret})", f'"{secret}".', secret):
        assert secret not in clean_message(sentence)
        assert secret.strip("*")[-8:] not in clean_message(sentence)


def test_a_key_of_no_known_form_is_known_by_what_stands_before_it() -> None:
    for words in ("Incorrect API key provided: hunter2", "Your api key: hunter2", "Bearer hunter2"):
        assert "hunter2" not in clean_message(words)


@pytest.mark.parametrize(
    "words",
    [
        "The sketchbook, a skateboarder's package and pk are no secrets.",
        "This model's maximum context length is 128000 tokens (gpt-5-mini-2026-01-01).",
        "Request 0198a3c2-7d11-7cc2-9b1f-3f1f7b6f1c11 failed.",
        "",
    ],
)
def test_plain_words_stay(words: str) -> None:
    assert clean_message(words) == words


def test_what_is_no_text_says_nothing_and_long_texts_are_cut() -> None:
    assert clean_message({"a": 1}) == clean_message(None) == ""
    assert len(clean_message("word " * 10_000)) == MAX_MESSAGE


@given(st.text(alphabet="ab-_ :\n", max_size=600), st.integers(0, 600))
def test_a_key_is_gone_wherever_it_stands(text: str, at: int) -> None:
    cleaned = clean_message(f"{text[:at]} sk-Zq9XvTestTestTest {text[at:]}")
    assert "Zq9X" not in cleaned


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "0", "retry-after": "1"}, 1),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 -0000"}, 30),
        ({"retry-after": "Fri, 20 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12ms"}, 0.012),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1h2m3.5s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "1s",
            },
            3723.5,
        ),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "20"}, 20),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "20"}, 20),
        ({"ratelimit-remaining": "1", "ratelimit-reset": "20"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795176020"}, 20),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795176020000"}, 20),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-11-20T12:00:45Z",
            },
            45,
        ),
    ],
)
def test_every_form_of_a_wait(headers: dict[str, str], wait: float | None) -> None:
    with time_machine.travel(NOW, tick=False):
        assert retry_after(headers) == (wait if wait is None else pytest.approx(wait))


@pytest.mark.parametrize(
    ("words", "wait"),
    [
        ("Please try again in 20s.", 20),
        ("Limit 1, Requested 30. Try again in 1m30s. Visit", 90),
        ("Please try again in 28ms.", 0.028),
        ("Please try again in a while.", None),
        ("try again in dhm", None),
    ],
)
def test_a_wait_in_words_is_the_last_resort(words: str, wait: float | None) -> None:
    assert retry_after({}, words) == (wait if wait is None else pytest.approx(wait))
    assert retry_after({"retry-after": "3"}, words) == 3


@given(st.text(max_size=40) | st.from_regex(r"[0-9T:.Zdhms+-]{0,30}", fullmatch=True))
@example("99999999999999")
@example("9999-12-31T23:59:59-23:59")
@example("0001-01-01T00:00:00+23:59")
@example("Mon, 01 Jan 0001 00:00:00 +2359")
def test_no_header_breaks_it_or_makes_it_wait_backwards(text: str) -> None:
    spent = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": text}
    for headers in ({"retry-after": text}, {"retry-after-ms": text}, spent):
        wait = retry_after(headers, f"try again in {text}")
        assert wait is None or (wait >= 0 and math.isfinite(wait))


@pytest.mark.parametrize(
    ("details", "wait"),
    [
        ([{"@type": "…RetryInfo", "retryDelay": "34s"}], 34),
        ([{"@type": "…Help"}, 7, {"retryDelay": "34.074824224s"}], 34.074824224),
        ([{"retryDelay": "1h7m55.5s"}], 4075.5),
        ([{"retryDelay": "soon"}], None),
        ([{"retryDelay": {"seconds": 3}}], None),
        ("retryDelay", None),
        (None, None),
    ],
)
def test_googles_place_for_a_wait(details: object, wait: float | None) -> None:
    assert retry_delay(details) == (wait if wait is None else pytest.approx(wait))


def test_a_web_page_says_nothing_of_credentials_or_fields() -> None:
    page = {"content-type": "Text/HTML; charset=UTF-8"}
    assert of_a_page(403, page) is of_a_page(400, page) is Verdict.BLOCKED
    for status in (200, 401, 404, 413, 429, 500):
        assert of_a_page(status, page) is None
    assert of_a_page(403, {"content-type": "application/json"}) is of_a_page(403, {}) is None


def test_parsed_is_none_for_what_is_no_json() -> None:
    assert parsed(b'{"a":1}') == {"a": 1}
    for body in (b"", b"<html>", b"\xff", b"[" * 100_000):
        assert parsed(body) is None


@pytest.mark.parametrize(
    ("outcome", "status", "shown"),
    [
        (Outcome(Verdict.INVALID_REQUEST, 422, "No.", param="n"), 422, "invalid_request_error"),
        (Outcome(Verdict.INVALID_REQUEST, 200, "No."), 400, "invalid_request_error"),
        (Outcome(Verdict.INVALID_REQUEST, 413), 413, "invalid_request_error"),
        (Outcome(Verdict.BLOCKED, 404, "No such model."), 502, "api_error"),
        (Outcome(Verdict.BAD_PAYLOAD, 200), 502, "api_error"),
        (Outcome(Verdict.INVALID_ANSWER, 200, "It is empty."), 502, "api_error"),
    ],
)
def test_a_refusal_keeps_the_providers_status_where_the_caller_is_at_fault(
    outcome: Outcome, status: int, shown: str
) -> None:
    told = problem(outcome)
    assert isinstance(told, UpstreamRejected)
    assert (told.status, told.code) == (status, "upstream_rejected")
    assert (told.detail == outcome.message) or not outcome.message
    error = told.as_openai("req_1")["error"]
    assert (error["type"], error["param"]) == (shown, outcome.param)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_is_a_problem(verdict: Verdict) -> None:
    assert problem(Outcome(verdict, 500, "x")).status in (400, 502, 503, 504)


def test_a_failure_tells_nothing_of_ours_and_when_to_come_again() -> None:
    told = problem(Outcome(Verdict.RATE_LIMITED, 429, "org-x is over its limit", retry_after=0.2))
    assert isinstance(told, Unavailable)
    assert told.headers["Retry-After"] == "1"
    assert "org-x" not in told.detail
    assert problem(Outcome(Verdict.UNAVAILABLE, retry_after=2.0)).retry_after == 2
    assert problem(Outcome(Verdict.AUTH, 401)).retry_after is None
    assert isinstance(problem(Outcome(Verdict.TIMEOUT)), UpstreamTimeout)
