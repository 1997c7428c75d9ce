"""How an attempt at Cohere ended: the table of its errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.call import Outcome, Verdict
from providers.openai_wire import clean_message, parsed, retry_after
from providers.rejection import of_a_page

_BY_STATUS = {
    401: Verdict.AUTH,
    402: Verdict.QUOTA_EXHAUSTED,
    403: Verdict.AUTH,
    404: Verdict.BLOCKED,  # this model, not for this key: the next target may have it
    408: Verdict.TIMEOUT,
    429: Verdict.RATE_LIMITED,
    498: Verdict.BLOCKED,  # a deny-listed word in the request or the answer
    499: Verdict.UNAVAILABLE,
    501: Verdict.BLOCKED,
    504: Verdict.TIMEOUT,
    524: Verdict.TIMEOUT,
}

# Finish reasons without an answer, and what they mean.
FAILED_FINISHES = {
    "ERROR": Verdict.UNAVAILABLE,
    "ERROR_LIMIT": Verdict.UNAVAILABLE,
    "TIMEOUT": Verdict.TIMEOUT,
}


def outcome_of(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """A stream's first answer has an event stream's content type and is not read here."""
    succeeded = 200 <= status < 300
    if succeeded and "event-stream" in headers.get("content-type", ""):
        return Outcome(Verdict.OK, status)
    document = parsed(body)
    if verdict := of_a_page(status, headers):
        return Outcome(verdict, status)
    if not succeeded:
        return _failure(status, headers, document if isinstance(document, dict) else {})
    if not isinstance(document, dict):
        return Outcome(Verdict.BAD_PAYLOAD, status, "The answer is not a JSON object.")
    if failure := failed_finish(document.get("finish_reason")):
        return failure
    return Outcome(Verdict.OK, status, document=document)


def failed_finish(reason: Any) -> Outcome | None:
    """The outcome of an answer whose finish reason says that there is none."""
    verdict = FAILED_FINISHES.get(reason) if isinstance(reason, str) else None
    return Outcome(verdict, 200, f"Cohere gave up: {reason}.") if verdict else None


def _failure(status: int, headers: Mapping[str, str], error: Mapping[str, Any]) -> Outcome:
    message = clean_message(error.get("message") or error.get("detail"))
    verdict = _verdict(status, message)
    # A spent month has no honest wait in seconds; Cohere's headers speak of the minute.
    waits = verdict in (Verdict.RATE_LIMITED, Verdict.UNAVAILABLE)
    return Outcome(verdict, status, message, retry_after(headers) if waits else None)


def _verdict(status: int, message: str) -> Verdict:
    """A trial key is limited by the minute and by the month, and only the text says which."""
    if status == 429 and "month" in message.lower():
        return Verdict.QUOTA_EXHAUSTED
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Verdict.UNAVAILABLE if status >= 500 else Verdict.INVALID_REQUEST
