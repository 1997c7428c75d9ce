"""What this worker knows of each target: how often it answers, how fast, how well, for how much.

Each figure is a mean over the last few dozen calls, older ones counting ever less, so that it
follows a target that changes and fades for one that nobody asks. It costs the same for every
call, whatever came before; targets that were not heard of for longest are forgotten.

These are estimates to choose by, never sums to bill by: floats will do.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from lib.clock import Clock

MAX_TARGETS = 10_000
MEMORY = 20.0  # calls: a mean follows a change within about so many
RECENT = 60.0  # seconds after which half is forgotten of how a target fares
LASTING = 3600.0  # the same of what it costs and how good its answers are
PERSON = 5.0  # what a person says of an answer counts for as many that only we judged
FAILURE = 5.0  # seconds that an answer may take longer than one which never comes
_FAIR = 0.8  # the quality of a target that nobody knows


class Mean:
    """An average that forgets: half of its weight every `half_life` seconds, and all beyond
    the last MEMORY calls."""

    __slots__ = ("_half_life", "_since", "_weight", "value")

    def __init__(self, half_life: float) -> None:
        self.value = 0.0
        self._weight = 0.0
        self._since = 0.0
        self._half_life = half_life

    def add(self, value: float, now: float, weight: float = 1.0) -> None:
        total = weight
        if self._weight:
            known = self._weight * 0.5 ** ((now - self._since) / self._half_life)
            total += known if known < MEMORY else MEMORY
        self.value += (value - self.value) * weight / total
        self._weight, self._since = total, now

    def weight(self, now: float) -> float:
        """How many calls it still stands for."""
        if not self._weight:
            return 0.0
        return float(self._weight * 0.5 ** ((now - self._since) / self._half_life))

    def towards(self, prior: float, now: float) -> float:
        """The average with one call's worth of `prior`: what is known little of tends to it."""
        weight = self.weight(now)
        return (self.value * weight + prior) / (weight + 1)


class Score:
    """One target's. `now` is the clock's monotonic time throughout."""

    __slots__ = ("cost", "first", "quality", "success", "whole")

    def __init__(self) -> None:
        self.success = Mean(RECENT)
        self.first = Mean(RECENT)  # seconds to a stream's first event
        self.whole = Mean(RECENT)  # seconds to the end of an answer that is no stream
        self.cost = Mean(LASTING)  # µUSD a call
        self.quality = Mean(LASTING)

    def beta(self, now: float) -> tuple[float, float]:
        """What is known of its reliability, as a Beta distribution's two parameters."""
        weight, rate = self.success.weight(now), self.success.value
        return 1 + weight * rate, 1 + weight * (1 - rate)

    def reliability(self, now: float) -> float:
        """How likely it answers, 0…1; 1 for one that nobody knows."""
        return self.success.towards(1.0, now)

    def latency(self, now: float, *, stream: bool) -> float:
        """Seconds to a stream's first event, or to the end of a whole answer. Of one that
        nobody knows, or that was not asked for long, it tends to 0: it is due to be tried."""
        return (self.first if stream else self.whole).towards(0.0, now)

    def seconds(self, now: float, *, stream: bool) -> float:
        """The latency, with what its failures cost those who ask it."""
        lost = (1 - self.reliability(now)) * FAILURE
        return self.latency(now, stream=stream) + lost

    def goodness(self, now: float) -> float:
        """How likely it answers, and well, 0…1."""
        return self.quality.towards(_FAIR, now) * self.reliability(now)

    def as_document(self, now: float) -> dict[str, Any]:
        """For people; None where nothing is known."""

        def told(mean: Mean, digits: int) -> float | None:
            return round(mean.value, digits) if mean.weight(now) else None

        return {
            "success_rate": told(self.success, 4),
            "first_byte_seconds": told(self.first, 4),
            "seconds": told(self.whole, 4),
            "cost_microusd": told(self.cost, 1),
            "quality": told(self.quality, 4),
            "calls": round(self.success.weight(now), 1),
        }


_UNKNOWN = Score()


class Scores:
    """By a target's name; in test mode by the tenant's, whose failures are scripted."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._scores: OrderedDict[str, Score] = OrderedDict()

    def now(self) -> float:
        return self._clock.monotonic()

    def of(self, name: str) -> Score:
        """Only to be read: all that nobody knows share one."""
        return self._scores.get(name, _UNKNOWN)

    def answered(
        self,
        name: str,
        *,
        whole: float | None = None,
        first: float | None = None,
        cost: int | None = None,
        quality: float | None = None,
    ) -> None:
        """A whole answer came within `whole` seconds, or the first event of a stream that came
        to its end within `first`: how long the rest took may be the client's doing. `cost` is
        µUSD, `quality` is 0…1; None is not known."""
        now, score = self._clock.monotonic(), self._touch(name)
        score.success.add(1.0, now)
        if whole is not None:
            score.whole.add(whole, now)
        if first is not None:
            score.first.add(first, now)
        if cost is not None:
            score.cost.add(cost, now)
        if quality is not None:
            score.quality.add(quality, now)

    def failed(self, name: str, seconds: float) -> None:
        """It did not answer, for which it took `seconds`. Failing fast makes no target fast."""
        now, score = self._clock.monotonic(), self._touch(name)
        score.success.add(0.0, now)
        for mean in (score.first, score.whole):
            if seconds >= mean.value:
                mean.add(seconds, now)

    def rated(self, name: str, rating: float) -> None:
        """A person said how good an answer of it was, 0…1."""
        self._touch(name).quality.add(rating, self._clock.monotonic(), PERSON)

    def as_documents(self) -> dict[str, dict[str, Any]]:
        """Of all there are. Any thread may ask: it reads from a copy made in one step."""
        now = self._clock.monotonic()
        return {name: score.as_document(now) for name, score in list(self._scores.items())}

    def __len__(self) -> int:
        return len(self._scores)

    def _touch(self, name: str) -> Score:
        score = self._scores.get(name)
        if score is not None:
            self._scores.move_to_end(name)
            return score
        while len(self._scores) >= MAX_TARGETS:
            self._scores.popitem(last=False)
        score = self._scores[name] = Score()
        return score
