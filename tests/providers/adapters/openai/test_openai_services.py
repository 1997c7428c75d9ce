"""Refusals as each service words them: every body to its verdict, and to words for the caller."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from providers.adapters.openai import ADAPTER
from providers.call import Outcome, Verdict

BAD = Verdict.INVALID_REQUEST
SPENT = Verdict.QUOTA_EXHAUSTED
BUSY = Verdict.RATE_LIMITED
DOWN = Verdict.UNAVAILABLE


def error(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


def judged(status: int, body: Any, **headers: str) -> Outcome:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ADAPTER.outcome(status, named, raw)


OPENAI = [
    (401, error("Incorrect API key provided: sk-x.", code="invalid_api_key"), Verdict.AUTH),
    (
        403,
        error(
            "Country, region, or territory not supported",
            code="unsupported_country_region_territory",
        ),
        Verdict.BLOCKED,
    ),
    (404, error("The model `gpt-x` does not exist", code="model_not_found"), Verdict.BLOCKED),
    (
        429,
        error(
            "You exceeded your current quota.", type="insufficient_quota", code="insufficient_quota"
        ),
        SPENT,
    ),
    (429, error("Rate limit reached for gpt-x", type="tokens", code="rate_limit_exceeded"), BUSY),
    (
        400,
        error("Your account is not active", type="billing_not_active", code="billing_not_active"),
        SPENT,
    ),
    (
        400,
        error(
            "This model's maximum context length is 8192 tokens.",
            code="context_length_exceeded",
            param="messages",
        ),
        BAD,
    ),
    (500, error("The server had an error", type="server_error"), DOWN),
    (503, error("That model is currently overloaded", type="server_error"), DOWN),
]
AZURE = [
    (401, {"statusCode": 401, "message": "Unauthorized. Access token is missing."}, Verdict.AUTH),
    (429, {"statusCode": 429, "message": "Rate limit is exceeded."}, BUSY),
    (404, error("The API deployment does not exist.", code="DeploymentNotFound"), Verdict.BLOCKED),
    (400, error("Filtered.", code="content_filter", status=400), Verdict.OK),
    (424, error("Failed dependency", code="FailedDependency"), BAD),
]
MISTRAL = [
    (401, {"detail": "Unauthorized"}, Verdict.AUTH),
    (
        422,
        {
            "object": "error",
            "message": {
                "detail": [{"loc": ["body", "top_k"], "msg": "Extra inputs are not permitted"}]
            },
            "type": "invalid_request_error",
        },
        BAD,
    ),
    (
        400,
        {
            "object": "error",
            "message": "Invalid model: m",
            "type": "invalid_model",
            "param": None,
            "code": "1500",
        },
        Verdict.BLOCKED,
    ),
    (429, {"message": "Requests rate limit exceeded"}, BUSY),
    (422, {"detail": [{"type": "missing", "loc": ["body"], "msg": "Field required"}]}, BAD),
]
XAI = [
    (
        400,
        {"code": "invalid-argument", "error": "Incorrect API key provided. See x."},
        Verdict.AUTH,
    ),
    (
        403,
        {
            "code": "permission-denied",
            "error": "Your team 5f has either used all available "
            "credits or reached its monthly spending limit.",
        },
        SPENT,
    ),
    (
        429,
        {"code": "exhausted", "error": "Your team 5f has either used all available credits."},
        SPENT,
    ),
    (403, {"code": "x", "error": "Your newly created team doesn't have any credits yet."}, SPENT),
    (403, {"code": "x", "error": "You have run out of credits or need a subscription."}, SPENT),
    (403, {"code": "x", "error": "Content violates usage guidelines. Team: 5f"}, Verdict.OK),
    (429, {"code": "x", "error": "Too many requests for team 5f and model m."}, BUSY),
    (404, {"code": "x", "error": "The model m does not exist."}, Verdict.BLOCKED),
]
DEEPSEEK = [
    (401, error("Authentication Fails", type="authentication_error"), Verdict.AUTH),
    (402, error("Insufficient Balance", type="unknown_error"), SPENT),
    (400, error("Content Exists Risk", type="invalid_request_error"), Verdict.OK),
    (400, {"detail": "Content Exists Risk"}, Verdict.OK),
    (503, error("Service is too busy", type="service_unavailable_error"), DOWN),
]
OPENROUTER = [
    (402, error("Insufficient credits. Add more.", code=402), SPENT),
    (
        403,
        error(
            "Your input was flagged.",
            code=403,
            metadata={"reasons": ["hate"], "flagged_input": "…"},
        ),
        Verdict.OK,
    ),
    (
        429,
        error(
            "Provider returned error",
            code=429,
            metadata={"provider_name": "X", "raw": "m is temporarily rate-limited upstream."},
        ),
        BUSY,
    ),
    (502, error("Provider returned error", code=502, metadata={"raw": "upstream down"}), DOWN),
    (200, error("Provider returned error", code=502), DOWN),
    (200, error("Too fast", code=429), BUSY),
    (408, error("Request timed out", code=408), Verdict.TIMEOUT),
]
OTHERS = [
    # Perplexity
    (401, error("Invalid API key provided.", type="invalid_api_key", code=401), Verdict.AUTH),
    (400, error("Invalid model 'm'.", type="invalid_model", code=400), Verdict.BLOCKED),
    # Groq
    (413, error("Request too large for model m on tokens per minute", type="tokens",
                code="rate_limit_exceeded"), Verdict.BLOCKED),
    (498, error("Flex tier capacity exceeded", type="capacity_exceeded"), BUSY),
    (400, error("Failed to call a function.", code="tool_use_failed"), Verdict.BLOCKED),
    # Ollama
    (404, error('model "m" not found, try pulling it first', type="api_error"), Verdict.BLOCKED),
    (400, {"error": "invalid character 'x'"}, BAD),
    # Hugging Face
    (503, {"error": "Model m is currently loading", "estimated_time": 20.0}, DOWN),
    (422, {"error": ["Error in `temperature`", "too high"], "warnings": []}, BAD),
    # Alibaba, Z.ai, Google's own compatible endpoint
    (400, error("Inappropriate.", code="data_inspection_failed"), Verdict.OK),
    (400, {"contentFilter": [{"level": 1}], **error("Unsafe.", code="1301")}, Verdict.OK),
    (400, [error("Multiple oneof fields set.", code=400, status="INVALID_ARGUMENT")], BAD),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [*OPENAI, *AZURE, *MISTRAL, *XAI, *DEEPSEEK, *OPENROUTER, *OTHERS],
)
def test_each_refusal_has_its_verdict_and_its_words(
    status: int, body: Any, verdict: Verdict
) -> None:
    outcome = judged(status, body)
    assert outcome.verdict is verdict
    assert bool(outcome.message) == (verdict is not Verdict.OK)


@pytest.mark.parametrize("body", [b"", b"<html><title>502 Bad Gateway</title></html>", b"upstream"])
@pytest.mark.parametrize(
    ("status", "verdict"),
    [(302, DOWN), (400, BAD), (401, Verdict.AUTH), (403, Verdict.AUTH), (429, BUSY), (502, DOWN),
     (504, Verdict.TIMEOUT), (524, Verdict.TIMEOUT)],
)  # fmt: skip
def test_bodies_that_are_no_json(status: int, verdict: Verdict, body: bytes) -> None:
    assert judged(status, body) == Outcome(verdict, status)


@pytest.mark.parametrize(
    "quoted",
    [
        "Invalid name: 'Content violates usage guidelines'",
        "Invalid name: 'your team has no credits'",
        "Unknown field 'you have run out of credits'",
    ],
)
def test_what_a_message_quotes_of_the_caller_decides_nothing(quoted: str) -> None:
    assert judged(400, error(quoted)).verdict is BAD


@pytest.mark.parametrize(
    ("message", "wait"),
    [
        ("Please retry after 45 seconds.", 45),
        ("Please retry after 1 second.", 1),
        ("Please try again in 250ms.", 0.25),
        ("Please try again in 6h12m. Visit us.", 22320),
        ("Please try again in a while.", None),
        ("Please retry after lunch.", None),
    ],
)
def test_the_wait_that_only_the_words_tell(message: str, wait: float | None) -> None:
    assert judged(429, error(message)).retry_after == wait
    assert judged(429, error(message), retry_after="3").retry_after == 3
