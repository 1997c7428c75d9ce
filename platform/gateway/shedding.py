"""Load shedding: what this worker cannot carry is refused at once, so that what it takes on is
answered in time.

What runs short is its event loop's time. A call that waits for its provider costs none, so calls
are no measure of it. The loop's lag is: how long what is due waits for its turn. As in CoDel, a
lag that comes and goes is a burst; one that stays is a queue that does not drain. Only new calls
are refused. Those under way have cost something already.
"""

from __future__ import annotations

import asyncio

import structlog
from prometheus_client import Counter, Gauge

from lib.clock import Clock
from lib.problems import Unavailable

log = structlog.get_logger("patchbay.gateway")

TARGET = 0.1  # seconds of lag that are no trouble, unless said; a call waits about twice as long
INTERVAL = 0.5  # seconds for which the lag must be more, before any call is refused
PERIOD = 0.05  # seconds between two measurements
MOST = 0.95  # some calls are always taken
RETRY_SECONDS = 1

SHED = Counter("patchbay_shed_calls", "Calls refused because the worker was busy.", ["reason"])
LAG = Gauge(
    "patchbay_loop_lag_seconds",
    "How long what is due waits for the event loop, at the slowest worker.",
    multiprocess_mode="livemax",
)
SHARE = Gauge(
    "patchbay_shed_share",
    "Share of new calls that is refused, 0 to 1, at the busiest worker.",
    multiprocess_mode="livemax",
)


class Shedder:
    """Decides by the lag that it is told of: up to `target` seconds it is no trouble (0: however
    much). With more calls in flight than `bound`, `check` must be asked: that is `max_in_flight`,
    and 0 while a share of all calls is refused."""

    __slots__ = (
        "_clock",
        "_high",
        "_max",
        "_owed",
        "_since",
        "bound",
        "busy",
        "share",
        "shed",
        "target",
    )

    def __init__(self, clock: Clock, max_in_flight: int, target: float = TARGET) -> None:
        self.target = target
        self.bound = max_in_flight
        self.busy = False  # the lag has stayed high, and has not stayed low since
        self.share = 0.0
        self.shed = {"busy": 0, "in_flight": 0}
        self._clock = clock
        self._max = max_in_flight
        self._high = False
        self._since = clock.monotonic()  # when the lag became high or low, as it is
        self._owed = 0.0

    def note(self, lag: float) -> None:
        """The lag was measured, in seconds. While busy, the share follows it at once: nothing is
        refused up to the target, nearly all at twice that."""
        now, high = self._clock.monotonic(), 0 < self.target < lag
        if high is not self._high:
            self._high, self._since = high, now
        if now - self._since >= INTERVAL:
            self.busy = high
        self.share = min(MOST, lag / self.target - 1) if high and self.busy else 0.0
        self.bound = 0 if self.share else self._max

    def check(self, in_flight: int) -> None:
        """Refuse this call, or let it in. Of all that come the share is refused, to within one.
        Raises Unavailable (overloaded)."""
        if in_flight > self._max:
            raise self._refusal("in_flight")
        self._owed += self.share
        if self._owed >= 1:
            self._owed -= 1
            raise self._refusal("busy")

    def _refusal(self, reason: str) -> Unavailable:
        self.shed[reason] += 1
        return Unavailable(
            "This gateway is too busy to take on another call. Wait as long as Retry-After says.",
            code="overloaded",
            retry_after=RETRY_SECONDS,
        )


async def keep_measuring(shedder: Shedder, clock: Clock) -> None:
    """Until it is cancelled."""
    known = dict(shedder.shed)
    while True:
        due = clock.monotonic() + PERIOD
        await asyncio.sleep(PERIOD)
        # A timer's lag is that of a part of a turn; once more is a whole one.
        await asyncio.sleep(0)
        lag, was_busy = clock.monotonic() - due, shedder.busy
        shedder.note(lag)
        if shedder.busy is not was_busy:
            log.warning("overloaded" if shedder.busy else "overload_over", shed=shedder.shed)
        LAG.set(max(0.0, lag))
        SHARE.set(shedder.share)
        for reason, count in shedder.shed.items():
            SHED.labels(reason).inc(count - known[reason])
            known[reason] = count
