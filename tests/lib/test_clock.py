from __future__ import annotations

import datetime as dt
import time

from hypothesis import given
from hypothesis import strategies as st

from lib.clock import SystemClock, rfc3339, utc


def test_system_clock_is_the_machines() -> None:
    clock = SystemClock()
    assert abs(clock.now() - time.time()) < 1
    assert clock.monotonic() <= clock.monotonic()


@given(st.integers(0, 4_102_444_800))
def test_utc_keeps_the_instant_and_says_its_zone(seconds: int) -> None:
    moment = utc(seconds)
    assert moment.tzinfo is dt.UTC
    assert moment.timestamp() == seconds


@given(st.datetimes(timezones=st.timezones()))
def test_rfc3339_is_the_same_instant_in_utc(moment: dt.datetime) -> None:
    try:
        in_utc = moment.astimezone(dt.UTC)
    except OverflowError:
        return
    text = rfc3339(moment)
    assert text.endswith("Z") and "+" not in text
    assert dt.datetime.fromisoformat(text) == in_utc


def test_rfc3339_drops_no_microsecond_and_invents_none() -> None:
    assert rfc3339(dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)) == "2026-01-02T03:04:05Z"
    assert (
        rfc3339(dt.datetime(2026, 1, 2, 3, 4, 5, 60, tzinfo=dt.UTC))
        == "2026-01-02T03:04:05.000060Z"
    )
