"""How an attempt at Anthropic ended: the table of its errors, by their own type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.call import Outcome, Verdict
from providers.openai_wire import clean_message, parsed, retry_after
from providers.rejection import of_a_page

_BY_TYPE: Mapping[str, Verdict] = {
    "invalid_request_error": Verdict.INVALID_REQUEST,
    "authentication_error": Verdict.AUTH,
    "billing_error": Verdict.QUOTA_EXHAUSTED,
    "permission_error": Verdict.AUTH,
    "forbidden": Verdict.BLOCKED,  # from this country, say: no fault of the credential
    "not_found_error": Verdict.BLOCKED,  # no such model for this key: the next target may do
    "request_too_large": Verdict.INVALID_REQUEST,
    "rate_limit_error": Verdict.RATE_LIMITED,
    "timeout_error": Verdict.TIMEOUT,
    "api_error": Verdict.UNAVAILABLE,
    "overloaded_error": Verdict.UNAVAILABLE,
}
# What Anthropic says under `invalid_request_error` though the caller did nothing wrong. Only a
# message's beginning counts: what comes later may quote the caller.
_BY_OPENING: Mapping[str, Verdict] = {
    "Your credit balance is too low": Verdict.QUOTA_EXHAUSTED,
    "You have reached your specified API usage limits": Verdict.QUOTA_EXHAUSTED,
    "This organization has been disabled": Verdict.AUTH,
}
_FILTERED = "Output blocked by content filtering policy"
_BY_STATUS: Mapping[int, Verdict] = {
    401: Verdict.AUTH,
    402: Verdict.QUOTA_EXHAUSTED,
    403: Verdict.AUTH,
    404: Verdict.BLOCKED,
    405: Verdict.BLOCKED,
    408: Verdict.TIMEOUT,
    409: Verdict.UNAVAILABLE,
    429: Verdict.RATE_LIMITED,
    504: Verdict.TIMEOUT,
    524: Verdict.TIMEOUT,
}
_WAITS = frozenset({Verdict.RATE_LIMITED, Verdict.UNAVAILABLE})


def outcome_of(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """A success keeps its parsed document, and so does an answer that Anthropic's filter held
    back: its document is the error, of which the meter makes a `content_filter`.

    A stream's first answer has an event stream's content type and is not read here.
    """
    succeeded = 200 <= status < 300
    if succeeded and "event-stream" in headers.get("content-type", ""):
        return Outcome(Verdict.OK, status)
    document = parsed(body)
    error = error_of(document)
    if is_filtered(error):
        return Outcome(Verdict.OK, status, document={"error": error})
    if not error and (verdict := of_a_page(status, headers)):
        return Outcome(verdict, status)
    if error or not succeeded:
        return failure(error, status, headers)
    if not isinstance(document, dict):
        return Outcome(Verdict.BAD_PAYLOAD, status, "The answer is not a JSON object.")
    return Outcome(Verdict.OK, status, document=document)


def error_of(document: Any) -> Mapping[str, Any]:
    """The error a document tells, or else nothing. Proxies in between have forms of their own:
    a text for `error`, or a bare `message`."""
    if not isinstance(document, dict):
        return {}
    error = document.get("error")
    if isinstance(error, str):
        return {"message": error}
    if isinstance(error, dict):
        return error
    return document if isinstance(document.get("message"), str) else {}


def is_filtered(error: Mapping[str, Any]) -> bool:
    return str(error.get("message")).startswith(_FILTERED)


def failure(
    error: Mapping[str, Any], status: int, headers: Mapping[str, str] | None = None
) -> Outcome:
    """The outcome of an error object, whether it came whole or inside a stream."""
    message = clean_message(error.get("message"))
    verdict = _verdict(error, status)
    wait = retry_after(headers or {}) if verdict in _WAITS else None
    return Outcome(verdict, status, message, wait)


def _verdict(error: Mapping[str, Any], status: int) -> Verdict:
    message = str(error.get("message"))
    for opening, verdict in _BY_OPENING.items():
        if message.startswith(opening):
            return verdict
    if told := _BY_TYPE.get(str(error.get("type"))):
        return told
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Verdict.INVALID_REQUEST if 400 <= status < 500 else Verdict.UNAVAILABLE
