"""How an attempt ended: the manifest's rules in order, then what HTTP itself says."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final

from providers.adapters.manifest.expression import Expression
from providers.adapters.manifest.mapping import Source
from providers.adapters.manifest.transforms import TransformError
from providers.call import Verdict
from providers.rejection import of_a_page, retry_after

MAX_RETRY_AFTER: Final = 86_400.0
_MAX_MESSAGE = 300
_WINDOWS: Final = {"minute": 60.0, "hour": 3600.0, "day": 86_400.0, "month": 86_400.0}
_TOKEN_LIKE = re.compile(r"(?=[A-Za-z0-9_.-]*[0-9])[A-Za-z0-9_-][A-Za-z0-9_.-]{11,}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")

_BY_STATUS: Final[Mapping[int, Verdict]] = {
    204: Verdict.EMPTY,
    400: Verdict.INVALID_REQUEST,
    401: Verdict.AUTH,
    402: Verdict.QUOTA_EXHAUSTED,
    403: Verdict.AUTH,
    404: Verdict.NOT_FOUND,
    408: Verdict.TIMEOUT,
    409: Verdict.UNAVAILABLE,  # locked for the moment
    410: Verdict.NOT_FOUND,
    414: Verdict.INVALID_REQUEST,
    422: Verdict.INVALID_REQUEST,
    425: Verdict.UNAVAILABLE,
    429: Verdict.RATE_LIMITED,
    451: Verdict.BLOCKED,
    504: Verdict.TIMEOUT,
    524: Verdict.TIMEOUT,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. `document` is None where the body cannot be read, or says nothing: it is
    `empty` then."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    document: Any = None
    empty: bool = False

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").strip().lower()


@dataclass(frozen=True, slots=True)
class Rule:
    """One error rule. All conditions that it has must hold."""

    verdict: Verdict
    statuses: frozenset[int] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""
    empty_body: bool = False
    predicate: Expression | None = None
    message: Expression | None = None
    retry_after: Source | None = None
    resets: str = ""  # the window (in UTC) at whose end the provider's limit begins anew

    def matches(self, reply: Reply) -> bool:
        if self.statuses and reply.status not in self.statuses:
            return False
        if self.empty_body and not reply.empty:
            return False
        if not reply.content_type.startswith(self.content_type):
            return False
        if any(part not in reply.headers.get(name, "") for name, part in self.headers.items()):
            return False
        return self.predicate is None or self.predicate.holds(reply.document)

    def words(self, reply: Reply) -> str:
        found = self.message.search(reply.document) if self.message else None
        return cleaned(found) if isinstance(found, str) else ""

    def wait(self, reply: Reply) -> float | None:
        """Seconds: what the body tells, else the header, else the rule's constant or what is left
        of its window."""
        header = header_wait(reply.headers)
        if header is None and self.resets:
            return _left(self.resets, _moment(reply.headers.get("date", "")))
        if not self.retry_after or (header is not None and not self.retry_after.path):
            return header
        try:
            found = self.retry_after.read(reply.document, reply.document, {})
            return _bounded(float(found))
        except (TransformError, TypeError, ValueError, OverflowError):
            return header


def first_match(rules: Iterable[Rule], reply: Reply) -> Rule | None:
    return next((rule for rule in rules if rule.matches(reply)), None)


def by_http(reply: Reply) -> Verdict:
    """What a reply that no rule speaks of means. What is 404 and cannot be read is a page that
    stands where the service was: it says nothing of the record."""
    known = of_a_page(reply.status, reply.headers) or _BY_STATUS.get(reply.status)
    if known is Verdict.NOT_FOUND and reply.document is None and not reply.empty:
        return Verdict.BLOCKED
    if known:
        return known
    if reply.status >= 500:
        return Verdict.UNAVAILABLE
    if not 200 <= reply.status < 300:
        return Verdict.INVALID_REQUEST if reply.status >= 400 else Verdict.BAD_PAYLOAD
    return Verdict.BAD_PAYLOAD if reply.document is None else Verdict.OK


def header_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds: Retry-After (RFC 9110 §10.2.3), where a date counts from the answer's own Date,
    or else what other headers say of a limit that has nothing left."""
    text = headers.get("retry-after", "").strip()
    try:
        return _bounded(float(text))
    except ValueError:
        pass
    until, sent = _moment(text), _moment(headers.get("date", ""))
    if until and sent:
        return _bounded((until - sent).total_seconds())
    wait = retry_after({name: told for name, told in headers.items() if name != "retry-after"})
    return None if wait is None else _bounded(wait)


def _left(window: str, now: dt.datetime | None) -> float:
    """Of the window that an answer's own Date is in; all of one, where it has none."""
    if now is None:
        return _WINDOWS[window]
    begun = now.astimezone(dt.UTC).replace(second=0, microsecond=0)
    if window != "minute":
        begun = begun.replace(minute=0)
    if window in ("day", "month"):
        begun = begun.replace(hour=0)
    ends = begun + dt.timedelta(seconds=_WINDOWS[window])
    if window == "month":  # the first of the next one
        ends = (begun.replace(day=1) + dt.timedelta(days=32)).replace(day=1)
    return min((ends - now).total_seconds(), MAX_RETRY_AFTER)


def _moment(text: str) -> dt.datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _bounded(seconds: float) -> float | None:
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if math.isfinite(seconds) else None


def cleaned(message: str) -> str:
    """The provider's words in one short line. What looks like a key goes: some echo ours."""
    line = _UNPRINTABLE.sub(" ", message[: _MAX_MESSAGE * 4])
    return _TOKEN_LIKE.sub("[removed]", line)[:_MAX_MESSAGE].strip()
