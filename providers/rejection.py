"""What every dialect does with a refusal: read it, take the secrets out, see how long to wait,
and say it as one of our problems."""

from __future__ import annotations

import datetime as dt
import email.utils
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

import orjson

from lib.problems import Problem, Unavailable, UpstreamRejected, UpstreamTimeout
from providers.call import Outcome, Verdict

MAX_MESSAGE = 500

# Keys, tokens and the like, as providers echo them in "Incorrect API key provided: sk-…", and
# the names of our own accounts there, which are no tenant's business.
_SECRETS = re.compile(
    r"\b(?:sk|pk|pb|gsk|hf|xai|pplx|csk|tgp|org|proj|user)[-_][\w*.-]{6,}"
    r"|\bAIza[\w-]{8,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}"
    r"|\barn:aws[\w-]*:\S+"
    r"|\beyJ[\w.-]{10,}"
    r"|\bbearer\s+\S+"
    r"|(?<=key provided: )\S+"
    r"|(?<=api key: )\S+"
    r"|\b[A-Za-z0-9]{32,}\b",
    re.IGNORECASE,
)
_SHORTEST = 4  # characters of a secret; what is shorter would be found in any text
_SCANNED = 4000  # characters of a message that are looked through; far fewer are passed on

_WAITS = frozenset({Verdict.RATE_LIMITED, Verdict.UNAVAILABLE})  # which may say for how long

# A rate limit's headers where Retry-After is missing: what is left, and when it is full again.
_RESETS = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
)
_DURATION = re.compile(
    r"(?:(\d{1,4})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,9}(?:\.\d+)?)s)?(?:(\d{1,9}(?:\.\d+)?)ms)?"
)
_SECONDS_IN = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_TRY_AGAIN = re.compile(
    r"(?:try again in|retry after) (\d[\dhms.]{,30})(?: (s)econds?)?", re.IGNORECASE
)


def parsed(body: bytes) -> Any:
    """The body's JSON, or None where it is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def clean_message(message: Any) -> str:
    """A provider's words, fit to be passed on: text, bounded, with secrets taken out."""
    if not isinstance(message, str):
        return ""
    return _SECRETS.sub("[redacted]", message[:_SCANNED])[:MAX_MESSAGE]


def without(outcome: Outcome, secrets: Iterable[str]) -> Outcome:
    """The outcome with none of these in its message, plain or as it stands in a URL."""
    message = outcome.message
    for secret in secrets if message else ():
        if len(secret) >= _SHORTEST:
            for form in (secret, quote(secret, safe="")):
                message = message.replace(form, "[redacted]")
    return outcome if message == outcome.message else outcome._replace(message=message)


def retry_after(headers: Mapping[str, str], message: str = "") -> float | None:
    """Seconds to wait. First what Retry-After says (RFC 9110 §10.2.3: seconds or a date), then
    the reset of a limit that has nothing left, then the message's "try again in 6m0s" or
    "retry after 45 seconds"; None where none of them says anything usable."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds:
        return milliseconds / 1000
    wait = _moment(headers.get("retry-after"))
    if wait is None:
        spent = [reset for left, reset in _RESETS if headers.get(left) == "0"]
        waits = [wait for reset in spent if (wait := _moment(headers.get(reset))) is not None]
        wait = max(waits, default=None)
    if wait is None and (words := _TRY_AGAIN.search(message)):
        wait = duration(words[1].rstrip(".") + (words[2] or ""))
    return wait


def retry_delay(details: Any) -> float | None:
    """Seconds, from an error's `details` in Google's form: a RetryInfo tells "34.4s"."""
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and (wait := duration(str(detail.get("retryDelay")))):
            return wait
    return None


def of_a_page(status: int, headers: Mapping[str, str]) -> Verdict | None:
    """The verdict where a web page refuses the request: no service writes one, so it is what
    stands before it (a firewall, a proxy), which knows nothing of credentials or fields. What
    other statuses say is true of a page too."""
    is_page = headers.get("content-type", "").lower().startswith("text/html")
    return Verdict.BLOCKED if is_page and status in (400, 403) else None


def of_objects(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    told: Callable[[Any], tuple[Verdict | None, str]],
    by_status: Mapping[int, Verdict],
) -> Outcome:
    """How an attempt ended at a service that answers in JSON objects. `told` reads a refusal: the
    verdict, where its words say more than the status, and the message."""
    document = parsed(body)
    if verdict := of_a_page(status, headers):
        return Outcome(verdict, status)
    if 200 <= status < 300:
        if isinstance(document, dict):
            return Outcome(Verdict.OK, status, document=document)
        return Outcome(Verdict.BAD_PAYLOAD, status, "The answer is not a JSON object.")
    said, message = told(document)
    usual = Verdict.UNAVAILABLE if status >= 500 else Verdict.INVALID_REQUEST
    verdict = said or by_status.get(status, usual)
    return Outcome(verdict, status, message, retry_after(headers) if verdict in _WAITS else None)


def _moment(text: str | None) -> float | None:
    """Seconds from now, of a text that names them, a duration, or a moment: an HTTP date, RFC
    3339, or seconds or milliseconds since 1970 (OpenRouter)."""
    text = (text or "").strip()
    if (number := _number(text)) is not None:
        scale = 1000 if number > 1e11 else 1
        return number if number < 1e9 else max(0.0, number / scale - time.time())
    if (wait := duration(text)) is not None:
        return wait
    moment = _date(text)
    return None if moment is None else max(0.0, moment.timestamp() - time.time())


def _date(text: str) -> dt.datetime | None:
    for read in (email.utils.parsedate_to_datetime, dt.datetime.fromisoformat):
        try:
            moment = read(text)
        except (ValueError, OverflowError):
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return None


def duration(text: str) -> float | None:
    """Seconds, of OpenAI's and Groq's "6m0s", "12ms", "2m59.56s"."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        return None
    parts = zip(match.groups(default="0"), _SECONDS_IN, strict=True)
    return sum(float(figure) * seconds for figure, seconds in parts)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < 1e14 else None


_USELESS = frozenset({Verdict.BLOCKED, Verdict.BAD_PAYLOAD, Verdict.INVALID_ANSWER})


def problem(outcome: Outcome) -> Problem:
    """An attempt's outcome as the caller should see it, were it the last one."""
    if outcome.verdict is Verdict.INVALID_REQUEST:
        status = outcome.status if 400 <= outcome.status < 500 else 400
        words = outcome.message or "The provider refused the request."
        return UpstreamRejected(words, status=status, param=outcome.param)
    if outcome.verdict is Verdict.TIMEOUT:
        return UpstreamTimeout()
    if outcome.verdict in _USELESS:
        return UpstreamRejected(outcome.message or "The provider's answer could not be used.")
    wait = None if outcome.retry_after is None else max(1, math.ceil(outcome.retry_after))
    return Unavailable(retry_after=wait)
