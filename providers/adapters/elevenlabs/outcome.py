"""How an attempt at ElevenLabs ended: `{"detail": {"status", "message"}}`, or FastAPI's list of
faults. The status' word says more than the number it comes with: 401 is a spent quota too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.call import Outcome, Verdict
from providers.rejection import clean_message, of_a_page, parsed, retry_after

_BY_WORD: Mapping[str, Verdict] = {
    "detected_unusual_activity": Verdict.AUTH,
    "invalid_api_key": Verdict.AUTH,
    "missing_permissions": Verdict.AUTH,
    "model_not_found": Verdict.BLOCKED,
    "quota_exceeded": Verdict.QUOTA_EXHAUSTED,
    "system_busy": Verdict.UNAVAILABLE,
    "too_many_concurrent_requests": Verdict.RATE_LIMITED,
    "voice_not_found": Verdict.BLOCKED,  # the next target may have a voice of that name
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
    """Sound is not read here."""
    document = parsed(body)
    if verdict := of_a_page(status, headers):
        return Outcome(verdict, status)
    if 200 <= status < 300:
        if isinstance(document, dict):
            return Outcome(Verdict.OK, status, document=document)
        return Outcome(Verdict.BAD_PAYLOAD, status, "The answer is not a JSON object.")
    word, message = _told(document)
    usual = Verdict.UNAVAILABLE if status >= 500 else Verdict.INVALID_REQUEST
    verdict = _BY_WORD.get(word) or _BY_STATUS.get(status, usual)
    return Outcome(verdict, status, message, retry_after(headers) if verdict in _WAITS else None)


def _told(document: Any) -> tuple[str, str]:
    detail = document.get("detail") if isinstance(document, dict) else None
    if isinstance(detail, list):
        faults = [each.get("msg") for each in detail if isinstance(each, dict)]
        return "", clean_message("; ".join(str(fault) for fault in faults))
    if isinstance(detail, dict):
        return str(detail.get("status")), clean_message(detail.get("message"))
    return "", clean_message(detail)
