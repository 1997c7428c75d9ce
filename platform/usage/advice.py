"""What the attempts of the last days say for a provider's breaker: numbers, each with why.

Advice, not a rule: a breaker that opens too late costs patience, one that opens too early costs
calls that would have been answered. So all of it keeps well away from what is usual.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import DEFAULT_DB_ALIAS

from providers.call import Outcome, Verdict
from providers.resilience import Resilience
from usage.attempt_sums import attempts_since, busy_hours
from usage.deltas import ATTEMPTS, BOUNDS
from usage.summaries import latencies

DAYS = 7
LEAST = 100  # attempts below which there is too little to say
BUSY = 20.0  # attempts a minute from which on a hundred are soon together
CHANCE = 1e-6  # of a call, that failures as usual open its breaker
DEVIATIONS = 4  # by which a threshold is above what is usual

_FAULTS = {verdict.value for verdict in Verdict if Outcome(verdict).is_provider_fault}
_ANSWERS = {verdict.value for verdict in Verdict if Outcome(verdict).is_answer}


@dataclass(frozen=True, slots=True)
class Observed:
    """A provider's live attempts. `faults` are those that count against its breaker;
    `per_minute` is of the hours in which it was tried at all; `p95` and `p99` are of what it
    answered, in ms, None where nothing was."""

    attempts: int
    faults: int
    per_minute: float
    p95: int | None = None
    p99: int | None = None

    @property
    def enough(self) -> bool:
        return self.attempts >= LEAST

    @property
    def fault_rate(self) -> float:
        """0 to 1."""
        return self.faults / self.attempts


class Advice(NamedTuple):
    """`path` is such as breaker/window."""

    path: str
    value: Any
    reason: str


def observe(days: int = DAYS, *, using: str = DEFAULT_DB_ALIAS) -> dict[str, Observed]:
    """By provider, what its attempts of so many days came to."""
    since = time.time() - days * 86400
    hours = busy_hours(since, using=using)
    by_provider: dict[str, list[dict[str, Any]]] = {}
    for row in attempts_since(since, ("provider", "verdict"), using=using):
        by_provider.setdefault(row["provider"], []).append(row)
    return {name: _observed(rows, hours.get(name, 1)) for name, rows in by_provider.items()}


def advise(observed: Observed, policy: Resilience) -> list[Advice]:
    """What should be other than it is, of a provider with enough attempts."""
    inforce = policy.breaker.target.as_json()
    window = list(_window(observed))
    said = {advice.path: advice.value for advice in window}
    minimum = said.get("breaker/minimum_calls", inforce["minimum_calls"])
    found = [
        *_slow(observed),
        *_threshold(observed, minimum),
        *_in_a_row(observed, inforce["consecutive_failures"]),
        *window,
    ]
    return [each for each in found if inforce[each.path.rpartition("/")[2]] != each.value]


def _observed(rows: list[dict[str, Any]], hours: int) -> Observed:
    answered = [row for row in rows if row["verdict"] in _ANSWERS]
    sums = {name: sum(row[name] for row in answered) for name in ATTEMPTS.sums}
    told = latencies(sums | {"calls": sums["attempts"]})
    attempts = sum(row["attempts"] for row in rows)
    return Observed(
        attempts=attempts,
        faults=sum(row["attempts"] for row in rows if row["verdict"] in _FAULTS),
        per_minute=attempts / (hours * 60),
        p95=told["p95"],
        p99=told["p99"],
    )


def _slow(observed: Observed) -> Iterator[Advice]:
    """Twice what 99 in 100 answers take. Beyond the histogram's last bound nobody knows."""
    p99 = observed.p99
    if p99 is not None and p99 < BOUNDS[-1]:
        seconds = max(1.0, math.ceil(2 * p99 / 500) / 2)
        reason = (
            f"95 % of its answers took at most {observed.p95} ms, 99 % {p99} ms; twice that is slow"
        )
        yield Advice("breaker/slow_call_seconds", seconds, reason)


def _threshold(observed: Observed, minimum_calls: int) -> Iterator[Advice]:
    rate = observed.fault_rate
    spread = math.sqrt(rate * (1 - rate) / minimum_calls)
    above = 100 * (rate + DEVIATIONS * spread)
    percent = float(min(100, max(25, math.ceil(above / 5) * 5)))
    told = f"{observed.faults} of {observed.attempts} attempts failed ({100 * rate:.2g} %)"
    reason = f"{told}; among {minimum_calls} calls chance hardly makes that {percent:g} %"
    yield Advice("breaker/failure_rate_threshold", percent, reason)


def _in_a_row(observed: Observed, present: int) -> Iterator[Advice]:
    """Only ever more than there are: what is rare enough already stays."""
    rate = observed.fault_rate
    if not 0 < rate < 0.95:
        return
    failures = math.ceil(math.log(CHANCE) / math.log(rate))
    if failures > present:
        reason = f"{100 * rate:.2g} % fail as a rule, so {present} in a row come of chance alone"
        yield Advice("breaker/consecutive_failures", failures, reason)


def _window(observed: Observed) -> Iterator[Advice]:
    """Half a minute's calls of a busy provider, the last minutes of a quiet one; none of one
    so quiet that an hour holds too few for a rate."""
    pace = observed.per_minute
    told = f"{pace:.3g} attempts a minute in the hours it is called"
    if pace >= BUSY:
        calls = min(1000, max(100, round(pace / 2)))
        reason = f"it is busy: {told}, so the last {calls} are those of {60 * calls / pace:.0f} s"
        yield Advice("breaker/window", {"type": "count", "calls": calls}, reason)
        yield Advice("breaker/minimum_calls", calls // 2, "half of the window")
        return
    minutes = min(60, math.ceil(20 / pace))
    expected = pace * minutes
    if expected >= 5:
        reason = (
            f"it is quiet: {told}, so about {expected:.0f} in {minutes} min, and none older counts"
        )
        yield Advice("breaker/window", {"type": "time", "seconds": 60 * minutes}, reason)
        yield Advice("breaker/minimum_calls", max(5, int(expected / 2)), "half of those expected")
