"""How an attempt at Gemini ended: the table of its errors, those that come with 200 included."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from providers.call import Outcome, Verdict
from providers.openai_wire import clean_message, parsed, retry_after
from providers.rejection import duration, of_a_page, retry_delay

# The model stopped at nothing it could give: half a call, or an answer Google's own checks
# threw out. Another try or another provider may do better.
FAILED_FINISHES = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
        "TOO_MANY_TOOL_CALLS",
        "UNEXPECTED_TOOL_CALL",
    }
)

_BY_STATUS = {
    401: Verdict.AUTH,
    402: Verdict.QUOTA_EXHAUSTED,
    403: Verdict.AUTH,
    408: Verdict.TIMEOUT,
    404: Verdict.BLOCKED,  # this model or method, not for this key: the next target may have it
    429: Verdict.RATE_LIMITED,
    499: Verdict.UNAVAILABLE,
    504: Verdict.TIMEOUT,
    524: Verdict.TIMEOUT,
}
_KEY_REASONS = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED"})
_NOTHING_LEFT = re.compile(r"limit: 0\b|credits are depleted")


def outcome_of(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """A stream's first answer has an event stream's content type and is not read here."""
    if 200 <= status < 300 and "event-stream" in headers.get("content-type", ""):
        return Outcome(Verdict.OK, status)
    document = parsed(body)
    if error := _error(document):
        return error_outcome(error, status, headers)
    if not 200 <= status < 300:
        page = of_a_page(status, headers)
        return Outcome(page, status) if page else error_outcome({}, status, headers)
    if not isinstance(document, dict):
        return Outcome(Verdict.BAD_PAYLOAD, status, "The answer is not a JSON object.")
    if reason := failed_finish(document):
        return Outcome(Verdict.BAD_PAYLOAD, status, f"Gemini gave up: {reason}.")
    return Outcome(Verdict.OK, status, document=document)


def error_outcome(
    error: Mapping[str, Any], status: int, headers: Mapping[str, str] | None = None
) -> Outcome:
    """`status` is HTTP's; an error that came with 200 is judged by the code it tells."""
    code = status if status >= 400 else _code(error)
    message = clean_message(error.get("message"))
    verdict = _verdict(code, error, message)
    wait = None
    if verdict in (Verdict.RATE_LIMITED, Verdict.UNAVAILABLE):
        wait = _delay(error, message)
        if wait is None:
            wait = retry_after(headers or {})
    return Outcome(verdict, code, message, retry_after=wait)


def failed_finish(document: Mapping[str, Any]) -> str | None:
    """The finish reason when it says that there is no answer."""
    for candidate in document.get("candidates") or []:
        if isinstance(candidate, dict) and candidate.get("finishReason") in FAILED_FINISHES:
            return str(candidate["finishReason"])
    return None


def _error(document: Any) -> Mapping[str, Any] | None:
    if isinstance(document, list) and document:
        document = document[0]
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) else None


def _code(error: Mapping[str, Any]) -> int:
    code = error.get("code")
    return code if isinstance(code, int) else 502


def _verdict(code: int, error: Mapping[str, Any], message: str) -> Verdict:
    details = list(_details(error))
    if code == 400 and (
        any(detail.get("reason") in _KEY_REASONS for detail in details)
        or message.startswith(("API key not valid", "API key expired"))
    ):
        return Verdict.AUTH
    if code == 400 and error.get("status") == "FAILED_PRECONDITION":
        return Verdict.BLOCKED  # not from this country, or not without billing
    if code == 429 and _is_spent(details, message):
        return Verdict.QUOTA_EXHAUSTED
    if code in _BY_STATUS:
        return _BY_STATUS[code]
    return Verdict.UNAVAILABLE if code >= 500 else Verdict.INVALID_REQUEST


def _is_spent(details: Iterable[Mapping[str, Any]], message: str) -> bool:
    """A day's quota, a quota of nothing, or the money: no wait of seconds brings it back,
    whatever RetryInfo says beside it."""
    for detail in details:
        for violation in detail.get("violations") or []:
            if "PerDay" in str(violation.get("quotaId")):
                return True
    return bool(_NOTHING_LEFT.search(message))


def _details(error: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return (detail for detail in error.get("details") or [] if isinstance(detail, dict))


def _delay(error: Mapping[str, Any], message: str) -> float | None:
    """What its details tell, or its words."""
    wait = retry_delay(error.get("details"))
    if wait is None:
        wait = duration(message.rpartition("Please retry in ")[2].rstrip("."))
    return wait
