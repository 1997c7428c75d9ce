"""How an attempt at Deepgram ended: `{"err_code", "err_msg", "request_id"}` and a status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.call import Outcome, Verdict
from providers.rejection import clean_message, of_objects

_BY_STATUS: Mapping[int, Verdict] = {
    401: Verdict.AUTH,
    402: Verdict.QUOTA_EXHAUSTED,
    403: Verdict.BLOCKED,  # this model is not for this project
    404: Verdict.BLOCKED,
    408: Verdict.TIMEOUT,
    429: Verdict.RATE_LIMITED,
    504: Verdict.TIMEOUT,
}


def outcome_of(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    return of_objects(status, headers, body, told=_told, by_status=_BY_STATUS)


def _told(document: Any) -> tuple[None, str]:
    error = document if isinstance(document, dict) else {}
    return None, clean_message(error.get("err_msg") or error.get("message"))
