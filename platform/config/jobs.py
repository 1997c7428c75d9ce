"""The periodic jobs, and the loop that runs them (`manage.py worker`)."""

from __future__ import annotations

import datetime as dt
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import DatabaseError, close_old_connections, connection
from django.utils import timezone

from accounts.models import RefreshFamily
from config.models import Claim
from lib import audit
from providers.sandbox_sync import sync_sandbox
from providers.verification import verify_due
from usage import partitions, refusals, retention, sizes
from usage.idempotency import expire as expire_idempotency_keys
from usage.reaper import reap
from usage.rollups import fold, prune

log = structlog.get_logger("patchbay.worker")


@dataclass(frozen=True, slots=True)
class Job:
    """`run` returns how many things it did. `lease` is longer than it can possibly take."""

    name: str
    run: Callable[[], int]
    every: dt.timedelta
    lease: dt.timedelta = dt.timedelta(minutes=5)


def expire_refresh_families() -> int:
    """A sign-in whose last token has expired can do nothing any more."""
    return RefreshFamily.objects.filter(expires_at__lt=timezone.now()).delete()[0]


def expire_sessions() -> int:
    return Session.objects.filter(expire_date__lt=timezone.now()).delete()[0]


def expire_ledger_rows() -> int:
    return retention.expire(settings.ENV.LEDGER_KEEP_MONTHS)


def measure_database() -> int:
    return sizes.measure(settings.BASE_DIR)


JOBS = (
    Job("reap-open-calls", reap, every=dt.timedelta(seconds=10)),
    Job("fold-usage", fold, every=dt.timedelta(seconds=5)),
    Job("prune-usage", prune, every=dt.timedelta(hours=1)),
    Job("expire-refresh-families", expire_refresh_families, every=dt.timedelta(hours=1)),
    Job("expire-sessions", expire_sessions, every=dt.timedelta(hours=1)),
    Job("expire-refusals", refusals.expire, every=dt.timedelta(hours=1)),
    Job("expire-idempotency-keys", expire_idempotency_keys, every=dt.timedelta(minutes=15)),
    Job("sync-sandbox", sync_sandbox, every=dt.timedelta(seconds=10)),
    Job("verify-providers", verify_due, every=dt.timedelta(minutes=1)),
    Job("link-audit-log", audit.link, every=dt.timedelta(seconds=10)),
    Job("measure-database", measure_database, every=dt.timedelta(hours=1)),
    Job("partitions", partitions.make, every=dt.timedelta(days=1)),
    Job(
        "expire-ledger-rows",
        expire_ledger_rows,
        every=dt.timedelta(days=1),
        lease=dt.timedelta(hours=1),
    ),
)


class Worker:
    """Runs each job when it is due and nobody else does, until `stopping` is set (a plain
    flag: a signal handler sets it, and must not meet a lock).

    `heartbeat` is touched on every turn: a health check reads its age.
    """

    def __init__(
        self,
        jobs: Sequence[Job] = JOBS,
        *,
        tick: float = 1.0,
        heartbeat: Path | None = None,
    ) -> None:
        self.stopping = False
        self.holder = f"{socket.gethostname()[:60]}-{os.getpid()}"
        self._jobs = jobs
        self._tick = tick
        self._heartbeat = heartbeat

    def run(self) -> None:
        log.info("worker_started", holder=self.holder, jobs=[job.name for job in self._jobs])
        while not self.stopping:
            close_old_connections()
            self.turn()
            self._rest()
        log.info("worker_stopped", holder=self.holder)

    def turn(self) -> None:
        """Every job that is due, once."""
        for job in self._jobs:
            if self.stopping:
                return
            self._run_if_due(job)
        if self._heartbeat:
            self._heartbeat.touch()

    def _run_if_due(self, job: Job) -> None:
        try:
            if Claim.objects.take(job.name, self.holder, job.lease):
                self._run(job)
        except DatabaseError as error:
            # The database may be away for a while; the loop outlives it.
            log.warning("worker_waits", job=job.name, reason=type(error).__name__)
            connection.close()

    def _run(self, job: Job) -> None:
        try:
            done = job.run()
        except DatabaseError:
            raise
        except Exception:
            log.exception("job_failed", job=job.name)
        else:
            say = log.info if done else log.debug
            say("job_done", job=job.name, count=done)
        Claim.objects.finish(job.name, self.holder, job.every)

    def _rest(self) -> None:
        end = time.monotonic() + self._tick
        while not self.stopping and time.monotonic() < end:
            time.sleep(0.05)
