"""The tables of errors: each body to its verdict, wait and words without secrets."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.problems import Problem
from providers.adapters.openai import ADAPTER
from providers.call import Outcome, Verdict

JSON = {"content-type": "application/json"}


def told(status: int, document: Any, headers: dict[str, str] | None = None) -> Outcome:
    return ADAPTER.outcome(status, JSON | (headers or {}), orjson.dumps(document))


def failed(status: int, message: str = "Refused.", **error: Any) -> Outcome:
    return told(status, {"error": {"message": message, **error}}, {"retry-after": "7"})


@pytest.mark.parametrize(
    ("status", "verdict", "wait"),
    [
        (302, Verdict.UNAVAILABLE, 7.0),
        (400, Verdict.INVALID_REQUEST, None),
        (401, Verdict.AUTH, None),
        (402, Verdict.QUOTA_EXHAUSTED, None),
        (403, Verdict.AUTH, None),
        (404, Verdict.BLOCKED, None),
        (408, Verdict.TIMEOUT, None),
        (409, Verdict.UNAVAILABLE, 7.0),
        (413, Verdict.INVALID_REQUEST, None),
        (422, Verdict.INVALID_REQUEST, None),
        (429, Verdict.RATE_LIMITED, 7.0),
        (498, Verdict.RATE_LIMITED, 7.0),
        (500, Verdict.UNAVAILABLE, 7.0),
        (503, Verdict.UNAVAILABLE, 7.0),
        (504, Verdict.TIMEOUT, None),
        (529, Verdict.UNAVAILABLE, 7.0),
    ],
)
def test_each_status_has_its_verdict(status: int, verdict: Verdict, wait: float | None) -> None:
    assert failed(status) == Outcome(verdict, status, "Refused.", wait)


@pytest.mark.parametrize(
    ("status", "error", "verdict"),
    [
        (429, {"code": "insufficient_quota"}, Verdict.QUOTA_EXHAUSTED),
        (429, {"type": "insufficient_quota"}, Verdict.QUOTA_EXHAUSTED),
        (429, {"message": "You exceeded your current quota, please"}, Verdict.QUOTA_EXHAUSTED),
        (400, {"message": "Incorrect API key provided."}, Verdict.AUTH),
        (400, {"code": "model_decommissioned"}, Verdict.BLOCKED),
        (403, {"code": "unsupported_country_region_territory"}, Verdict.BLOCKED),
        (413, {"code": "rate_limit_exceeded"}, Verdict.BLOCKED),
        (401, {"type": "invalid_request_error", "code": "invalid_api_key"}, Verdict.AUTH),
        (400, {"code": "context_length_exceeded"}, Verdict.INVALID_REQUEST),
        (500, {"code": "invalid_api_key"}, Verdict.UNAVAILABLE),
    ],
)
def test_a_code_says_more_than_its_status(
    status: int, error: dict[str, Any], verdict: Verdict
) -> None:
    assert failed(status, **error).verdict is verdict


@pytest.mark.parametrize(
    "words",
    [
        "Invalid 'tools[0].function.name': 'incorrect api key provided'.",
        "Unknown field 'insufficient_quota rate_limit_exceeded invalid_api_key'.",
    ],
)
def test_no_caller_can_have_a_credential_parked_by_being_quoted(words: str) -> None:
    assert failed(400, words).verdict is Verdict.INVALID_REQUEST
    assert failed(400, words, param="insufficient_quota").param == "insufficient_quota"


@pytest.mark.parametrize(
    ("error", "verdict", "status"),
    [
        ({"code": 502, "message": "x"}, Verdict.UNAVAILABLE, 502),
        ({"code": "429", "message": "x"}, Verdict.RATE_LIMITED, 429),
        ({"code": 400, "message": "x"}, Verdict.INVALID_REQUEST, 400),
        ({"code": 200, "message": "x"}, Verdict.UNAVAILABLE, 200),
        ({"code": True, "message": "x"}, Verdict.UNAVAILABLE, 200),
        ({"type": "invalid_request_error"}, Verdict.INVALID_REQUEST, 200),
        ({"type": "server_error"}, Verdict.UNAVAILABLE, 200),
        ("Something broke.", Verdict.UNAVAILABLE, 200),
    ],
)
def test_an_error_that_comes_with_200_is_one(error: Any, verdict: Verdict, status: int) -> None:
    outcome = told(200, {"error": error, "choices": []})
    assert (outcome.verdict, outcome.status) == (verdict, status)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"detail": "Invalid API Key"}, "Invalid API Key"),
        ({"detail": [{"loc": ["body"], "msg": "field required"}, 7, {}]}, "field required"),
        ({"object": "error", "message": "No such model", "param": None}, "No such model"),
        ({"code": "invalid-argument", "error": "Bad thing"}, "Bad thing"),
        ({"error": {"message": "outer", "metadata": {"raw": "inner"}}}, "inner"),
        ({"error": {"message": ["no text"]}}, ""),
        ({"error": None}, ""),
        ([1], ""),
    ],
)
def test_every_form_of_an_error_tells_its_words(document: Any, message: str) -> None:
    assert told(422, document).message == message


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b"null", b'{"a": NaN}', b"\xff"])
def test_a_200_that_is_not_of_the_dialect(body: bytes) -> None:
    assert ADAPTER.outcome(200, JSON, body).verdict is Verdict.BAD_PAYLOAD
    assert ADAPTER.outcome(502, {}, body).verdict is Verdict.UNAVAILABLE


def test_a_success_keeps_its_parsed_document_and_a_null_error_is_none() -> None:
    document = {"error": None, "choices": [], "detail": "x"}
    assert told(200, document) == Outcome(Verdict.OK, 200, document=document)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}),
        (400, {"code": None, "innererror": {"code": "ResponsibleAIPolicyViolation"}}),
        (400, {"type": "data_inspection_failed"}),
        (403, {"code": 403, "metadata": {"reasons": ["violence"], "flagged_input": "…"}}),
    ],
)
def test_a_blocked_prompt_is_an_answer(status: int, error: dict[str, Any]) -> None:
    assert told(status, {"error": error}).verdict is Verdict.OK


def test_the_wait_of_the_service_behind_and_of_the_words() -> None:
    behind = {"headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30"}}
    assert told(429, {"error": {"message": "x", "metadata": behind}}).retry_after == 30
    words = "Rate limit reached. Please try again in 2m59.5s. Visit us."
    assert told(429, {"error": {"message": words}}).retry_after == 179.5
    assert told(429, {"error": {"message": "x", "metadata": {"headers": 7}}}).retry_after is None


def test_keys_in_a_message_never_come_out() -> None:
    for key in ("sk-proj-abc123DEF456", "Bearer tok.en", "gsk_0123456789abcdef", "0f" * 16):
        for status in (400, 401, 429):
            outcome = failed(status, f"Incorrect API key: {key} is wrong")
            shown = orjson.dumps(ADAPTER.problem(outcome).as_openai("req_1"))
            assert key not in outcome.message
            assert key.encode() not in shown


@given(
    st.integers(100, 599),
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 999) | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        *("error", "message", "code", "type", "param", "metadata", "raw"),
                        *("detail", "object", "innererror", "reasons", "headers", "choices"),
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
)
def test_whatever_comes_has_an_outcome_and_a_problem(status: int, document: Any) -> None:
    outcome = told(status, document)
    assert isinstance(ADAPTER.problem(outcome), Problem)
    assert outcome.verdict is not Verdict.OK or outcome.document is not None
