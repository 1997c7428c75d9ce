"""How an attempt at Anthropic ended: the table of its errors, by their own type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.call import Outcome, Verdict
from providers.openai_wire import clean_message, parsed, retry_after

_BY_TYPE: Mapping[str, Verdict] = {
    "invalid_request_error": Verdict.INVALID_REQUEST,
    "authentication_error": Verdict.AUTH,
    "billing_error": Verdict.QUOTA_EXHAUSTED,
    "permission_error": Verdict.AUTH,
    "not_found_error": Verdict.BLOCKED,  # no such model for this key: the next target may do
    "request_too_large": Verdict.INVALID_REQUEST,
    "rate_limit_error": Verdict.RATE_LIMITED,
    "timeout_error": Verdict.TIMEOUT,
    "api_error": Verdict.UNAVAILABLE,
    "overloaded_error": Verdict.UNAVAILABLE,
}
_BY_STATUS: Mapping[int, Verdict] = {
    401: Verdict.AUTH,
    402: Verdict.QUOTA_EXHAUSTED,
    403: Verdict.AUTH,
    404: Verdict.BLOCKED,
    408: Verdict.TIMEOUT,
    429: Verdict.RATE_LIMITED,
    504: Verdict.TIMEOUT,
}
_WAITS = frozenset({Verdict.RATE_LIMITED, Verdict.UNAVAILABLE})


def outcome_of(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """A success keeps its parsed document."""
    document = parsed(body)
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(error, dict) or not 200 <= status < 300:
        return failure(error if isinstance(error, dict) else {}, status, headers)
    if not isinstance(document, dict):
        return Outcome(Verdict.BAD_PAYLOAD, status, "The answer is not a JSON object.")
    return Outcome(Verdict.OK, status, document=document)


def failure(
    error: Mapping[str, Any], status: int, headers: Mapping[str, str] | None = None
) -> Outcome:
    """The outcome of an error object, whether it came whole or inside a stream."""
    message = clean_message(error.get("message"))
    verdict = _BY_TYPE.get(str(error.get("type"))) or _by_status(status)
    if "credit balance" in message.lower():
        verdict = Verdict.QUOTA_EXHAUSTED
    wait = retry_after(headers or {}) if verdict in _WAITS else None
    return Outcome(verdict, status, message, wait)


def _by_status(status: int) -> Verdict:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Verdict.INVALID_REQUEST if 400 <= status < 500 else Verdict.UNAVAILABLE
