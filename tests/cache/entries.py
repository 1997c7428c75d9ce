"""Entries for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from cache.compression import pack
from cache.entry import Entry, Origin
from cache.freshness import Freshness
from providers.call import Usage

ORIGIN = Origin("lab", "gpt-x", "2026-01-01T00:00:00Z", 12, 4, 80, Usage(3, 5))


def entry(body: bytes = b"{}", *, events: Sequence[bytes] = (), **more: Any) -> Entry:
    if events:
        body = b"".join(events)
    facts: dict[str, Any] = {
        "packed": pack(body),
        "plain_size": len(body),
        "freshness": Freshness(at=1_800_000_000.0, lifetime=60.0),
        "etag": f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"',
        "origin": ORIGIN,
        "events": tuple(map(len, events)),
    }
    return Entry(**facts | more)
