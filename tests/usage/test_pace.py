"""How long a quota lasts at the pace of its window so far."""

from __future__ import annotations

import pytest

from tenants.windows import EVER, Period
from usage.pace import DAY, days_left

MONTH = Period("2026-11", 0.0, 30.0 * DAY)


@pytest.mark.parametrize(
    ("day", "used", "expected"),
    [
        (10, 500, 10.0),  # half of it in ten days
        (10, 333, None),  # lasts until the month is over
        (10, 334, 19.94),
        (10, 0, None),
        (1, 900, None),  # a day says nothing of a month
        (1, 1000, 0.0),
        (29, 2000, 0.0),
        (0, 0, None),
    ],
)
def test_days_left(day: float, used: int, expected: float | None) -> None:
    assert days_left(MONTH, 1000, used, day * DAY) == expected


def test_a_window_without_an_end_has_no_pace() -> None:
    assert days_left(EVER, 1000, 999, 1e9) is None
    assert days_left(EVER, 1000, 1000, 1e9) == 0.0


def test_a_quota_of_nothing_is_used_up() -> None:
    assert days_left(MONTH, 0, 0, 10 * DAY) == 0.0
