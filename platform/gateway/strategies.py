"""The order in which a plan's targets are tried: one engine, whatever the operation.

A strategy only orders. Who may be tried at all is the plan's to say (gateway/routing.py), and
whoever may is always on the list: those whose breaker is open come last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from billing.book import PriceBook
from gateway.scores import Scores
from providers import amounts
from providers.call import Call, Usage
from providers.openai_wire import input_estimate

EXPLORES: Final = 0.02  # the share of adaptive's calls whose first target is drawn blindly
SWAY: Final = 0.5  # how much speed counts beside reliability, and …
THRIFT: Final = 0.25  # … how much the price does: powers of how many times better another is
TYPICAL_OUTPUT: Final = 500  # tokens of an answer whose caller sets no limit
_BLINK: Final = 0.001  # seconds: what is quicker is as quick


class Ranked(Protocol):
    """What an order goes by of a target. `name` is its score's and its breaker's."""

    @property
    def name(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def weight(self) -> int: ...


class Random(Protocol):
    """What is asked of random.Random."""

    def random(self) -> float: ...
    def betavariate(self, alpha: float, beta: float) -> float: ...


R = TypeVar("R", bound=Ranked)


@dataclass(frozen=True, slots=True)
class Ask:
    """What an order goes by of a call: `usage` is an estimate, `at` is unix seconds."""

    operation: str
    stream: bool
    usage: Usage
    prices: PriceBook
    at: float

    def cost(self, candidate: Ranked) -> float:
        """µUSD by the price now in force; infinite where that is not known."""
        version = self.prices.price(candidate.provider, candidate.model, self.operation, self.at)
        prices = version.prices
        usage = prices.billed(self.usage) if self.operation in amounts.OF else self.usage
        return prices.cost(usage) if prices.covers(usage) else math.inf


class Turns:
    """Smooth weighted round robin, as nginx does it: in as many calls as the weights sum up to
    each target comes first exactly as often as its weight says, and not in a row."""

    __slots__ = ("_current",)

    def __init__(self) -> None:
        self._current: dict[str, int] = {}

    def order(self, candidates: Sequence[R]) -> list[R]:
        current, total = self._current, 0
        for candidate in candidates:
            total += candidate.weight
            current[candidate.name] = current.get(candidate.name, 0) + candidate.weight
        ordered = sorted(candidates, key=lambda each: current[each.name], reverse=True)
        current[ordered[0].name] -= total
        return ordered


def estimated(call: Call) -> Usage:
    """What the call will likely use, whoever serves it."""
    if call.operation == "chat.completions":
        return Usage(input_estimate(call), wanted_output(call) or TYPICAL_OUTPUT, units=1)
    if call.operation == "embeddings":
        return Usage(input_estimate(call), units=1)
    known = amounts.OF.get(call.operation)
    return known(call) if known else Usage(units=1)


def wanted_output(call: Call) -> int:
    """Tokens that the caller asks for at most; 0 where it does not say."""
    asked = (call.params.get("max_completion_tokens"), call.params.get("max_tokens"))
    return max([limit for limit in asked if limit], default=0)


def order(
    strategy: str,
    candidates: Sequence[R],
    scores: Scores,
    ask: Ask,
    random: Random,
    *,
    turns: Turns,
    resting: Callable[[R], bool],
) -> list[R]:
    """All of the candidates, the best first; `turns` are those of exactly these. An unknown
    strategy is priority: the order in which they come."""
    down = [each for each in candidates if resting(each)]
    up = [each for each in candidates if not resting(each)] if down else list(candidates)
    if len(up) < 2:
        return up + down
    if strategy == "weighted":
        up = turns.order(up)
    elif strategy == "latency":
        up = _by_latency(up, scores, ask, random)
    elif strategy == "cost":
        up.sort(key=ask.cost)
    elif strategy == "quality":
        now = scores.now()
        up.sort(key=lambda each: -scores.of(each.name).goodness(now))
    elif strategy == "adaptive":
        up = _adaptively(up, scores, ask, random)
    return up + down


def _by_latency(candidates: Sequence[R], scores: Scores, ask: Ask, random: Random) -> list[R]:
    """Power of two choices: the faster of two drawn comes first, so that not every gateway
    turns to the same one at once. The fastest of the others is next."""
    now = scores.now()

    def seconds(each: R) -> float:
        return scores.of(each.name).seconds(now, stream=ask.stream)

    ordered = sorted(candidates, key=seconds)
    one = int(random.random() * len(ordered))
    two = int(random.random() * (len(ordered) - 1))
    two += two >= one  # any but the first drawn
    ordered.insert(0, ordered.pop(min(one, two)))
    return ordered


def _adaptively(candidates: Sequence[R], scores: Scores, ask: Ask, random: Random) -> list[R]:
    """A bandit: Thompson sampling over whether a target answers, discounted by time (Raj and
    Kalyani, 2017), weighed with how fast and how cheap it is compared with the best."""
    now = scores.now()
    speeds = [_latency(scores, each, ask, now) for each in candidates]
    costs = _known(list(map(ask.cost, candidates)))
    fastest, cheapest = min(speeds), min(costs)
    worth: dict[str, float] = {}
    for each, speed, cost in zip(candidates, speeds, costs, strict=True):
        answers = random.betavariate(*scores.of(each.name).beta(now))
        worth[each.name] = answers * _merit(fastest / speed, (cheapest + 1) / (cost + 1))
    ordered = sorted(candidates, key=lambda each: -worth[each.name])
    if random.random() < EXPLORES:
        ordered.insert(0, ordered.pop(int(random.random() * len(ordered))))
    return ordered


def _latency(scores: Scores, candidate: Ranked, ask: Ask, now: float) -> float:
    return max(scores.of(candidate.name).latency(now, stream=ask.stream), _BLINK)


def _merit(speed: float, thrift: float) -> float:
    """Both as shares of the best's, 0…1."""
    return float(speed**SWAY * thrift**THRIFT)


def _known(costs: list[float]) -> list[float]:
    """An unknown price is taken for the dearest known one."""
    dearest = max((cost for cost in costs if cost < math.inf), default=0.0)
    return [min(cost, dearest) for cost in costs]


def figure(strategy: str, candidate: Ranked, scores: Scores, ask: Ask) -> float | None:
    """What a strategy goes by of a target, for people: seconds (latency), µUSD (cost), 0…1
    (quality; adaptive: how likely it answers), or its weight. None where there is
    nothing to tell."""
    now, score = scores.now(), scores.of(candidate.name)
    if strategy == "weighted":
        return candidate.weight
    if strategy == "latency":
        return round(score.seconds(now, stream=ask.stream), 4)
    if strategy == "cost":
        cost = ask.cost(candidate)
        return cost if cost < math.inf else None
    if strategy == "quality":
        return round(score.goodness(now), 4)
    if strategy == "adaptive":
        return round(score.reliability(now), 4)
    return None
