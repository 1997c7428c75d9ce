from __future__ import annotations

import datetime as dt
import zoneinfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tenants import windows
from tenants.windows import EVER, Period, Window

ZONES = sorted(zoneinfo.available_timezones())
CALENDAR = [Window.MINUTE, Window.HOUR, Window.DAY, Window.MONTH]
FIRST, LAST = (int(dt.datetime(year, 1, 1, tzinfo=dt.UTC).timestamp()) for year in (2000, 2038))
MINUTES, HOUR, DAY = 60.0, 3600.0, 86400.0
AROUND = {  # how far around a change of the clocks it is looked
    Window.MINUTE: 70 * MINUTES,
    Window.HOUR: 4 * HOUR,
    Window.DAY: 3 * DAY,
    Window.MONTH: 40 * DAY,
}


def at(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


def period(window: Window, moment: float, zone: str) -> Period:
    """Made anew: one that is remembered would hide that two overlap."""
    windows._latest.clear()
    return windows.period(window, moment, zone)


def shown(window: Window, moment: str, zone: str) -> tuple[str, str, float]:
    """A period's name, when it starts by the zone's clock, and its length in hours."""
    found = period(window, at(moment), zone)
    assert found.ends is not None
    starts = dt.datetime.fromtimestamp(found.starts, zoneinfo.ZoneInfo(zone))
    return found.name, starts.isoformat(timespec="minutes"), (found.ends - found.starts) / HOUR


def changes(zone: str) -> list[int]:
    """Moments around each change of a zone's offset, 2000 to 2037, to the second."""
    info, found = zoneinfo.ZoneInfo(zone), []

    def offset(moment: int) -> dt.timedelta | None:
        return dt.datetime.fromtimestamp(moment, info).utcoffset()

    for day in range(FIRST, LAST, 7 * 86400):
        low, high = day, day + 7 * 86400
        if offset(low) != offset(high):
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
            found.append(high)
    return found


def follows(window: Window, moment: float, zone: str) -> tuple[Period, Period]:
    """The period of a moment and the next one, checked for all that must hold of any two."""
    one = period(window, moment, zone)
    assert one.ends is not None
    assert one.starts <= moment < one.ends
    assert one.starts % 60 == 0 and one.ends % 60 == 0
    assert period(window, one.starts, zone) == one
    assert period(window, one.ends - 0.001, zone) == one
    other = period(window, one.ends, zone)
    assert other.starts == one.ends and other.ends is not None
    assert other.name > one.name or window in {Window.MINUTE, Window.HOUR}
    assert other.name != one.name
    before = period(window, one.starts - 0.001, zone)
    assert before.ends == one.starts and before.name != one.name
    return one, other


@given(
    st.sampled_from(CALENDAR),
    st.sampled_from(ZONES),
    st.floats(FIRST, LAST, allow_nan=False),
)
@settings(max_examples=300, deadline=None)
@example(Window.DAY, "Pacific/Apia", at("2011-12-30T10:00+00:00"))
@example(Window.MONTH, "America/Caracas", at("2016-05-01T07:00+00:00"))
def test_periods_tile_time(window: Window, zone: str, moment: float) -> None:
    follows(window, moment, zone)


@given(st.sampled_from(ZONES), st.data())
@settings(max_examples=60, deadline=None)
def test_periods_tile_time_around_every_change_of_the_clocks(
    zone: str, data: st.DataObject
) -> None:
    moments = changes(zone)
    if not moments:
        return
    change = data.draw(st.sampled_from(moments))
    for window, span in AROUND.items():
        moment, names = change - span, set()
        while moment <= change + span:
            one, other = follows(window, moment, zone)
            assert one.name not in names
            names.add(one.name)
            moment = other.starts


@pytest.mark.unmeasured
def test_each_date_is_one_day() -> None:
    for zone in ZONES:
        moment = dt.datetime(2011, 1, 1, 12, tzinfo=zoneinfo.ZoneInfo(zone)).timestamp()
        dates: list[str] = []
        while not dates or dates[-1] < "2012-01-01":
            found = period(Window.DAY, moment, zone)
            assert found.ends is not None
            dates.append(found.name)
            moment = found.ends
        assert dates == sorted(set(dates))
        left_out = zone in {"Pacific/Apia", "Pacific/Fakaofo"}
        assert ("2011-12-30" in dates) is not left_out
        assert len(dates) == 366 - left_out


@pytest.mark.parametrize(
    ("window", "moment", "zone", "expected"),
    [
        (Window.DAY, "2026-11-21T07:05Z", "UTC", ("2026-11-21", "2026-11-21T00:00+00:00", 24)),
        (Window.HOUR, "2026-11-21T07:05Z", "UTC", ("2026-11-21T07", "2026-11-21T07:00+00:00", 1)),
        (Window.MONTH, "2028-02-29T23:59Z", "UTC", ("2028-02", "2028-02-01T00:00+00:00", 29 * 24)),
        (Window.MONTH, "2100-02-28T23:59Z", "UTC", ("2100-02", "2100-02-01T00:00+00:00", 28 * 24)),
        (Window.MONTH, "2026-12-31T23:59Z", "UTC", ("2026-12", "2026-12-01T00:00+00:00", 31 * 24)),
        # 23 and 25 hours
        (Window.DAY, "2026-03-29T10:00Z", "Europe/Stockholm", ("2026-03-29", "2026-03-29T00:00+01:00", 23)),
        (Window.DAY, "2026-10-25T10:00Z", "Europe/Stockholm", ("2026-10-25", "2026-10-25T00:00+02:00", 25)),
        (Window.MONTH, "2026-10-25T10:00Z", "Europe/Stockholm", ("2026-10", "2026-10-01T00:00+02:00", 31 * 24 + 1)),
        # the hour that is shown twice, and the one that is not shown
        (Window.HOUR, "2026-10-25T00:59Z", "Europe/Stockholm", ("2026-10-25T02+02:00", "2026-10-25T02:00+02:00", 1)),
        (Window.HOUR, "2026-10-25T01:00Z", "Europe/Stockholm", ("2026-10-25T02+01:00", "2026-10-25T02:00+01:00", 1)),
        (Window.HOUR, "2026-10-25T00:59Z", "Europe/London", ("2026-10-25T01+01:00", "2026-10-25T01:00+01:00", 1)),
        (Window.HOUR, "2026-10-25T01:00Z", "Europe/London", ("2026-10-25T01", "2026-10-25T01:00+00:00", 1)),
        (Window.HOUR, "2026-03-29T01:00Z", "Europe/Stockholm", ("2026-03-29T03+02:00", "2026-03-29T03:00+02:00", 1)),
        (Window.MINUTE, "2026-10-25T01:30:59Z", "Europe/Stockholm", ("2026-10-25T02:30+01:00", "2026-10-25T02:30+01:00", 1 / 60)),
        # no midnight: the day begins at one
        (Window.DAY, "2026-09-06T12:00Z", "America/Santiago", ("2026-09-06", "2026-09-06T01:00-03:00", 23)),
        (Window.DAY, "2026-04-24T12:00Z", "Africa/Cairo", ("2026-04-24", "2026-04-24T01:00+03:00", 23)),
        (Window.DAY, "2026-03-29T12:00Z", "Asia/Beirut", ("2026-03-29", "2026-03-29T01:00+03:00", 23)),
        (Window.DAY, "1919-03-31T12:00Z", "America/Toronto", ("1919-03-31", "1919-03-31T00:30-04:00", 23.5)),
        # set back over midnight: the day before lasts an hour longer
        (Window.DAY, "2026-04-05T03:30Z", "America/Santiago", ("2026-04-04", "2026-04-04T00:00-03:00", 25)),
        # set back from 00:01: the day begins once
        (Window.DAY, "2010-11-07T02:30Z", "America/St_Johns", ("2010-11-07", "2010-11-07T00:00-02:30", 25)),
        (Window.DAY, "2010-11-07T02:31Z", "America/St_Johns", ("2010-11-07", "2010-11-07T00:00-02:30", 25)),
        (Window.HOUR, "2010-11-07T02:30Z", "America/St_Johns", ("2010-11-07T00-02:30", "2010-11-07T00:00-02:30", 1 / 60)),
        (Window.HOUR, "2010-11-07T02:31Z", "America/St_Johns", ("2010-11-06T23-03:30", "2010-11-06T23:01-03:30", 59 / 60)),
        # offsets of :30 and :45, and clocks changed by half an hour
        (Window.DAY, "2026-11-21T18:15Z", "Asia/Kathmandu", ("2026-11-22", "2026-11-22T00:00+05:45", 24)),
        (Window.HOUR, "2026-11-21T18:15Z", "Asia/Kolkata", ("2026-11-21T23+05:30", "2026-11-21T23:00+05:30", 1)),
        (Window.DAY, "2026-04-04T20:00Z", "Australia/Lord_Howe", ("2026-04-05", "2026-04-05T00:00+11:00", 24.5)),
        (Window.HOUR, "2026-04-04T14:59Z", "Australia/Lord_Howe", ("2026-04-05T01+11:00", "2026-04-05T01:00+11:00", 1)),
        (Window.HOUR, "2026-04-04T15:00Z", "Australia/Lord_Howe", ("2026-04-05T01+10:30", "2026-04-05T01:30+10:30", 0.5)),
        (Window.HOUR, "2026-10-03T15:30Z", "Australia/Lord_Howe", ("2026-10-04T02+11:00", "2026-10-04T02:30+11:00", 0.5)),
        # a change of the zone itself
        (Window.HOUR, "2016-05-01T07:00Z", "America/Caracas", ("2016-05-01T03-04:00", "2016-05-01T03:00-04:00", 1)),
        # the day that Samoa left out
        (Window.DAY, "2011-12-30T09:59Z", "Pacific/Apia", ("2011-12-29", "2011-12-29T00:00-10:00", 24)),
        (Window.DAY, "2011-12-30T10:00Z", "Pacific/Apia", ("2011-12-31", "2011-12-31T00:00+14:00", 24)),
        (Window.MONTH, "2011-12-31T10:00Z", "Pacific/Apia", ("2012-01", "2012-01-01T00:00+14:00", 31 * 24)),
    ],
)  # fmt: skip
def test_a_period(window: Window, moment: str, zone: str, expected: tuple[str, str, float]) -> None:
    name, starts, hours = shown(window, moment, zone)
    assert (name, starts) == expected[:2]
    assert hours == pytest.approx(expected[2])


def test_a_lifetime_never_ends() -> None:
    assert period(Window.LIFETIME, 0.0, "UTC") == period(Window.LIFETIME, 9e9, "Asia/Tokyo") == EVER
    assert Period("all", 0.0, None) == EVER


def test_a_clock_set_back_is_in_the_period_it_shows() -> None:
    noon = at("2026-11-21T12:00Z")
    days = [windows.period(Window.DAY, noon + step * DAY, "UTC") for step in (0, 1, 1, 0, -1, 0)]
    assert [day.name[-2:] for day in days] == ["21", "22", "22", "21", "20", "21"]
    assert days[1] is days[2]


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(zoneinfo.ZoneInfoNotFoundError):
        period(Window.DAY, 0.0, "Mars/Olympus")
