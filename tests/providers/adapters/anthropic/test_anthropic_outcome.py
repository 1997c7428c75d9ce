"""The table of Anthropic's errors: each body to its verdict, wait and words without secrets."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.problems import Problem
from providers.adapters.anthropic import ADAPTER
from providers.call import Outcome, Verdict

JSON = {"content-type": "application/json"}


def judged(status: int, body: Any, **headers: str) -> Outcome:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ADAPTER.outcome(status, JSON | named, raw)


def error(kind: str, message: str = "Refused.") -> dict[str, Any]:
    return {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy",
    }


@pytest.mark.parametrize(
    ("status", "kind", "verdict"),
    [
        (400, "invalid_request_error", Verdict.INVALID_REQUEST),
        (401, "authentication_error", Verdict.AUTH),
        (402, "billing_error", Verdict.QUOTA_EXHAUSTED),
        (403, "permission_error", Verdict.AUTH),
        (404, "not_found_error", Verdict.BLOCKED),
        (413, "request_too_large", Verdict.INVALID_REQUEST),
        (429, "rate_limit_error", Verdict.RATE_LIMITED),
        (500, "api_error", Verdict.UNAVAILABLE),
        (504, "timeout_error", Verdict.TIMEOUT),
        (529, "overloaded_error", Verdict.UNAVAILABLE),
        (529, "an_error_of_tomorrow", Verdict.UNAVAILABLE),
        (422, "an_error_of_tomorrow", Verdict.INVALID_REQUEST),
    ],
)
def test_each_type_has_its_verdict(status: int, kind: str, verdict: Verdict) -> None:
    outcome = judged(status, error(kind))
    assert (outcome.verdict, outcome.status, outcome.message) == (verdict, status, "Refused.")


@pytest.mark.parametrize(
    ("message", "verdict"),
    [
        (
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & "
            "Billing to upgrade or purchase credits.",
            Verdict.QUOTA_EXHAUSTED,
        ),
        (
            "You have reached your specified API usage limits. You will regain access on "
            "2026-12-01 at 00:00 UTC.",
            Verdict.QUOTA_EXHAUSTED,
        ),
        ("This organization has been disabled.", Verdict.AUTH),
        ("prompt is too long: 214315 tokens > 200000 maximum", Verdict.INVALID_REQUEST),
        ("max_tokens: 99999 > 64000, which is the maximum", Verdict.INVALID_REQUEST),
    ],
)
def test_what_is_no_fault_of_the_caller_though_it_is_called_one(
    message: str, verdict: Verdict
) -> None:
    assert judged(400, error("invalid_request_error", message)).verdict is verdict


def test_a_caller_cannot_have_the_credential_parked_by_being_quoted() -> None:
    message = "tools.0.name: 'Your credit balance is too low' does not match the pattern"
    outcome = judged(400, error("invalid_request_error", message))
    assert outcome.verdict is Verdict.INVALID_REQUEST


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (302, Verdict.UNAVAILABLE),
        (400, Verdict.INVALID_REQUEST),
        (401, Verdict.AUTH),
        (402, Verdict.QUOTA_EXHAUSTED),
        (403, Verdict.AUTH),
        (404, Verdict.BLOCKED),
        (405, Verdict.BLOCKED),
        (408, Verdict.TIMEOUT),
        (409, Verdict.UNAVAILABLE),
        (413, Verdict.INVALID_REQUEST),
        (429, Verdict.RATE_LIMITED),
        (500, Verdict.UNAVAILABLE),
        (502, Verdict.UNAVAILABLE),
        (503, Verdict.UNAVAILABLE),
        (504, Verdict.TIMEOUT),
        (520, Verdict.UNAVAILABLE),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html><h1>Bad gateway</h1></html>", b"[]", b"{}", b"null"])
def test_bodies_that_tell_nothing_are_judged_by_their_status(
    status: int, verdict: Verdict, body: bytes
) -> None:
    assert judged(status, body) == Outcome(verdict, status)


@pytest.mark.parametrize(
    "body",
    [
        {"error": "Forbidden by the proxy"},
        {"message": "Forbidden by the proxy"},
        {"type": "error", "error": {"message": "Forbidden by the proxy"}},
    ],
)
def test_what_proxies_in_between_say(body: dict[str, Any]) -> None:
    assert judged(403, body) == Outcome(Verdict.AUTH, 403, "Forbidden by the proxy")


@pytest.mark.parametrize("kind", ["rate_limit_error", "overloaded_error"])
def test_retry_after_is_honoured(kind: str) -> None:
    assert judged(429, error(kind), retry_after="7").retry_after == 7
    assert judged(400, error("invalid_request_error"), retry_after="7").retry_after is None


def test_an_error_that_comes_with_200() -> None:
    outcome = judged(200, error("overloaded_error", "Overloaded"))
    assert outcome == Outcome(Verdict.UNAVAILABLE, 200, "Overloaded")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b"{broken"])
def test_a_200_that_is_not_of_the_dialect(body: bytes) -> None:
    assert judged(200, body).verdict is Verdict.BAD_PAYLOAD


def test_an_event_stream_is_not_read_twice() -> None:
    outcome = ADAPTER.outcome(200, {"content-type": "text/event-stream; charset=utf-8"}, b"")
    assert outcome == Outcome(Verdict.OK, 200)


def test_a_filtered_answer_is_an_answer() -> None:
    message = "Output blocked by content filtering policy"
    assert judged(400, error("invalid_request_error", message)).verdict is Verdict.OK


@given(st.integers(100, 599), st.binary(max_size=200))
def test_no_body_whatever_breaks_the_table(status: int, body: bytes) -> None:
    outcome = judged(status, body)
    assert outcome.is_answer == (outcome.verdict is Verdict.OK)
    assert isinstance(ADAPTER.problem(outcome), Problem)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["error", "type", "message"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from([200, 400, 429, 500]), _JSON)
def test_no_document_whatever_breaks_the_table(status: int, document: Any) -> None:
    assert isinstance(ADAPTER.problem(judged(status, document)), Problem)


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_keys_in_a_message_never_come_out(status: int) -> None:
    key = "sk-ant-api03-" + "Ab0_-" * 18
    outcome = judged(status, error("invalid_request_error", f"invalid x-api-key: {key}"))
    shown = ADAPTER.problem(outcome).as_openai("req_1")
    assert key not in outcome.message
    assert key.encode() not in orjson.dumps(shown)
