"""How an attempt at Deepgram ended: `{"err_code", "err_msg", "request_id"}` and a status."""

from __future__ import annotations

from collections.abc import Mapping

from providers.call import Outcome, Verdict
from providers.rejection import clean_message, of_a_page, parsed, retry_after

_BY_STATUS: Mapping[int, Verdict] = {
    401: Verdict.AUTH,
    402: Verdict.QUOTA_EXHAUSTED,
    403: Verdict.BLOCKED,  # this model is not for this project
    404: Verdict.BLOCKED,
    408: Verdict.TIMEOUT,
    429: Verdict.RATE_LIMITED,
    504: Verdict.TIMEOUT,
}
_WAITS = frozenset({Verdict.RATE_LIMITED, Verdict.UNAVAILABLE})


def outcome_of(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    document = parsed(body)
    if verdict := of_a_page(status, headers):
        return Outcome(verdict, status)
    if 200 <= status < 300:
        if isinstance(document, dict):
            return Outcome(Verdict.OK, status, document=document)
        return Outcome(Verdict.BAD_PAYLOAD, status, "The answer is not a JSON object.")
    error = document if isinstance(document, dict) else {}
    usual = Verdict.UNAVAILABLE if status >= 500 else Verdict.INVALID_REQUEST
    verdict = _BY_STATUS.get(status, usual)
    message = clean_message(error.get("err_msg") or error.get("message"))
    return Outcome(verdict, status, message, retry_after(headers) if verdict in _WAITS else None)
