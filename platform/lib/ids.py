"""Identifiers: time-ordered UUIDs (RFC 9562 §5.7) and the prefixed forms people see."""

from __future__ import annotations

import datetime as dt
import os
import re
import time
import uuid

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z", re.IGNORECASE)
_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: no i, l, o, u


def uuid7() -> str:
    """A UUIDv7 as text: 48 bits of milliseconds, then 74 random bits."""
    milliseconds, random = time.time_ns() // 1_000_000, os.urandom(10).hex()
    text = f"{milliseconds:012x}"
    variant = "89ab"[int(random[0], 16) & 3]
    return f"{text[:8]}-{text[8:]}-7{random[1:4]}-{variant}{random[4:7]}-{random[7:19]}"


def first_uuid7(moment: float) -> str:
    """The beginning that all UUIDv7 made since (unix seconds) have or sort after."""
    digits = f"{int(moment * 1000):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def is_uuid(text: str) -> bool:
    return _UUID.match(text) is not None


def moment_of(text: str) -> dt.datetime:
    """When a UUIDv7 was made; of another UUID, some moment or the last there is."""
    try:
        return dt.datetime.fromtimestamp(int(text[:8] + text[9:13], 16) / 1000, dt.UTC)
    except (OverflowError, ValueError):
        return dt.datetime.max.replace(tzinfo=dt.UTC)


def prefixed(prefix: str) -> str:
    """A new public id such as `ten_01jd…`: Crockford base 32 of a UUIDv7, so it sorts by time."""
    number = uuid.UUID(uuid7()).int
    digits = "".join(_BASE32[number >> shift & 31] for shift in range(125, -1, -5))
    return f"{prefix}_{digits}"
