"""What the cache answered and saved: calls and hits from the ledger's roll-ups, of all gateways;
what only a gateway knows from the one in this process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from api import caches
from api.v1.usage import MOST_GROUPS, Question, refusal
from api.vitals import WORKER
from cache.cache import Cache
from cache.savings import Asked, Saved
from cache.semantic import Scores
from cache.tags import of_key
from lib.clock import rfc3339
from tenants.models import Tenant
from usage.summaries import TooManyGroups, summarize, total

MOST_ASKED = 50
_NOTHING = Saved()


def analytics(question: Question, tenant_id: int | None = None) -> dict[str, Any]:
    """Raises InvalidRequest where there is more than anybody reads."""
    cache = WORKER.cache()
    saved = _saved(cache, tenant_id)
    of_operations = _summed(saved, lambda pair: pair[0])
    of_tenants = _summed(saved, lambda pair: pair[1])
    operations = _called(question, "operation", tenant_id)
    tenants = _called(question, "tenant_id", tenant_id)
    slugs = _slugs(tenants.keys() | of_tenants.keys())
    return {
        "operations": [
            {"operation": name, **_told(operations.get(name), of_operations.get(name))}
            for name in sorted(operations.keys() | of_operations.keys())
        ],
        "tenants": [
            {"tenant": slugs.get(number), **_told(tenants.get(number), of_tenants.get(number))}
            for number in sorted(tenants.keys() | of_tenants.keys())
        ],
        "totals": _told(total(list(operations.values())), _sum(saved)),
        "most_asked": [] if cache is None else most_asked(cache),
        "semantic": [] if cache is None else semantic(cache),
        "since": None if cache is None else caches.since(),
        "from": rfc3339(question.begin),
        "to": rfc3339(question.end),
    }


def most_asked(cache: Cache) -> list[dict[str, Any]]:
    now = cache.clock.now()
    return [_shape(cache, asked, now) for asked in cache.savings.most_asked(MOST_ASKED)]


def semantic(cache: Cache) -> list[dict[str, Any]]:
    return [_compared(route, each) for route, each in sorted(cache.questions.scores.items())]


def _compared(route: str, scores: Scores) -> dict[str, Any]:
    checked = scores.agreed + scores.differed
    return {
        "route": route,
        "hits": scores.hits,
        "misses": scores.misses,
        "failed": scores.failed,
        "mean_similarity": caches.ratio(scores.similarity, scores.hits),
        "checked": checked,
        "agreed": scores.agreed,
        "agreed_ratio": caches.ratio(scores.agreed, checked),
    }


def _shape(cache: Cache, asked: Asked, now: float) -> dict[str, Any]:
    entry = cache.memory.peek(asked.key)
    return {
        "key": of_key(asked.key).hex(),
        "operation": asked.operation,
        "route": asked.route,
        "fields_asked": asked.fields,
        "hits": asked.hits,
        "age_seconds": None if entry is None else int(entry.freshness.age_at(now)),
        "size_bytes": None if entry is None else entry.size,
    }


def _called(question: Question, by: str, tenant_id: int | None) -> dict[Any, dict[str, Any]]:
    try:
        rows = summarize(
            [question.begin.timestamp(), question.end.timestamp()],
            [by],
            mode=question.mode,
            tenant_id=tenant_id,
            most=MOST_GROUPS,
        )
    except TooManyGroups:
        detail = f"More than {MOST_GROUPS} tenants called. Name one, or ask for a shorter time."
        raise refusal("tenant", detail) from None
    return {row[by]: row for row in rows}


def _saved(cache: Cache | None, tenant_id: int | None) -> Mapping[tuple[str, int], Saved]:
    every = {} if cache is None else cache.savings.saved()
    return {pair: each for pair, each in every.items() if tenant_id in (None, pair[1])}


def _summed(
    saved: Mapping[tuple[str, int], Saved], by: Callable[[tuple[str, int]], Any]
) -> Mapping[Any, Saved]:
    sums: defaultdict[Any, Saved] = defaultdict(Saved)
    for pair, each in saved.items():
        sums[by(pair)].more(each)
    return sums


def _sum(saved: Mapping[Any, Saved]) -> Saved:
    whole = Saved()
    for each in saved.values():
        whole.more(each)
    return whole


def _slugs(ids: set[int]) -> dict[int, str]:
    return dict(Tenant.objects.filter(pk__in=ids).values_list("pk", "slug"))


def _told(row: Mapping[str, int] | None, saved: Saved | None) -> dict[str, Any]:
    calls, hits = (row["calls"], row["hits"]) if row else (0, 0)
    here = saved or _NOTHING
    return {
        "calls": calls,
        "hits": hits,
        "hit_ratio": caches.ratio(hits, calls),
        "saved_here": {
            "hits": here.hits,
            "cost_microusd": here.cost,
            "ms": here.ms,
            "bytes": here.bytes,
        },
    }
