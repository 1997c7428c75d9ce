"""Calendar windows: the minute, hour, day or month that a moment lies in, in a time zone.

A zone's windows follow one another without gap or overlap. Days and months go by a wall clock
that is never set back: a day begins when the clock first shows midnight or, where midnight is
skipped, anything later; a day that a zone left out is none. Minutes and hours go by what the
clock shows, so that an hour shown twice is two, told apart by their offset from UTC.
"""

from __future__ import annotations

import datetime as dt
import enum
import zoneinfo
from dataclasses import dataclass


class Window(enum.StrEnum):
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    LIFETIME = "lifetime"


@dataclass(frozen=True, slots=True)
class Period:
    """One window of time: from `starts` until before `ends`, in unix seconds; None is never.

    `name` is its own among all of its window and zone: 2026-11-21T07:05, 2026-11-21T07 (both
    with the offset where that is not zero, as in 2026-10-25T02+01:00), 2026-11-21, 2026-11 or
    all.
    """

    name: str
    starts: float
    ends: float | None


EVER = Period("all", 0.0, None)
_latest: dict[tuple[str, str], tuple[float, float, Period]] = {}


def period(window: Window, now: float, time_zone: str) -> Period:
    """The period that `now` (unix seconds) lies in. Raises ZoneInfoNotFoundError."""
    known = _latest.get((window, time_zone))
    if known is not None and known[0] <= now < known[1]:
        return known[2]
    if window is Window.LIFETIME:
        return EVER
    zone = zoneinfo.ZoneInfo(time_zone)
    if window is Window.MINUTE:
        name, starts, ends = _by_clock(now, zone, 60, "%Y-%m-%dT%H:%M")
    elif window is Window.HOUR:
        name, starts, ends = _by_clock(now, zone, 3600, "%Y-%m-%dT%H")
    else:
        name, starts, ends = _by_calendar(now, zone, window)
    found = Period(name, float(starts), float(ends))
    _latest[window, time_zone] = (found.starts, float(ends), found)
    return found


def _by_clock(now: float, zone: dt.tzinfo, length: int, form: str) -> tuple[str, int, int]:
    """The minute or hour that the clock shows, as far as its offset stays the same."""
    moment = int(now // 1)
    offset = _offset(moment, zone)
    starts = (moment + offset) // length * length - offset
    ends = starts + length
    shown = dt.datetime.fromtimestamp(starts + offset, dt.UTC)
    if _offset(starts, zone) != offset:
        starts = _change(starts, moment, zone)
    if _offset(ends, zone) != offset:
        ends = _change(moment, ends, zone)
    east = dt.timezone(dt.timedelta(seconds=offset))
    return shown.strftime(form) + (str(east).removeprefix("UTC")), starts, ends


def _by_calendar(now: float, zone: dt.tzinfo, window: Window) -> tuple[str, int, int]:
    date = dt.datetime.fromtimestamp(now // 1, zone).date()
    if window is Window.MONTH:
        date = date.replace(day=1)
    starts, after = _begins(date, zone), _after(date, window)
    ends = _begins(after, zone)
    while ends <= now:  # the clock was set back over midnight, or a day left out
        date, starts, after = after, ends, _after(after, window)
        ends = _begins(after, zone)
    return date.isoformat()[: 7 if window is Window.MONTH else 10], starts, ends


def _after(date: dt.date, window: Window) -> dt.date:
    if window is Window.DAY:
        return date + dt.timedelta(days=1)
    return (date + dt.timedelta(days=31)).replace(day=1)


def _begins(date: dt.date, zone: dt.tzinfo) -> int:
    """When the zone's clock first shows this date's midnight, or anything later."""
    midnight = dt.datetime(date.year, date.month, date.day, tzinfo=zone)
    first, second = int(midnight.timestamp()), int(midnight.replace(fold=1).timestamp())
    if second < first:  # PEP 495: the time is skipped, and lies between what both offsets make it
        return _change(second, first, zone)
    return first


def _change(before: int, after: int, zone: dt.tzinfo) -> int:
    """The moment after `before`, and at the latest `after`, from which `after`'s offset holds."""
    offset = _offset(after, zone)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(middle, zone) == offset:
            after = middle
        else:
            before = middle
    return after


def _offset(moment: int, zone: dt.tzinfo) -> int:
    """Seconds east of UTC."""
    offset = dt.datetime.fromtimestamp(moment, zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())
