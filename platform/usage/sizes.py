"""How large the database is, hour by hour, and when the disk will be full."""

from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import dataclass
from pathlib import Path

from django.db import DEFAULT_DB_ALIAS, connections
from django.utils import timezone

from usage.models import DatabaseSize

KEPT = dt.timedelta(days=30)
LOOKED_AT = dt.timedelta(days=7)
SHORTEST = dt.timedelta(hours=6)  # of samples from which a trend is told
DAY = 86_400


@dataclass(frozen=True, slots=True)
class Growth:
    """Bytes a day over the last week, and in how many days the disk is full at that rate; None
    where too little is known or it does not grow."""

    bytes_per_day: int | None
    disk_days_left: float | None


def measure(folder: Path, *, using: str = DEFAULT_DB_ALIAS) -> int:
    """Note how things stand, and forget what is old (a periodic job): how many samples. `folder`
    is on the disk that the data lies on."""
    free = shutil.disk_usage(folder).free
    DatabaseSize.objects.using(using).create(database_bytes=size(using), disk_free_bytes=free)
    return DatabaseSize.objects.using(using).filter(at__lt=timezone.now() - KEPT).delete()[0]


def size(using: str = DEFAULT_DB_ALIAS) -> int:
    """Of the database, in bytes."""
    if connections[using].vendor == "sqlite":
        statement = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    else:
        statement = "SELECT pg_database_size(current_database())"
    with connections[using].cursor() as cursor:
        cursor.execute(statement)
        return int(cursor.fetchone()[0])


def growth(free: int, *, using: str = DEFAULT_DB_ALIAS) -> Growth:
    """The straight line through the last week's samples (least squares). `free` is what the
    disk has left, in bytes."""
    since = timezone.now() - LOOKED_AT
    rows = DatabaseSize.objects.using(using).filter(at__gte=since)
    samples = [(at.timestamp(), size) for at, size in rows.values_list("at", "database_bytes")]
    if not samples or max(samples)[0] - min(samples)[0] < SHORTEST.total_seconds():
        return Growth(None, None)
    a_day = _slope(samples) * DAY
    return Growth(round(a_day), round(free / a_day, 1) if a_day >= 1 else None)


def _slope(points: list[tuple[float, int]]) -> float:
    count = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
