"""The gateways that share counters, as the database knows them: who is alive, who is dead.

Moments are the database's own, so that no two machines' clocks are compared.
"""

from __future__ import annotations

import datetime as dt

from django.db.models.functions import Now

from usage.models import Process
from usage.reaper import reap

ALIVE = dt.timedelta(seconds=5)  # not seen for longer: nobody waits for it any more
DEAD = dt.timedelta(seconds=10)  # not seen for longer: it is buried


def beat(name: str) -> None:
    """This gateway lives (blocking)."""
    if not Process.objects.filter(name=name).update(seen_at=Now()):
        Process.objects.create(name=name, seen_at=Now())


def leave(name: str) -> None:
    """This gateway ends, with nothing left to settle (blocking)."""
    Process.objects.filter(name=name).delete()


def alive() -> list[str]:
    """Who was seen lately (blocking)."""
    return list(Process.objects.filter(seen_at__gt=Now() - ALIVE).values_list("name", flat=True))


def bury(name: str) -> bool:
    """Whether a gateway is dead for certain. Then its open calls get their rows (blocking)."""
    if Process.objects.filter(name=name, seen_at__gt=Now() - DEAD).exists():
        return False
    while reap(gateway=name):
        pass  # ten thousand at a time
    Process.objects.filter(name=name, seen_at__lte=Now() - DEAD).delete()
    return True
