"""How an attempt at an OpenAI-compatible service ended: the tables of their errors.

The services agree on the status and on little else: the error may be `{"error": {…}}`,
`{"error": "…"}`, `{"detail": …}` or `{"object": "error"}`, and may come with HTTP 200.
What decides is a status, a code or type, or how a message opens: never words from inside a
message, which may quote the caller, and no caller may have a credential parked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from providers.call import Outcome, Verdict
from providers.rejection import clean_message, of_a_page, parsed, retry_after, retry_delay

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
    498: Verdict.RATE_LIMITED,  # Groq: the flex tier has no room
    499: Verdict.UNAVAILABLE,
    504: Verdict.TIMEOUT,
    524: Verdict.TIMEOUT,
}
# By `code` or `type`, which say more than the status they come with.
_BY_CODE: Mapping[str, Verdict] = {
    "insufficient_quota": Verdict.QUOTA_EXHAUSTED,
    "exceeded_current_quota_error": Verdict.QUOTA_EXHAUSTED,  # Moonshot
    "arrearage": Verdict.QUOTA_EXHAUSTED,  # Alibaba
    "billing_hard_limit_reached": Verdict.QUOTA_EXHAUSTED,
    "billing_not_active": Verdict.QUOTA_EXHAUSTED,
    "invalid_api_key": Verdict.AUTH,
    "authentication_error": Verdict.AUTH,
    "account_deactivated": Verdict.AUTH,
    "model_not_found": Verdict.BLOCKED,
    "model_decommissioned": Verdict.BLOCKED,
    "invalid_model": Verdict.BLOCKED,
    "deploymentnotfound": Verdict.BLOCKED,
    "unsupported_country_region_territory": Verdict.BLOCKED,
    "rate_limit_exceeded": Verdict.RATE_LIMITED,
    "ratelimitreached": Verdict.RATE_LIMITED,
    "tool_use_failed": Verdict.BLOCKED,  # Groq: its model could not, another may
    "json_validate_failed": Verdict.BLOCKED,
    "engine_overloaded": Verdict.UNAVAILABLE,
    "engine_overloaded_error": Verdict.UNAVAILABLE,
    "overloaded_error": Verdict.UNAVAILABLE,
    "server_error": Verdict.UNAVAILABLE,
}
# xAI tells a wrong key with 400 and no code of its own.
_BY_OPENING: Mapping[str, Verdict] = {
    "incorrect api key provided": Verdict.AUTH,
    "invalid api key": Verdict.AUTH,
    "you exceeded your current quota": Verdict.QUOTA_EXHAUSTED,
    "insufficient balance": Verdict.QUOTA_EXHAUSTED,
    "insufficient credits": Verdict.QUOTA_EXHAUSTED,
}
_FILTERS = frozenset(
    {
        "1301",  # Z.ai
        "content_filter",  # Azure
        "content_policy_violation",
        "data_inspection_failed",  # Alibaba
        "invalid_prompt",  # OpenAI's reasoning models
        "responsibleaipolicyviolation",
    }
)
# How a message opens that tells of a blocked prompt under no code of its own: xAI, DeepSeek.
_FILTER_OPENINGS = ("content violates usage guidelines", "content exists risk")
# xAI's ways to say that there is no money left, under 403 or 429.
_NO_CREDITS = re.compile(r"you have run out of credits|your (?:newly created )?team .{,80}credits")
# One call that is larger than a minute's tokens, so that waiting is no help: OpenAI's and Groq's.
_TOO_LARGE = "request too large for"
_WAITS = frozenset({Verdict.RATE_LIMITED, Verdict.UNAVAILABLE})


def outcome_of(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """A success keeps its parsed document. A prompt that the service blocked is a success too:
    the document is then its error, and the meter makes a `content_filter` answer of it."""
    document = parsed(body)
    error = error_of(document)
    if 200 <= status < 300 and error is None:
        if isinstance(document, dict):
            return Outcome(Verdict.OK, status, document=document)
        return Outcome(Verdict.BAD_PAYLOAD, status, "The answer is not a JSON object.")
    if error is None and (verdict := of_a_page(status, headers)):
        return Outcome(verdict, status)
    error = error or {}
    if is_content_filter(error):
        return Outcome(Verdict.OK, status, document={"error": error})
    return failure(error, status, headers)


def failure(
    error: Mapping[str, Any], status: int, headers: Mapping[str, str] | None = None
) -> Outcome:
    """The outcome of an error object, whether it came whole or inside a stream. An error that
    came with 200 is judged by the status its code tells, if it tells one."""
    if status < 400:
        status = _told_status(error) or status
    verdict = _verdict(status, error)
    metadata = _mapping(error.get("metadata"))
    message = clean_message(metadata.get("raw")) or clean_message(error.get("message"))
    param = error.get("param")
    return Outcome(
        verdict,
        status,
        message,
        _wait(headers or {}, error, message) if verdict in _WAITS else None,
        param if isinstance(param, str) else None,
    )


def is_content_filter(error: Mapping[str, Any]) -> bool:
    """Whether the prompt or the answer was found indecent; OpenRouter says why in its
    metadata, under a 403."""
    inner = _mapping(error.get("innererror")).get("code")
    told = {str(code).lower() for code in (error.get("code"), error.get("type"), inner)}
    if told & _FILTERS or _mapping(error.get("metadata")).get("reasons"):
        return True
    return str(error.get("message")).lower().startswith(_FILTER_OPENINGS)


def error_of(document: Any) -> dict[str, Any] | None:
    """The error a document tells, whatever its form; None where it tells none."""
    if isinstance(document, list) and document:
        document = document[0]  # Google's
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    if error and isinstance(error, dict):
        return error
    if error and isinstance(error, str | list):
        return {**document, "message": _detail(error)}
    bare = isinstance(document.get("message"), str) or "detail" in document
    answers = "choices" in document or "data" in document
    if document.get("object") == "error" or (bare and not answers):
        return {**document, "message": _detail(document.get("detail") or document.get("message"))}
    return None


def _detail(detail: Any) -> str:
    """A text, Hugging Face's list of texts, or FastAPI's list of {"loc", "msg"}, which Mistral
    wraps up in another {"detail"}."""
    if isinstance(detail, Mapping):
        detail = detail.get("detail")
    if isinstance(detail, list):
        parts = (item.get("msg") if isinstance(item, Mapping) else item for item in detail)
        return "; ".join(part for part in parts if isinstance(part, str))
    return detail if isinstance(detail, str) else ""


def _verdict(status: int, error: Mapping[str, Any]) -> Verdict:
    if status >= 500:
        return _BY_STATUS.get(status, Verdict.UNAVAILABLE)
    told = _told_verdict(error)
    if told is Verdict.RATE_LIMITED and (status == 413 or _is_too_large(error)):
        return Verdict.BLOCKED
    if told or status in _BY_STATUS:
        return told or _BY_STATUS[status]
    if status >= 400 or error.get("type") == "invalid_request_error":
        return Verdict.INVALID_REQUEST
    return Verdict.UNAVAILABLE  # a redirect, which is never followed, or an unclear 200


def _is_too_large(error: Mapping[str, Any]) -> bool:
    return str(error.get("message")).lower().startswith(_TOO_LARGE)


def _told_verdict(error: Mapping[str, Any]) -> Verdict | None:
    for field in ("code", "type"):
        if verdict := _BY_CODE.get(str(error.get(field)).lower()):
            return verdict
    opening = str(error.get("message")).lower()
    if _NO_CREDITS.match(opening):
        return Verdict.QUOTA_EXHAUSTED
    return next((v for words, v in _BY_OPENING.items() if opening.startswith(words)), None)


def _told_status(error: Mapping[str, Any]) -> int | None:
    code = str(error.get("code"))
    return int(code) if len(code) == 3 and code.isdecimal() and "400" <= code < "600" else None


def _wait(headers: Mapping[str, str], error: Mapping[str, Any], message: str) -> float | None:
    """Google has a place of its own for it; OpenRouter hands on the headers of the service
    behind it."""
    wait = retry_after(headers, message)
    if wait is None:
        wait = retry_delay(error.get("details"))
    if wait is None:
        behind = _mapping(_mapping(error.get("metadata")).get("headers"))
        wait = retry_after({str(name).lower(): str(behind[name]) for name in behind})
    return wait


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
