"""How an attempt at ElevenLabs ended: `{"detail": {"status", "message"}}`, or FastAPI's list of
faults. The status' word says more than the number it comes with: 401 is a spent quota too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.call import Outcome, Verdict
from providers.rejection import clean_message, of_objects

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


def outcome_of(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """Sound is not read here."""
    return of_objects(status, headers, body, told=_told, by_status=_BY_STATUS)


def _told(document: Any) -> tuple[Verdict | None, str]:
    detail = document.get("detail") if isinstance(document, dict) else None
    if isinstance(detail, list):
        faults = [each.get("msg") for each in detail if isinstance(each, dict)]
        return None, clean_message("; ".join(str(fault) for fault in faults))
    if isinstance(detail, dict):
        return _BY_WORD.get(str(detail.get("status"))), clean_message(detail.get("message"))
    return None, clean_message(detail)
