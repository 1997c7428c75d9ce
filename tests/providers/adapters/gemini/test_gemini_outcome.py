"""The table of Gemini's errors: each body to its verdict, wait and words without secrets."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.problems import Problem
from providers.adapters.gemini import ADAPTER
from providers.call import Outcome, Verdict

JSON = {"content-type": "application/json; charset=UTF-8"}
QUOTA = "type.googleapis.com/google.rpc.QuotaFailure"
RETRY = "type.googleapis.com/google.rpc.RetryInfo"
INFO = "type.googleapis.com/google.rpc.ErrorInfo"


def failed(
    status: int,
    name: str = "X",
    message: str = "Refused.",
    details: Any = (),
    headers: dict[str, str] | None = None,
) -> Outcome:
    error = {"code": status, "status": name, "message": message, "details": list(details)}
    return ADAPTER.outcome(status, JSON | (headers or {}), orjson.dumps({"error": error}))


def quota(quota_id: str) -> dict[str, Any]:
    return {"@type": QUOTA, "violations": [{"quotaId": quota_id}]}


@pytest.mark.parametrize(
    ("status", "name", "verdict"),
    [
        (400, "INVALID_ARGUMENT", Verdict.INVALID_REQUEST),
        (400, "FAILED_PRECONDITION", Verdict.BLOCKED),
        (401, "UNAUTHENTICATED", Verdict.AUTH),
        (402, "X", Verdict.QUOTA_EXHAUSTED),
        (403, "PERMISSION_DENIED", Verdict.AUTH),
        (404, "NOT_FOUND", Verdict.BLOCKED),
        (408, "X", Verdict.TIMEOUT),
        (413, "X", Verdict.INVALID_REQUEST),
        (429, "RESOURCE_EXHAUSTED", Verdict.RATE_LIMITED),
        (499, "CANCELLED", Verdict.UNAVAILABLE),
        (500, "INTERNAL", Verdict.UNAVAILABLE),
        (503, "UNAVAILABLE", Verdict.UNAVAILABLE),
        (504, "DEADLINE_EXCEEDED", Verdict.TIMEOUT),
        (302, "X", Verdict.INVALID_REQUEST),
    ],
)
def test_each_status_has_its_verdict(status: int, name: str, verdict: Verdict) -> None:
    outcome = failed(status, name)
    assert (outcome.verdict, outcome.status, outcome.message) == (verdict, status, "Refused.")


@pytest.mark.parametrize(
    ("message", "details"),
    [
        ("Bad key.", [{"@type": INFO, "reason": "API_KEY_INVALID"}]),
        ("API key expired. Please renew the API key.", []),
        ("API key not valid. Please pass a valid API key.", []),
    ],
)
def test_a_bad_key_is_no_fault_of_the_caller(message: str, details: Any) -> None:
    assert failed(400, "INVALID_ARGUMENT", message, details).verdict is Verdict.AUTH


@pytest.mark.parametrize(
    ("message", "details", "verdict", "wait"),
    [
        ("x", [quota("RequestsPerDayPerModel"), {"@type": RETRY, "retryDelay": "42s"}], "d", None),
        ("Quota exceeded, limit: 0, model: m\nPlease retry in 3.5s.", [], "d", None),
        ("Your prepayment credits are depleted.", [], "d", None),
        ("x", [quota("TokensPerMinute"), {"@type": RETRY, "retryDelay": "34.4s"}], "m", 34.4),
        ("limit: 100, model: m\nPlease retry in 48.5s.", [], "m", 48.5),
        ("Please retry in 1h7m55.5s.", [], "m", 4075.5),
        ("Slow down.", ["junk", {"@type": RETRY, "retryDelay": "soon"}], "m", 9.0),
    ],
)
def test_429_is_a_spent_day_or_a_busy_minute(
    message: str, details: Any, verdict: str, wait: float | None
) -> None:
    outcome = failed(429, "RESOURCE_EXHAUSTED", message, details, {"retry-after": "9"})
    spent = Verdict.QUOTA_EXHAUSTED if verdict == "d" else Verdict.RATE_LIMITED
    assert (outcome.verdict, outcome.retry_after) == (spent, wait)


def test_an_error_in_an_array_and_one_that_comes_with_200() -> None:
    error = {"error": {"code": 503, "status": "UNAVAILABLE", "message": "Overloaded."}}
    listed = ADAPTER.outcome(503, JSON, orjson.dumps([error]))
    disguised = ADAPTER.outcome(200, JSON, orjson.dumps(error))
    nameless = ADAPTER.outcome(200, JSON, b'{"error": {"message": "?"}}')
    assert listed == disguised == Outcome(Verdict.UNAVAILABLE, 503, "Overloaded.")
    assert nameless.verdict is Verdict.UNAVAILABLE


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"])
def test_a_200_whose_model_gave_up_is_no_success(reason: str) -> None:
    body = orjson.dumps({"candidates": [{"finishReason": reason}]})
    outcome = ADAPTER.outcome(200, JSON, body)
    assert outcome.verdict is Verdict.BAD_PAYLOAD
    assert outcome.falls_back
    assert reason in outcome.message


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"[1]", b'"x"', b'{"a": NaN}'])
def test_a_200_that_is_not_of_the_dialect(body: bytes) -> None:
    assert ADAPTER.outcome(200, JSON, body).verdict is Verdict.BAD_PAYLOAD


def test_an_event_stream_is_not_read_twice() -> None:
    outcome = ADAPTER.outcome(200, {"content-type": "text/event-stream"}, b"")
    assert outcome == Outcome(Verdict.OK, 200)


@given(st.integers(100, 599), st.binary(max_size=200))
def test_no_body_whatever_breaks_the_table(status: int, body: bytes) -> None:
    outcome = ADAPTER.outcome(status, {}, body)
    assert outcome.is_answer == (outcome.verdict is Verdict.OK)
    assert isinstance(ADAPTER.problem(outcome), Problem)


def test_keys_in_a_message_never_come_out() -> None:
    key = "AIzaSyA" + "0" * 32
    outcome = failed(403, "PERMISSION_DENIED", f"Consumer 'api_key:{key}' has been suspended.")
    shown = ADAPTER.problem(outcome).as_openai("req_1")
    assert key not in outcome.message
    assert key.encode() not in orjson.dumps(shown)
