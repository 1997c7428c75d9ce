"""Periodic jobs: each runs when it is due, on one worker, and goes on when a worker dies."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError
from django.utils import timezone

from accounts.models import RefreshFamily, User
from config.jobs import JOBS, Job, Worker, expire_refresh_families
from config.models import Claim

pytestmark = pytest.mark.django_db
HOUR, NOTHING = dt.timedelta(hours=1), dt.timedelta(0)


def lapse(job: str) -> None:
    """As if its lease or its rest were over."""
    Claim.objects.filter(job=job).update(held_until=timezone.now() - HOUR)


def test_one_of_many_takes_a_job() -> None:
    takers = [f"worker-{number}" for number in range(5)]
    assert [Claim.objects.take("job", taker, HOUR) for taker in takers].count(True) == 1


def test_a_finished_job_rests_and_is_due_again() -> None:
    assert Claim.objects.take("job", "a", HOUR)
    assert Claim.objects.finish("job", "a", HOUR)
    assert not Claim.objects.take("job", "b", HOUR)
    lapse("job")
    assert Claim.objects.take("job", "b", HOUR)


def test_a_dead_workers_job_is_taken_over_and_stays_taken() -> None:
    assert Claim.objects.take("job", "dead", HOUR)
    lapse("job")
    assert Claim.objects.take("job", "heir", HOUR)
    assert not Claim.objects.finish("job", "dead", NOTHING), "it came back too late"
    assert not Claim.objects.take("job", "third", HOUR)


def test_two_workers_run_a_job_once() -> None:
    ran: list[int] = []
    job = Job("count", lambda: len(ran.append(1) or ran), every=HOUR)
    first, second = Worker([job]), Worker([job])
    second.holder = "another"
    for worker in (first, second, first, second):
        worker.turn()
    assert ran == [1]
    assert Claim.objects.get(job="count").runs == 1


def test_a_job_that_fails_is_tried_again_and_stops_no_other() -> None:
    ran: list[str] = []

    def fail() -> int:
        ran.append("bad")
        raise RuntimeError("secret detail")

    good = Job("good", lambda: len(ran.append("good") or ran), every=HOUR)
    worker = Worker([Job("bad", fail, every=HOUR), good])
    worker.turn()
    assert ran == ["bad", "good"]
    lapse("bad")
    worker.turn()
    assert ran == ["bad", "good", "bad"]


def test_a_database_that_is_away_does_not_end_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> bool:
        raise DatabaseError

    with monkeypatch.context() as patched:
        patched.setattr(type(Claim.objects.all()), "take", away)
        patched.setattr("config.jobs.connection.close", lambda: None)
        Worker([Job("job", lambda: 1, every=HOUR)]).turn()
    ran: list[int] = []
    Worker([Job("job", lambda: len(ran.append(1) or ran), every=HOUR)]).turn()
    assert ran


@pytest.mark.django_db(transaction=True)
def test_it_stops_between_jobs_and_touches_its_heartbeat(tmp_path: Path) -> None:
    ran: list[str] = []
    heartbeat = tmp_path / "alive"
    worker = Worker([], tick=0.01, heartbeat=heartbeat)

    def stop() -> int:
        worker.stopping = True
        ran.append("stop")
        return 0

    worker._jobs = [Job("stop", stop, every=HOUR), Job("never", lambda: 1 / 0, every=HOUR)]  # type: ignore[arg-type]
    worker.run()
    assert ran == ["stop"]
    Worker([], heartbeat=heartbeat).turn()
    assert heartbeat.exists()


def test_sign_ins_that_are_over_go_and_others_stay() -> None:
    user = User.objects.create_user("a@b.example")
    for name, span in (("old", -HOUR), ("new", HOUR)):
        RefreshFamily.objects.create(
            id=name, user=user, current_jti="x", expires_at=timezone.now() + span
        )
    assert expire_refresh_families() == 1
    assert RefreshFamily.objects.get().id == "new"


def test_every_job_can_run_on_an_empty_database() -> None:
    assert len({job.name for job in JOBS}) == len(JOBS) >= 3
    assert [job.run() for job in JOBS] == [0] * len(JOBS)
    assert all(job.lease > dt.timedelta(minutes=1) for job in JOBS)
