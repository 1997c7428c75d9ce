"""The cache as Prometheus sees it: gathered now and then, so that a call pays nothing for it."""

from __future__ import annotations

import asyncio
import dataclasses

from prometheus_client import Counter, Gauge

from cache.cache import Cache
from cache.figures import Figures
from cache.semantic import Index, Scores

TELL_SECONDS = 0.5

LOOKUPS = Counter(
    "patchbay_cache_lookups_total",
    "Calls that looked into the cache, by what they found: hit (in memory), shared_hit, waited "
    "(for an equal call), stale (and refreshed behind), stale_on_error, miss.",
    ["found"],
)
STORED = Counter(
    "patchbay_cache_answers_total",
    "Answers of providers, by what became of them: stored, revalidated (a 304), not_kept.",
    ["result"],
)
STORED_BYTES = Counter(
    "patchbay_cache_stored_bytes_total", "Bytes of bodies stored, as they are kept."
)
SAVED_BYTES = Counter("patchbay_cache_saved_bytes_total", "Bytes of them that compression saved.")
EVICTIONS = Counter(
    "patchbay_cache_evictions_total", "Entries that left memory for others to come."
)
INVALIDATIONS = Counter("patchbay_cache_invalidations_total", "Tags invalidated by these workers.")
TORN = Counter("patchbay_cache_torn_total", "Entries of the second level that could not be read.")
BYTES = Gauge("patchbay_cache_bytes", "Bytes in workers' memory.", multiprocess_mode="livesum")
ENTRIES = Gauge("patchbay_cache_entries", "Entries there.", multiprocess_mode="livesum")
SHARING = Gauge(
    "patchbay_cache_sharing",
    "Workers that can use the second level.",
    multiprocess_mode="livesum",
)

SEMANTIC = Counter(
    "patchbay_cache_semantic_lookups_total",
    "Questions compared with earlier ones, by what came of it: hit, miss, failed (no embedding "
    "could be had in time).",
    ["found"],
)
CHECKED = Counter(
    "patchbay_cache_semantic_checked_total",
    "Such hits for which a provider was asked all the same, and whether it said the same.",
    ["agreed"],
)
QUESTIONS = Gauge(
    "patchbay_cache_semantic_questions",
    "Questions that others are compared with, in workers' memory.",
    multiprocess_mode="livesum",
)

_FOUND = {
    "hit": "hits",
    "shared_hit": "shared_hits",
    "waited": "waited",
    "stale": "stale",
    "stale_on_error": "on_error",
    "miss": "misses",
}
_COMPARED = {"hit": "hits", "miss": "misses", "failed": "failed"}
_RESULTS = {"stored": "stored", "revalidated": "revalidated", "not_kept": "not_kept"}
_COUNTS = {
    "stored_bytes": STORED_BYTES,
    "saved_bytes": SAVED_BYTES,
    "invalidations": INVALIDATIONS,
    "torn": TORN,
}


class CacheMetrics:
    """`publish` brings the metrics up to what the cache says."""

    def __init__(self) -> None:
        self._known = Figures()
        self._evicted = 0
        self._scores = Scores()

    def publish(self, cache: Cache) -> None:
        now, known = cache.figures, self._known
        for labels, counter in ((_FOUND, LOOKUPS), (_RESULTS, STORED)):
            for label, name in labels.items():
                counter.labels(label).inc(getattr(now, name) - getattr(known, name))
        for name, counter in _COUNTS.items():
            counter.inc(getattr(now, name) - getattr(known, name))
        EVICTIONS.inc(cache.memory.evicted - self._evicted)
        BYTES.set(cache.memory.size)
        ENTRIES.set(len(cache.memory))
        SHARING.set(cache.shared.usable)
        self._compare(cache.questions)
        self._known, self._evicted = dataclasses.replace(now), cache.memory.evicted

    def _compare(self, questions: Index) -> None:
        now, known = questions.total(), self._scores
        for found, name in _COMPARED.items():
            SEMANTIC.labels(found).inc(getattr(now, name) - getattr(known, name))
        CHECKED.labels("yes").inc(now.agreed - known.agreed)
        CHECKED.labels("no").inc(now.differed - known.differed)
        QUESTIONS.set(len(questions))
        self._scores = now


async def keep_publishing(cache: Cache) -> None:
    """Until it is cancelled."""
    metrics = CacheMetrics()
    while True:
        metrics.publish(cache)
        await asyncio.sleep(TELL_SECONDS)
