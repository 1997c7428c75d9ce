"""What Prometheus is told is what happened."""

from __future__ import annotations

import asyncio

from prometheus_client import REGISTRY

from cache.cache import Cache
from cache.metrics import CacheMetrics
from cache.semantic import Scores
from lib.clock import SystemClock
from tests.cache.serving import SECRET, Provider, ask, serve
from tests.loops import on_loop


def told(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"patchbay_cache_{name}", labels) or 0.0


@on_loop
async def test_counts_are_told_once() -> None:
    cache, metrics = Cache(SECRET, memory_bytes=20_000), CacheMetrics()
    provider = Provider(SystemClock(), lambda: b"a" * 2000)
    provider.takes = 0.001
    before = {found: told("lookups_total", found=found) for found in ("hit", "miss", "waited")}
    others = ("stored_bytes_total", "saved_bytes_total", "invalidations_total", "evictions_total")
    begun = {name: told(name) for name in others}
    await asyncio.gather(*[serve(cache, ask(cache), provider) for _ in range(3)])
    await serve(cache, ask(cache), provider)
    await cache.invalidate(["symbol:X"])
    for _ in range(2):
        metrics.publish(cache)
    for found, count in (("hit", 1), ("miss", 1), ("waited", 2)):
        assert told("lookups_total", found=found) - before[found] == count
    saved = {name: told(name) - begun[name] for name in others}
    assert saved["stored_bytes_total"] + saved["saved_bytes_total"] == 2001
    assert saved["invalidations_total"] == 1 and saved["evictions_total"] == 0
    assert told("entries") == 1 and told("bytes") == cache.memory.size and told("sharing") == 0
    for number in range(40):
        await serve(cache, ask(cache, f"S{number}"), provider)
    metrics.publish(cache)
    assert told("evictions_total") - begun["evictions_total"] == 41 - len(cache.memory) > 0


def test_questions_in_other_words_are_told_as_they_ended() -> None:
    cache, metrics = Cache(SECRET), CacheMetrics()
    names = [("lookups_total", "found", each) for each in ("hit", "miss", "failed")]
    names += [("checked_total", "agreed", each) for each in ("yes", "no")]

    def all_told() -> list[float]:
        return [told(f"semantic_{name}", **{label: each}) for name, label, each in names]

    metrics.publish(cache)
    before = all_told()
    cache.questions.scores["m"] = Scores(5, 4, 3, 2, 1, 4.9)
    cache.questions.scores["n"].hits += 1
    for _ in range(2):
        metrics.publish(cache)
    assert [now - then for now, then in zip(all_told(), before, strict=True)] == [6, 4, 3, 2, 1]
    assert told("semantic_questions") == 0
