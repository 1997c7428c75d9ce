"""The gateways that share counters, as the database knows them: who is alive, who is dead.

Moments are the database's own, so that no two machines' clocks are compared.
"""

from __future__ import annotations

import datetime as dt

from django.db.models.functions import Now

from usage.models import Process
from usage.reaper import reap

DEAD = dt.timedelta(seconds=10)  # not seen for longer: it is buried


def beat(name: str) -> None:
    """This gateway lives (blocking)."""
    if not Process.objects.filter(name=name).update(seen_at=Now()):
        Process.objects.create(name=name, seen_at=Now())


def leave(name: str) -> None:
    """This gateway ends, with nothing left to settle (blocking)."""
    Process.objects.filter(name=name).delete()


def known() -> list[str]:
    """Who may have something to settle, alive or not: all that neither left nor were forgotten
    (blocking)."""
    return list(Process.objects.values_list("name", flat=True))


def bury(name: str) -> bool:
    """Whether a gateway is dead for certain. Then its open calls get their rows (blocking)."""
    if Process.objects.filter(name=name, seen_at__gt=Now() - DEAD).exists():
        return False
    while reap(gateway=name):
        pass  # ten thousand at a time
    return True


def forget(name: str) -> None:
    """Nothing of a dead gateway is left to settle (blocking)."""
    Process.objects.filter(name=name, seen_at__lte=Now() - DEAD).delete()
