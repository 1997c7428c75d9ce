"""What a worker's cache has done since it began: plain counts, for metrics and for staff."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Figures:
    """`hits` come from memory, `shared_hits` from the second level; `waited` calls had the answer
    that another one was fetching. `stale` was served while a new one was fetched, `on_error`
    because none could be had. `not_kept` may not be kept, or is too large. `saved_bytes` is by how
    much compression made smaller what was `stored_bytes`. `torn` could not be read."""

    hits: int = 0
    shared_hits: int = 0
    waited: int = 0
    stale: int = 0
    on_error: int = 0
    misses: int = 0
    stored: int = 0
    revalidated: int = 0
    not_kept: int = 0
    stored_bytes: int = 0
    saved_bytes: int = 0
    invalidations: int = 0
    torn: int = 0
