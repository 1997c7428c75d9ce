"""What calls have used by the ledger, for counters that lost sight of them."""

from __future__ import annotations

import pytest
from django.core.management import call_command

from tests.factories import AttemptFactory, UsageRecordFactory
from usage.counters.claims import Amounts
from usage.truth import _used

pytestmark = pytest.mark.django_db


def test_a_call_of_one_attempt_has_used_the_same_of_its_provider() -> None:
    row = UsageRecordFactory(units=3, bytes=70)
    assert _used([row.request_id, "another"]) == {
        row.request_id: {
            "": Amounts(1, 30, row.charge, 3, 70),
            "lab": Amounts(1, 30, row.cost, 3),
        }
    }


def test_what_was_answered_by_nobody_has_used_no_provider() -> None:
    row = UsageRecordFactory(attempts=0, provider="", cost=0, charge=0)
    assert [*_used([row.request_id])[row.request_id]] == [""]


def test_each_attempt_counts_for_its_provider_and_skipped_ones_for_none() -> None:
    row = UsageRecordFactory(attempts=4, provider="lab2")
    tries = [
        ("lab", "timeout", 5),
        ("lab", "error", 7),
        ("lab2", "ok", 30),
        ("lab3", "skipped_open", 0),
    ]
    for number, (provider, verdict, tokens) in enumerate(tries, start=1):
        AttemptFactory(
            request_id=row.request_id,
            number=number,
            provider=provider,
            verdict=verdict,
            tokens=tokens,
            cost=tokens * 10,
        )
    assert _used([row.request_id])[row.request_id] == {
        "": Amounts(1, 30, row.charge),
        "lab": Amounts(2, 12, 120),
        "lab2": Amounts(1, 30, 300),
    }


def test_where_all_was_skipped_no_provider_was_asked() -> None:
    row = UsageRecordFactory(provider="lab")
    AttemptFactory(request_id=row.request_id, verdict="skipped_open")
    assert [*_used([row.request_id])[row.request_id]] == [""]


def test_the_command_tells_that_sqlite_has_no_months(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("partitions")
    assert capsys.readouterr().out == "0 made\n"
