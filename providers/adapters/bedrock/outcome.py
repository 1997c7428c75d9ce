"""How an attempt at Bedrock ended: the table of its exceptions, by their own name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.adapters.bedrock.eventstream import CONTENT_TYPE
from providers.call import Outcome, Verdict
from providers.openai_wire import clean_message, parsed, retry_after
from providers.rejection import of_a_page

# In a stream the same names begin with a small letter; here all are small.
_BY_TYPE: Mapping[str, Verdict] = {
    "accessdeniedexception": Verdict.AUTH,
    "expiredtokenexception": Verdict.AUTH,
    "incompletesignatureexception": Verdict.AUTH,
    "internalserverexception": Verdict.UNAVAILABLE,
    "invalidsignatureexception": Verdict.AUTH,
    "missingauthenticationtokenexception": Verdict.AUTH,
    "modelerrorexception": Verdict.UNAVAILABLE,
    "modelnotreadyexception": Verdict.UNAVAILABLE,
    "modelstreamerrorexception": Verdict.UNAVAILABLE,
    "modeltimeoutexception": Verdict.TIMEOUT,
    "resourcenotfoundexception": Verdict.BLOCKED,  # no such model here: the next target may do
    "servicequotaexceededexception": Verdict.QUOTA_EXHAUSTED,
    "serviceunavailableexception": Verdict.UNAVAILABLE,
    "throttlingexception": Verdict.RATE_LIMITED,
    "unrecognizedclientexception": Verdict.AUTH,
    "validationexception": Verdict.INVALID_REQUEST,
}
# What comes under another name than it deserves. Only a message's beginning counts: what comes
# later may quote the caller.
_BY_OPENING: Mapping[str, Verdict] = {
    "You don't have access to the model": Verdict.BLOCKED,
    "Access to this model is not available": Verdict.BLOCKED,
    "Model access is denied": Verdict.BLOCKED,
    "Signature expired": Verdict.BLOCKED,  # our clock is wrong, and the credential is not
    "Signature not yet current": Verdict.BLOCKED,
    "The provided model identifier is invalid": Verdict.BLOCKED,
    "Invocation of model ID": Verdict.BLOCKED,  # … with on-demand throughput isn't supported
    "This model doesn't support": Verdict.BLOCKED,
    "This model version has reached the end of its life": Verdict.BLOCKED,
    "Too many tokens per day": Verdict.QUOTA_EXHAUSTED,
}
_BY_STATUS: Mapping[int, Verdict] = {
    401: Verdict.AUTH,
    402: Verdict.QUOTA_EXHAUSTED,
    403: Verdict.AUTH,
    404: Verdict.BLOCKED,
    408: Verdict.TIMEOUT,
    409: Verdict.UNAVAILABLE,
    424: Verdict.UNAVAILABLE,
    429: Verdict.RATE_LIMITED,
    504: Verdict.TIMEOUT,
}
_WAITS = frozenset({Verdict.RATE_LIMITED, Verdict.UNAVAILABLE})
_FAILED_STOPS = frozenset({"malformed_model_output", "malformed_tool_use"})


def outcome_of(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """A success keeps its parsed document. A stream's first answer is not read here."""
    succeeded = 200 <= status < 300
    if succeeded and headers.get("content-type", "").startswith(CONTENT_TYPE):
        return Outcome(Verdict.OK, status)
    document = parsed(body)
    if verdict := of_a_page(status, headers):
        return Outcome(verdict, status)
    if not succeeded:
        told = document if isinstance(document, dict) else {}
        # `ThrottlingException:http://internal.amazon.com/…`, or the same in the body
        name = headers.get("x-amzn-errortype") or str(told.get("__type", ""))
        return failure(name, told, status, headers)
    if not isinstance(document, dict):
        return Outcome(Verdict.BAD_PAYLOAD, status, "The answer is not a JSON object.")
    return failed_stop(document.get("stopReason")) or Outcome(Verdict.OK, status, document=document)


def failure(name: str, told: Any, status: int, headers: Mapping[str, str] | None = None) -> Outcome:
    """The outcome of an exception, whether it came whole or inside a stream."""
    error = told if isinstance(told, dict) else {}
    message = clean_message(error.get("message") or error.get("Message"))
    verdict = _verdict(name, message, status)
    wait = retry_after(headers or {}) if verdict in _WAITS else None
    return Outcome(verdict, status, message, wait)


def failed_stop(reason: Any) -> Outcome | None:
    """The outcome of an answer whose stop reason says that there is none."""
    is_failed = isinstance(reason, str) and reason in _FAILED_STOPS
    return Outcome(Verdict.UNAVAILABLE, 200, f"Bedrock gave up: {reason}.") if is_failed else None


def _verdict(name: str, message: str, status: int) -> Verdict:
    for opening, verdict in _BY_OPENING.items():
        if message.startswith(opening):
            return verdict
    name = name.partition(":")[0].rpartition("#")[2].lower()
    if told := _BY_TYPE.get(name) or _BY_STATUS.get(status):
        return told
    return Verdict.INVALID_REQUEST if 400 <= status < 500 else Verdict.UNAVAILABLE
