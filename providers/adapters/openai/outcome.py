"""How an attempt at an OpenAI-compatible service ended: the table of their errors.

The services agree on the status and on little else: the error may be `{"error": {…}}`,
`{"error": "…"}`, `{"detail": …}` or `{"object": "error"}`, and may come with HTTP 200.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.call import Outcome, Verdict
from providers.openai_wire import clean_message, parsed, retry_after

_BY_STATUS: Mapping[int, Verdict] = {
    401: Verdict.AUTH,
    402: Verdict.QUOTA_EXHAUSTED,
    403: Verdict.AUTH,
    404: Verdict.BLOCKED,  # no such model for this key: the next target may have it
    405: Verdict.BLOCKED,
    408: Verdict.TIMEOUT,
    409: Verdict.UNAVAILABLE,  # a resource is locked for the moment
    421: Verdict.UNAVAILABLE,
    425: Verdict.UNAVAILABLE,
    429: Verdict.RATE_LIMITED,
    498: Verdict.RATE_LIMITED,  # Groq: flex tier has no room
    504: Verdict.TIMEOUT,
}
# What a body says, whatever its status: the first word found in code, type or message counts.
_BY_WORD: Mapping[str, Verdict] = {
    "insufficient_quota": Verdict.QUOTA_EXHAUSTED,
    "billing_hard_limit": Verdict.QUOTA_EXHAUSTED,
    "exceeded your current quota": Verdict.QUOTA_EXHAUSTED,
    "insufficient balance": Verdict.QUOTA_EXHAUSTED,
    "insufficient credits": Verdict.QUOTA_EXHAUSTED,
    "invalid_api_key": Verdict.AUTH,
    "incorrect api key": Verdict.AUTH,
    "authentication_error": Verdict.AUTH,
    "model_not_found": Verdict.BLOCKED,
    "rate_limit": Verdict.RATE_LIMITED,
    "ratelimitreached": Verdict.RATE_LIMITED,
    "overloaded": Verdict.UNAVAILABLE,
    "server_error": Verdict.UNAVAILABLE,
    "invalid_request": Verdict.INVALID_REQUEST,
    "unsupported_parameter": Verdict.INVALID_REQUEST,
}
_WAITS = frozenset({Verdict.RATE_LIMITED, Verdict.UNAVAILABLE})


def outcome_of(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """A success keeps its parsed document. A prompt that the service blocked is a success too:
    the document is then its error, and the meter makes a `content_filter` answer of it."""
    document = parsed(body)
    error = _error(document)
    if 200 <= status < 300 and error is None:
        if isinstance(document, dict):
            return Outcome(Verdict.OK, status, document=document)
        return Outcome(Verdict.BAD_PAYLOAD, status, "The answer is not a JSON object.")
    error = error or {}
    if is_content_filter(error):
        return Outcome(Verdict.OK, status, document={"error": error})
    return failure(error, status, headers)


def failure(
    error: Mapping[str, Any], status: int, headers: Mapping[str, str] | None = None
) -> Outcome:
    """The outcome of an error object, whether it came whole or inside a stream."""
    verdict = _verdict(status, error)
    raw = error.get("metadata")
    inner = raw.get("raw") if isinstance(raw, Mapping) else None
    message = clean_message(inner) or clean_message(error.get("message"))
    param = error.get("param")
    return Outcome(
        verdict,
        status,
        message,
        retry_after(headers or {}) if verdict in _WAITS else None,
        param if isinstance(param, str) else None,
    )


def is_content_filter(error: Mapping[str, Any]) -> bool:
    """Azure answers a blocked prompt with 400 and this code."""
    return error.get("code") in ("content_filter", "ResponsibleAIPolicyViolation")


def _error(document: Any) -> dict[str, Any] | None:
    """The error a body tells, whatever its form; None where it tells none."""
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    if isinstance(error, dict):
        return error
    if isinstance(error, str) and error:
        return {**document, "message": error}
    if document.get("object") == "error":
        return document
    if "detail" in document and "choices" not in document and "data" not in document:
        return {"message": _detail(document["detail"])}
    return None


def _detail(detail: Any) -> str:
    """Mistral's and FastAPI's: a text, or a list of {"loc", "msg"}."""
    if isinstance(detail, list):
        parts = (item.get("msg") for item in detail if isinstance(item, Mapping))
        return "; ".join(str(part) for part in parts if part)
    return str(detail)


def _verdict(status: int, error: Mapping[str, Any]) -> Verdict:
    told = " ".join(str(error.get(field) or "") for field in ("code", "type", "message")).lower()
    word = next((verdict for word, verdict in _BY_WORD.items() if word in told), None)
    if word in (Verdict.QUOTA_EXHAUSTED, Verdict.AUTH) and status < 500:
        return word
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return Verdict.UNAVAILABLE
    if 300 <= status < 400:
        return Verdict.UNAVAILABLE  # redirects are never followed
    if status >= 400:
        return word if word is Verdict.BLOCKED else Verdict.INVALID_REQUEST
    return word or Verdict.UNAVAILABLE  # an error with HTTP 200
