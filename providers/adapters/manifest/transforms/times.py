"""Times become RFC 3339 in UTC, days ISO 8601. A time without a zone is taken as UTC."""

from __future__ import annotations

import datetime as dt
from typing import Any

from providers.adapters.manifest.transforms.base import (
    ArgumentError,
    Step,
    TransformError,
    text_argument,
    text_of,
)
from providers.adapters.manifest.transforms.numeric import exact

_PROBE = dt.datetime(2026, 2, 3, 4, 5, 6, tzinfo=dt.UTC)


def _rfc3339(moment: dt.datetime) -> str:
    try:
        utc = moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    except (OverflowError, ValueError):
        raise TransformError("time out of range") from None
    return utc.isoformat().replace("+00:00", "Z")


def _parsed(text: str, pattern: str | None = None) -> dt.datetime:
    try:
        if pattern is None:
            return dt.datetime.fromisoformat(text.strip())
        return dt.datetime.strptime(text.strip(), pattern)  # noqa: DTZ007 - the zone is said above
    except (ValueError, OverflowError):
        raise TransformError("text that is no time") from None


def _since_epoch(seconds: float) -> str:
    try:
        return _rfc3339(dt.datetime.fromtimestamp(seconds, dt.UTC))
    except (OverflowError, ValueError, OSError):
        raise TransformError("time out of range") from None


def epoch_s(value: Any) -> str:
    return _since_epoch(float(exact(value)))


def epoch_ms(value: Any) -> str:
    return _since_epoch(float(exact(value) / 1000))


def iso(value: Any) -> str:
    """ "2026-11-20", "2026-11-20T10:45", "…+02:00" → RFC 3339 in UTC."""
    return _rfc3339(_parsed(text_of(value)))


def day(value: Any) -> str:
    """The day of an ISO 8601 text, as written."""
    return _parsed(text_of(value)).date().isoformat()


def pattern(argument: Any) -> Step:
    """`format`: a time in strptime's pattern."""
    known = _checked(argument)
    return lambda value, _params: _rfc3339(_parsed(_as_text(value), known))


def day_pattern(argument: Any) -> Step:
    """`format_day`: a day in strptime's pattern."""
    known = _checked(argument)
    return lambda value, _params: _parsed(_as_text(value), known).date().isoformat()


def written_day(argument: Any) -> Step:
    """`write_day`: a day of ISO 8601 in strftime's pattern, as the provider wants to be told it."""
    known = _checked(argument)
    return lambda value, _params: _parsed(text_of(value)).strftime(known)


def _as_text(value: Any) -> str:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text_of(value)


def _checked(argument: Any) -> str:
    text = text_argument(argument)
    try:
        dt.datetime.strptime(_PROBE.strftime(text), text)  # noqa: DTZ007 - only tries the pattern
    except ValueError:
        raise ArgumentError("takes a pattern of strptime") from None
    return text
