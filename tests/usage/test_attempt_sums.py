"""Attempts as people read them: equal to the ledger's rows, retries and fallbacks told apart."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from tests.factories import AttemptFactory, UsageRecordFactory
from tests.usage.conftest import ALIAS, Store
from tests.usage.entries import attempt, record
from tests.usage.test_sums import NOW, some_call, write
from usage import rollups
from usage.attempt_sums import Again, again_since, attempts_since, busy_hours
from usage.ledger import Final


def tried(final: Final) -> list[Any]:
    """(provider, verdict) of a call's attempts in plain words."""
    row = final.record
    if not final.attempts:
        return [(row.provider, "ok")] if row.attempts else []
    told = [(each.provider, str(each.verdict)) for each in final.attempts]
    return [each for each in told if not each[1].startswith("skipped_")]


@pytest.mark.parametrize("folded", [False, True])
def test_sums_are_those_of_the_rows(store: Store, folded: bool) -> None:
    rng = random.Random(7)
    finals = [some_call(rng) for _ in range(60)]
    write(store, finals)
    if folded:
        rollups.fold(using=ALIAS)
    write(store, more := [some_call(rng) for _ in range(20)])
    since = (NOW.timestamp() - 2 * 86400) // 60 * 60
    expected = Counter(
        one
        for final in (*finals, *more)
        if final.record.mode == "live" and final.record.created_at.timestamp() >= since
        for one in tried(final)
    )
    rows = attempts_since(since, ("provider", "verdict"), using=ALIAS)
    assert {(row["provider"], row["verdict"]): row["attempts"] for row in rows} == expected
    whole = attempts_since(since, using=ALIAS)
    assert sum(row["attempts"] for row in whole) == sum(expected.values())
    hours = busy_hours(since, using=ALIAS)
    assert all(1 <= count <= 49 for count in hours.values()) and bool(hours) is folded


def test_retries_and_fallbacks(store: Store) -> None:
    def call(*tries: tuple[str, str], mode: str = "live") -> Final:
        row = record(created_at=NOW, mode=mode, attempts=len(tries))
        return Final(row, [attempt(row.request_id, n, provider=provider, verdict=verdict, created_at=NOW) for n, (provider, verdict) in enumerate(tries, 1)])  # fmt: skip

    write(
        store,
        [
            call(("a", "ok")),
            call(("a", "timeout"), ("a", "timeout"), ("a", "ok")),
            call(("a", "timeout"), ("b", "timeout"), ("a", "ok")),
            call(("a", "skipped_circuit_open"), ("b", "ok")),
            call(("a", "skipped_circuit_open"), ("b", "skipped_quota"), ("c", "timeout")),
            call(("a", "timeout"), ("c", "ok"), mode="test"),
        ],
    )
    since = NOW.timestamp() - 60
    told = {"a": Again(3, 0), "b": Again(0, 2), "c": Again(0, 1)}
    assert again_since(since, using=ALIAS) == told
    assert again_since(since, mode="test", using=ALIAS) == {"c": Again(0, 1)}
    assert again_since(NOW.timestamp() + 7200, using=ALIAS) == {}


@pytest.mark.django_db
def test_two_models_of_one_provider_are_two_targets() -> None:
    row = UsageRecordFactory(attempts=2)
    for number, model in enumerate(("m", "n"), 1):
        AttemptFactory(request_id=row.request_id, number=number, model=model, verdict="timeout")
    assert again_since(row.created_at.timestamp() - 60) == {"lab": Again(0, 1)}
