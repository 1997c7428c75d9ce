"""Claims: how periodic jobs run once, however many workers there are."""

from __future__ import annotations

import datetime as dt

from django.db import models
from django.db.models import ExpressionWrapper, F
from django.db.models.expressions import Combinable
from django.db.models.functions import Now


def _in(span: dt.timedelta) -> Combinable:
    """A moment from now, by the database's clock: workers' clocks may differ."""
    return ExpressionWrapper(Now() + span, output_field=models.DateTimeField())


class ClaimQuerySet(models.QuerySet["Claim"]):
    def take(self, job: str, holder: str, lease: dt.timedelta) -> bool:
        """Whether `holder` may run `job` now. One statement, so one of many wins; a holder
        that dies loses the claim when its lease ends."""
        if self.filter(job=job, held_until__gt=Now()).exists():
            return False  # the usual case, and it takes no lock
        self.get_or_create(job=job, defaults={"held_until": dt.datetime.fromtimestamp(0, dt.UTC)})
        due = self.filter(job=job, held_until__lte=Now())
        return due.update(holder=holder, held_until=_in(lease)) == 1

    def finish(self, job: str, holder: str, pause: dt.timedelta) -> bool:
        """Nobody runs `job` again for `pause`. False when the claim was lost meanwhile."""
        mine = self.filter(job=job, holder=holder, held_until__gt=Now())
        return mine.update(held_until=_in(pause), runs=F("runs") + 1) == 1


class Claim(models.Model):
    """One periodic job. Until `held_until` it runs, or rests, and nobody may start it."""

    job = models.CharField(max_length=64, primary_key=True)
    holder = models.CharField(max_length=80, blank=True)
    held_until = models.DateTimeField()
    runs = models.BigIntegerField(default=0)

    objects = ClaimQuerySet.as_manager()

    def __str__(self) -> str:
        return self.job
