"""What crashed processes leave open becomes exactly one estimated row, whoever reaps it."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from tests.usage.entries import record
from usage import reaper
from usage.models import OpenCall, UsageRecord
from usage.reaper import reap
from usage.record import RECORD_COLUMNS, Record

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]
HOUR = dt.timedelta(hours=1)


def leave_open(expires_in: dt.timedelta = -HOUR, **values: Any) -> Record:
    row = record(streamed=True, **values)
    OpenCall.objects.create(
        request_id=row.request_id,
        opened_at=row.created_at,
        expires_at=timezone.now() + expires_in,
        record=row.as_document(),
    )
    return row


def test_an_expired_call_becomes_its_estimate_flagged_as_crashed() -> None:
    row = leave_open(charge=123, cost=99, output_tokens=7, route="låt")
    assert reap() == 1
    kept = UsageRecord.objects.get()
    expected = {name: getattr(row, name) for name in RECORD_COLUMNS} | {"estimate": "crashed"}
    assert {name: getattr(kept, name) for name in RECORD_COLUMNS} == expected
    assert not OpenCall.objects.exists()


def test_a_call_that_may_still_run_is_left_alone() -> None:
    leave_open(HOUR)
    assert reap() == 0
    assert OpenCall.objects.count() == 1 and not UsageRecord.objects.exists()


def test_reaping_again_finds_nothing() -> None:
    leave_open()
    assert [reap(), reap()] == [1, 0]
    assert UsageRecord.objects.count() == 1


def test_a_call_that_came_to_its_end_after_all_keeps_its_own_row() -> None:
    row = leave_open(charge=999)
    values = {name: getattr(row, name) for name in RECORD_COLUMNS}
    UsageRecord.objects.create(**values | {"charge": 5})
    assert reap() == 0
    assert UsageRecord.objects.get().charge == 5
    assert not OpenCall.objects.exists()


def test_the_only_gateway_reaps_all_from_before_its_start() -> None:
    before = leave_open(HOUR, created_at=timezone.now() - HOUR)
    leave_open(HOUR, created_at=timezone.now() + HOUR)
    assert reap(opened_before=timezone.now()) == 1
    assert UsageRecord.objects.get().request_id == before.request_id
    assert OpenCall.objects.count() == 1


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        None,
        {"created_at": "yesterday"},
        {"tenant_id": None},
        {"charge": 2**70},
        {"created_at": None},
    ],
    ids=str,
)
def test_a_row_that_cannot_be_written_stays_and_stops_no_other(document: Any) -> None:
    if document:
        document = record().as_document() | document
    OpenCall.objects.create(
        request_id="broken",
        opened_at=timezone.now() - 9 * HOUR,
        expires_at=timezone.now() - HOUR,
        record=document if document is not None else [],
    )
    good = leave_open()
    assert reap() == 1
    assert [row.request_id for row in UsageRecord.objects.all()] == [good.request_id]
    assert [row.request_id for row in OpenCall.objects.all()] == ["broken"]


@pytest.mark.django_db(transaction=True)
def test_two_that_meet_at_the_same_call_bill_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have read the open rows before either writes."""
    for _ in range(20):
        leave_open()
    both_have_read = threading.Barrier(2, timeout=10)
    real = reaper._close
    met = threading.local()

    def close(orphan: OpenCall) -> bool:
        if not hasattr(met, "done"):
            met.done = True
            both_have_read.wait()
        return real(orphan)

    monkeypatch.setattr(reaper, "_close", close)
    closed: list[int] = []

    def run() -> None:
        closed.append(reap())
        connection.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(closed) == 20
    assert UsageRecord.objects.count() == 20 and not OpenCall.objects.exists()


REAP_IN_TWO_THREADS = """
import threading
import django
django.setup()
from django.db import connection
from usage import reaper
barrier, real, met = threading.Barrier(2, timeout=20), reaper._close, threading.local()
def close(orphan):
    if not hasattr(met, "done"):
        met.done = True
        barrier.wait()
    return real(orphan)
reaper._close = close
closed = []
def run():
    closed.append(reaper.reap())
    connection.close()
threads = [threading.Thread(target=run) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sum(closed))
"""


def test_two_on_postgresql_bill_each_call_once(postgres_url: str) -> None:
    rows = [record() for _ in range(50)]
    with psycopg.connect(postgres_url, autocommit=True) as client:
        for row in rows:
            client.execute(
                "INSERT INTO usage_opencall (request_id, opened_at, expires_at, gateway, record)"
                " VALUES (%s, now() - interval '1 hour', now() - interval '1 minute', '', %s)",
                [row.request_id, psycopg.types.json.Jsonb(row.as_document())],
            )
    environment = os.environ | {"DATABASE_URL": postgres_url, "PYTHONPATH": ".:platform"}
    environment["DJANGO_SETTINGS_MODULE"] = "config.settings"
    ran = subprocess.run(
        [sys.executable, "-c", REAP_IN_TWO_THREADS],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.split()[-1] == "50"
    with psycopg.connect(postgres_url) as client:
        kept = client.execute("SELECT request_id, estimate FROM usage_usagerecord").fetchall()
        left = client.execute("SELECT count(*) FROM usage_opencall").fetchone()
    assert sorted(kept) == sorted((row.request_id, "crashed") for row in rows)
    assert left == (0,)
