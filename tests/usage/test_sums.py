"""The sums that counters are rebuilt from: equal to the ledger, row for row, at any moment."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections.abc import Mapping
from typing import Any

import pytest
from django.db import connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.usage.conftest import ALIAS, Store
from tests.usage.entries import attempt, record
from usage import rollups, sums
from usage.ledger import Final
from usage.models import UsageRecord

# A moment near a month's end, of late enough for minutes and hours to be kept.
NOW = dt.datetime.now(dt.UTC).replace(second=30, microsecond=7)
TABLES = [f"usage_{kind}{grain}" for kind in ("usage", "attempt")
          for grain in ("delta", "minute", "hour", "day")]  # fmt: skip


def some_seconds(rng: random.Random, days: int) -> float:
    """Up to so many days, and mostly within two hours after a whole number of them."""
    whole = rng.randrange(days) * 86400
    return rng.choice([whole + rng.uniform(0, 7200), rng.uniform(0, days * 86400)])


def some_call(rng: random.Random, newest: dt.datetime = NOW, *, days: int = 3) -> Final:
    number = rng.randrange(4)  # attempts
    row = record(
        created_at=newest - dt.timedelta(seconds=some_seconds(rng, days)),
        tenant_id=rng.randrange(1, 3),
        project_id=rng.choice([None, 1, 2]),
        key_id=rng.choice([None, 3, 4]),
        user_id=rng.choice([None, 5]),
        mode=rng.choice(["live", "live", "test"]),
        operation=rng.choice(["chat.completions", "finance.quote"]),
        route=rng.choice(["fast", ""]),
        provider=rng.choice(["lab", "b"]),
        model=rng.choice(["m", ""]),
        code=rng.choice(["ok", "ok", "hung_up"]),
        cache=rng.choice(["", "", "hit", "stale", "warm"]),
        estimate=rng.choice(["", "cut"]),
        attempts=number,
        input_tokens=rng.randrange(100),
        output_tokens=rng.randrange(100),
        units=rng.randrange(5),
        bytes=rng.randrange(10_000),
        charge=rng.randrange(10**6),
        cost=rng.randrange(10**6),
        latency_ms=rng.choice([0, 25, 26, 700, 30_000, 30_001]),
    )
    told = number > 1 or (number == 1 and rng.random() < 0.3)
    tries = [
        attempt(
            row.request_id,
            n + 1,
            provider=rng.choice(["lab", "b"]),
            verdict=rng.choice(["ok", "timeout", "empty", "skipped_circuit_open"]),
            tokens=rng.randrange(9),
            units=rng.randrange(3),
            cost=rng.randrange(99),
        )
        for n in range(number if told else 0)
    ]
    return Final(row, tries)


def write(store: Store, finals: list[Final]) -> None:
    async def written() -> None:
        journal = store.journal()
        await journal.write(finals)
        await journal.close()

    asyncio.run(written())


def clear() -> None:
    with connections[ALIAS].cursor() as cursor:
        for table in (*TABLES, "usage_usagerecord", "usage_attempt", "usage_opencall"):
            cursor.execute(f"DELETE FROM {table}")


def brute(
    finals: list[Final],
    scope: str,
    metric: str,
    *,
    subject: Mapping[str, Any],
    since: float,
    weights: Mapping[str, int],
    operations: list[str] | None,
    mode: str,
) -> int:
    """The same sum in plain words, over every call."""
    total = 0
    for final in finals:
        row = final.record
        if row.created_at.timestamp() < since or row.mode != mode:
            continue
        if operations is not None and row.operation not in operations:
            continue
        weight = weights.get(row.operation, 1)
        if scope == "provider":
            tries = [
                (a.provider, a.tokens, a.cost, a.units)
                for a in final.attempts
                if not a.verdict.startswith("skipped_")
            ]
            if not final.attempts and row.attempts:
                tokens = row.input_tokens + row.output_tokens
                tries = [(row.provider, tokens, row.cost, row.units)]
            for provider, tokens, cost, units in tries:
                if provider == subject["provider"]:
                    amounts = {"requests": weight, "tokens": tokens, "cost": cost,
                               "credits": units * weight, "bytes": 0}  # fmt: skip
                    total += amounts[metric]
        elif all(getattr(row, name) == value for name, value in subject.items()):
            total += {
                "requests": weight,
                "tokens": row.input_tokens + row.output_tokens,
                "cost": row.charge,
                "credits": row.units * weight,
                "bytes": row.bytes,
            }[metric]
    return total


SUBJECTS: list[tuple[str, dict[str, Any]]] = [
    ("global", {}),
    ("tenant", {"tenant_id": 1}),
    ("project", {"tenant_id": 1, "project_id": 2}),
    ("project", {"tenant_id": 1, "project_id": None}),
    ("key", {"tenant_id": 2, "key_id": 3}),
    ("user", {"tenant_id": 1, "user_id": 5}),
    ("route", {"tenant_id": 1, "route": "fast"}),
    ("provider", {"provider": "lab"}),
]


def window_start(rng: random.Random) -> float:
    """The start of some minute, hour or day in a zone some quarters of an hour from UTC."""
    offset = rng.randrange(-48, 57) * 900
    moment = int(NOW.timestamp() + 100 - some_seconds(rng, 4))
    grain = rng.choice([60, 60, 900, 3600, 86400])
    return rng.choice([0, (moment + offset) // grain * grain - offset])


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32))
def test_equal_to_the_ledger_after_any_calls_and_folds(store: Store, seed: int) -> None:
    rng = random.Random(seed)
    clear()
    finals: list[Final] = []
    for _ in range(rng.randrange(1, 5)):
        new = [some_call(rng) for _ in range(rng.randrange(1, 40))]
        again = rng.sample(finals, min(len(finals), 3))
        write(store, [*new, *again, *new[:2]])  # a call's second row is silently its first
        finals += new
        if rng.random() < 0.6:
            rollups.fold(using=ALIAS)
        if rng.random() < 0.15:
            rollups.rebuild(using=ALIAS)
    weights = {"chat.completions": 3}
    all_asked, all_found = [], []
    for scope, subject in SUBJECTS:
        for metric in sums.CALL_METRICS:
            since = window_start(rng)
            operations = rng.choice([None, ["finance.quote"], []])
            mode = "live" if scope == "provider" else rng.choice(["live", "test"])
            asked: dict[str, Any] = {
                "subject": subject,
                "since": since,
                "weights": weights,
                "operations": operations,
                "mode": mode,
            }
            found = sums.used(scope=scope, metric=metric, using=ALIAS, **asked)
            assert found == brute(finals, scope, metric, **asked), (scope, metric, asked)
            all_asked.append({"scope": scope, "metric": metric, **asked})
            all_found.append(found)
    assert sums.used_each(all_asked * 2, using=ALIAS) == all_found * 2  # and several at once


def test_which_of_the_calls_it_holds_already(store: Store) -> None:
    rng = random.Random(1)
    finals = [some_call(rng) for _ in range(5)]
    write(store, finals)
    ids = [final.record.request_id for final in finals]
    total, final_ones = sums.used_and_final(
        scope="global", subject={}, metric="requests", since=0, among=[*ids[:3], "other"],
        using=ALIAS,
    )  # fmt: skip
    assert total == sum(final.record.mode == "live" for final in finals)
    assert final_ones == set(ids[:3])


def test_a_column_that_no_sum_is_by_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="verdict"):
        sums.used(scope="tenant", subject={"verdict": "ok"}, metric="cost", since=0, using=ALIAS)


def test_before_the_smaller_sums_were_kept_it_is_rather_too_much(store: Store) -> None:
    """From the start of the hour or day where no minute or hour is kept any more."""
    begun = (NOW - dt.timedelta(days=80)).replace(hour=10, minute=45, second=0, microsecond=0)
    rows = [
        record(created_at=begun + dt.timedelta(minutes=minutes)) for minutes in (-50, -20, 5, 70)
    ]
    write(store, [Final(row) for row in rows])
    rollups.fold(using=ALIAS)
    assert rollups.prune(using=ALIAS) > 0

    def used(since: dt.datetime) -> int:
        return sums.used(
            scope="tenant",
            subject={"tenant_id": 7},
            metric="requests",
            since=since.timestamp(),
            using=ALIAS,
        )

    assert used(begun) == 3
    assert used(begun - dt.timedelta(days=1)) == 4


def test_the_cost_of_a_sum_does_not_grow_with_the_calls(sqlite_store: Store) -> None:
    """A hundred times the calls in the same minutes make no row more to read."""
    rng = random.Random(2)

    def rows() -> int:
        with connections[ALIAS].cursor() as cursor:
            counts = []
            for table in TABLES[:4]:
                cursor.execute(f"SELECT count(*) FROM {table}")
                counts.append(cursor.fetchone()[0])
        return sum(counts)

    def calls(number: int) -> list[Final]:
        return [
            Final(record(created_at=NOW - dt.timedelta(minutes=rng.randrange(5))))
            for _ in range(number)
        ]

    write(sqlite_store, calls(50))
    rollups.fold(using=ALIAS)
    before = rows()
    write(sqlite_store, calls(5000))
    rollups.fold(using=ALIAS)
    assert rows() == before
    assert UsageRecord.objects.using(ALIAS).count() == 5050
