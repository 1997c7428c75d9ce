"""What fresh answers saved: counted right, and within bounds whatever is asked."""

from __future__ import annotations

from typing import Any

import pytest

from cache import savings as module
from cache.entry import Origin
from cache.savings import OTHERS, Saved, Savings
from tests.cache.entries import entry


def record(operation: str = "finance.quote", tenant: int = 7) -> Any:
    class Called:
        tenant_id = tenant
        route = "fast"

    Called.operation = operation  # type: ignore[attr-defined]
    return Called


def test_each_hit_counts_for_its_tenant_and_its_answer() -> None:
    savings, kept = Savings(), entry(origin=Origin(cost=130, took_ms=900))
    for tenant in (7, 7, 8):
        savings.add(b"k" * 32, record(tenant=tenant), 3, kept)
    savings.add(b"l" * 32, record("chat.completions"), 5, entry(origin=Origin()))
    assert savings.saved() == {
        ("finance.quote", 7): Saved(2, 260, 1800, 4),
        ("finance.quote", 8): Saved(1, 130, 900, 2),
        ("chat.completions", 7): Saved(1, 0, 0, 2),
    }
    first, second = savings.most_asked(10)
    assert (first.key, first.hits, first.fields, first.route) == (b"k" * 32, 3, 3, "fast")
    assert (second.operation, second.hits) == ("chat.completions", 1)
    assert savings.most_asked(1) == [first]


def test_tenants_without_end_take_no_more_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PAIRS", 10)
    savings, kept = Savings(), entry(origin=Origin(cost=1))
    for tenant in range(1, 101):
        savings.add(b"k", record(tenant=tenant), 1, kept)
    saved = savings.saved()
    assert len(saved) == 11 and saved["finance.quote", OTHERS].hits == 90
    assert sum(each.cost for each in saved.values()) == 100


def test_what_is_asked_for_most_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ASKED", 20)
    savings, kept = Savings(), entry()
    for number in range(1000):
        savings.add(b"hot", record(), 1, kept)
        savings.add(b"%d" % number, record(), 1, kept)
        assert len(savings._asked) <= 20
    top, *rest = savings.most_asked(100)
    assert (top.key, top.hits) == (b"hot", 1000)
    assert all(asked.hits == 1 for asked in rest)
