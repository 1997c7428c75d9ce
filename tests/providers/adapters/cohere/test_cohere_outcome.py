"""The table of Cohere's errors: each body to its verdict, wait and words without secrets."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.problems import Problem
from providers.adapters.cohere import ADAPTER
from providers.call import Outcome, Verdict

JSON = {"content-type": "application/json"}


def failed(status: int, message: str = "Refused.") -> Outcome:
    body = orjson.dumps({"id": "1", "message": message})
    return ADAPTER.outcome(status, JSON | {"retry-after": "7"}, body)


@pytest.mark.parametrize(
    ("status", "verdict", "wait"),
    [
        (400, Verdict.INVALID_REQUEST, None),
        (401, Verdict.AUTH, None),
        (402, Verdict.QUOTA_EXHAUSTED, None),
        (403, Verdict.AUTH, None),
        (404, Verdict.BLOCKED, None),
        (408, Verdict.TIMEOUT, None),
        (422, Verdict.INVALID_REQUEST, None),
        (429, Verdict.RATE_LIMITED, 7.0),
        (498, Verdict.BLOCKED, None),
        (499, Verdict.UNAVAILABLE, 7.0),
        (500, Verdict.UNAVAILABLE, 7.0),
        (501, Verdict.BLOCKED, None),
        (503, Verdict.UNAVAILABLE, 7.0),
        (504, Verdict.TIMEOUT, None),
        (302, Verdict.INVALID_REQUEST, None),
    ],
)
def test_each_status_has_its_verdict(status: int, verdict: Verdict, wait: float | None) -> None:
    assert failed(status) == Outcome(verdict, status, "Refused.", wait)


@pytest.mark.parametrize(
    ("message", "verdict"),
    [
        ("A Trial key is limited to 20 API calls / minute.", Verdict.RATE_LIMITED),
        ("A Trial key is limited to 1000 API calls / month.", Verdict.QUOTA_EXHAUSTED),
    ],
)
def test_a_trial_key_runs_out_by_the_minute_and_by_the_month(
    message: str, verdict: Verdict
) -> None:
    assert failed(429, message).verdict is verdict


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b'{"a": NaN}'])
def test_a_200_that_is_not_of_the_dialect(body: bytes) -> None:
    assert ADAPTER.outcome(200, JSON, body).verdict is Verdict.BAD_PAYLOAD


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        ("ERROR", Verdict.UNAVAILABLE),
        ("ERROR_LIMIT", Verdict.UNAVAILABLE),
        ("TIMEOUT", Verdict.TIMEOUT),
    ],
)
def test_a_200_whose_model_gave_up_is_no_success(reason: str, verdict: Verdict) -> None:
    outcome = ADAPTER.outcome(200, JSON, orjson.dumps({"finish_reason": reason}))
    assert outcome.verdict is verdict
    assert outcome.falls_back


@pytest.mark.parametrize("reason", [None, 7, [], "COMPLETE"])
def test_other_finish_reasons_are_answers(reason: object) -> None:
    assert ADAPTER.outcome(200, JSON, orjson.dumps({"finish_reason": reason})).is_answer


def test_an_event_stream_is_not_read_twice() -> None:
    outcome = ADAPTER.outcome(200, {"content-type": "text/event-stream"}, b"")
    assert outcome == Outcome(Verdict.OK, 200)


@given(st.integers(100, 599), st.binary(max_size=200))
def test_no_body_whatever_breaks_the_table(status: int, body: bytes) -> None:
    outcome = ADAPTER.outcome(status, {}, body)
    assert outcome.is_answer == (outcome.verdict is Verdict.OK)
    assert isinstance(ADAPTER.problem(outcome), Problem)


def test_keys_in_a_message_never_come_out() -> None:
    key = "Bearer " + "c0h3r3" * 7
    outcome = failed(401, f"Invalid header: {key}")
    assert key not in outcome.message
    assert key.encode() not in orjson.dumps(ADAPTER.problem(outcome).as_openai("req_1"))
