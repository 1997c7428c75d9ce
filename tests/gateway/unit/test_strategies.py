"""Orders: always all of the candidates, exact where that is promised, and led by what happens."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.book import PriceBook, PriceVersion
from gateway.scores import Scores
from gateway.strategies import Ask, Turns, estimated, figure, order
from providers.call import Call, Usage
from providers.models import Route
from providers.prices import Prices
from tests.clocks import ManualClock


@dataclass(frozen=True)
class Target:
    provider: str
    model: str = "m"
    weight: int = 1

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


USAGE = Usage(1000, 500, units=1)
NOWHERE: frozenset[str] = frozenset()


def ask(prices: PriceBook | None = None, *, stream: bool = False, at: float = 0.0) -> Ask:
    return Ask("chat.completions", stream, USAGE, prices or PriceBook(), at)


class Stage:
    """Targets that answer as `behave` says (seconds, whether well), and calls that go to whom a
    strategy puts first."""

    def __init__(self, strategy: str, targets: Sequence[Target], seed: int = 1) -> None:
        self.clock = ManualClock()
        self.scores = Scores(self.clock)
        self.random = random.Random(seed)
        self.turns = Turns()
        self.strategy, self.targets = strategy, targets
        self.prices = PriceBook()
        self.down: frozenset[str] = NOWHERE

    def order(self) -> list[Target]:
        return order(
            self.strategy,
            self.targets,
            self.scores,
            ask(self.prices),
            self.random,
            turns=self.turns,
            resting=lambda each: each.name in self.down,
        )

    def run(
        self, calls: int, behave: Callable[[str], tuple[float, bool]], pause: float = 0.1
    ) -> list[str]:
        """Who was asked first."""
        asked = []
        for _ in range(calls):
            first = self.order()[0]
            seconds, well = behave(first.provider)
            self.clock.advance(pause)
            if well:
                self.scores.answered(first.name, whole=seconds, quality=1.0)
            else:
                self.scores.failed(first.name, seconds)
            asked.append(first.provider)
        return asked


def taking(**seconds: float) -> Callable[[str], tuple[float, bool]]:
    return lambda slug: (seconds[slug], True)


def targets(*slugs: str) -> list[Target]:
    return [Target(slug) for slug in slugs]


names = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True)
told = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.floats(0, 30), st.booleans(), st.floats(0, 1)),
    max_size=40,
)


@given(
    strategy=st.sampled_from([*Route.Strategy.values, "unheard of"]),
    slugs=names,
    weights=st.lists(st.integers(1, 1000), min_size=8, max_size=8),
    history=told,
    down=st.frozensets(st.sampled_from("abcdefgh")),
    priced=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 10**9)),
    seed=st.integers(0, 2**32),
)
def test_an_order_is_always_a_permutation_with_the_resting_last(
    *,
    strategy: str,
    slugs: list[str],
    weights: list[int],
    history: list[tuple[str, float, bool, float]],
    down: frozenset[str],
    priced: dict[str, int],
    seed: int,
) -> None:
    candidates = [Target(slug, weight=weights[place]) for place, slug in enumerate(slugs)]
    stage = Stage(strategy, candidates, seed)
    stage.down = frozenset(f"{slug}/m" for slug in down)
    stage.prices = book({slug: Prices(price, price) for slug, price in priced.items()})
    for slug, seconds, well, quality in history:
        stage.clock.advance(seconds)
        if well:
            stage.scores.answered(f"{slug}/m", whole=seconds, quality=quality)
        else:
            stage.scores.failed(f"{slug}/m", seconds)
    for _ in range(3):
        ordered = stage.order()
        assert sorted(ordered, key=lambda t: t.name) == sorted(candidates, key=lambda t: t.name)
        rests = [each.name in stage.down for each in ordered]
        assert rests == sorted(rests)
    for each in candidates:
        shown = figure(strategy, each, stage.scores, ask(stage.prices))
        assert shown is None or 0 <= shown < 10**12


def book(prices: dict[str, Prices], since: float = 0.0) -> PriceBook:
    return PriceBook(
        ((slug, "m", ""), PriceVersion(number, each, since))
        for number, (slug, each) in enumerate(prices.items(), 1)
    )


def test_priority_and_what_is_unknown_keep_the_order_given() -> None:
    for strategy in ("priority", "unheard of"):
        stage = Stage(strategy, targets("a", "b", "c"))
        stage.scores.failed("a/m", 30.0)
        assert [each.provider for each in stage.order()] == ["a", "b", "c"]


@given(weights=st.lists(st.integers(1, 20), min_size=1, max_size=6), start=st.integers(0, 50))
def test_weights_are_exact_over_any_window(weights: list[int], start: int) -> None:
    """In as many calls as the weights sum up to, wherever one begins to count."""
    candidates = [Target(str(place), weight=weight) for place, weight in enumerate(weights)]
    stage = Stage("weighted", candidates)
    firsts = [stage.order()[0].provider for _ in range(start + sum(weights))]
    shares = Counter(firsts[start:])
    assert [shares[each.provider] for each in candidates] == weights


def test_weights_are_spread_as_nginx_does() -> None:
    stage = Stage("weighted", [Target("a", weight=5), Target("b"), Target("c")])
    assert "".join(stage.order()[0].provider for _ in range(7)) == "aabacaa"


def test_who_rests_loses_its_share_and_gets_it_back() -> None:
    stage = Stage("weighted", [Target("a", weight=2), Target("b"), Target("c")])
    stage.down = frozenset({"a/m"})
    assert Counter(stage.order()[0].provider for _ in range(40)) == {"b": 20, "c": 20}
    assert stage.order()[-1].provider == "a"
    stage.down = NOWHERE
    assert Counter(stage.order()[0].provider for _ in range(40))["a"] == 20


def test_latency_finds_the_faster_and_leaves_it_when_it_slows() -> None:
    stage = Stage("latency", targets("a", "b"))
    stage.run(20, taking(a=0.5, b=0.05))
    assert set(stage.run(30, taking(a=0.5, b=0.05))) == {"b"}
    after = stage.run(60, taking(a=0.5, b=2.0))
    assert "a" in after[:20], "within its memory"
    assert set(after[25:]) == {"a"}
    stage.clock.advance(1800)
    assert "b" in stage.run(5, taking(a=0.5, b=0.05)), "what was long ago is forgotten"
    assert set(stage.run(40, taking(a=0.5, b=0.05))[10:]) == {"b"}


def test_latency_of_many_avoids_the_slowest_and_no_herd_forms() -> None:
    stage = Stage("latency", targets(*"abcd"))
    asked = Counter(stage.run(800, taking(a=0.1, b=0.11, c=0.12, d=3.0))[100:])
    assert asked["d"] < 0.05 * 700
    assert min(asked["a"], asked["b"]) > 100, "power of two choices: not all to the fastest"


def test_a_target_that_fails_fast_is_not_preferred_for_its_speed() -> None:
    stage = Stage("latency", targets("broken", "lab"))
    behave = {"broken": (0.001, False), "lab": (0.3, True)}
    assert Counter(stage.run(200, behave.__getitem__))["lab"] > 150


def test_streams_go_by_their_first_event() -> None:
    stage = Stage("latency", targets("a", "b"))
    for _ in range(10):
        stage.scores.answered("a/m", first=0.1)
        stage.scores.answered("a/m", whole=9.0)
        stage.scores.answered("b/m", first=0.9)
        stage.scores.answered("b/m", whole=1.0)
    for stream, best in ((True, "a"), (False, "b")):
        ordered = order(
            "latency",
            stage.targets,
            stage.scores,
            ask(stream=stream),
            stage.random,
            turns=stage.turns,
            resting=lambda each: False,
        )
        assert ordered[0].provider == best


def test_cost_is_by_the_live_price_table_and_unknown_prices_come_last() -> None:
    stage = Stage("cost", targets("unknown", "dear", "cheap", "free"))
    prices = {"dear": Prices(9_000_000, 9_000_000), "cheap": Prices(10, 10), "free": Prices(0, 0)}
    stage.prices = book(prices)
    assert [each.provider for each in stage.order()] == ["free", "cheap", "dear", "unknown"]
    stage.prices = book({**prices, "dear": Prices(1, 1), "free": Prices(99, 99)})
    assert [each.provider for each in stage.order()] == ["dear", "cheap", "free", "unknown"]


def test_cost_follows_a_price_that_was_announced_for_later() -> None:
    million = 1_000_000
    versions = [
        (("a", "m", ""), PriceVersion(1, Prices(million, million))),
        (("b", "m", ""), PriceVersion(2, Prices(5 * million, 5 * million))),
        (("a", "m", ""), PriceVersion(3, Prices(9 * million, 9 * million), since=100.0)),
    ]
    prices = PriceBook(versions)
    for at, best in ((99.0, "a"), (100.0, "b")):
        first = min(targets("a", "b"), key=ask(prices, at=at).cost)
        assert first.provider == best


def test_cost_is_of_this_calls_usage() -> None:
    """One is cheap to read, the other to write."""
    prices = book({"reads": Prices(1_000_000, 9_000_000), "writes": Prices(3_000_000, 3_000_000)})
    for usage, best in ((Usage(10_000, 10), "reads"), (Usage(10, 10_000), "writes")):
        each = Ask("chat.completions", False, usage, prices, 0.0)
        assert min(targets("reads", "writes"), key=each.cost).provider == best


def test_a_calls_usage_is_estimated() -> None:
    chat = Call("chat.completions", {"messages": [{"role": "user", "content": "x" * 300}]})
    usage = estimated(chat)
    assert 100 <= usage.input_tokens < 120
    assert usage.output_tokens == 500
    chat.params["max_tokens"] = 7
    assert estimated(chat).output_tokens == 7
    assert estimated(Call("embeddings", {"input": "x" * 300})).input_tokens == 100
    assert estimated(Call("finance.quote", {"symbol": "X"})) == Usage(units=1)


def test_quality_comes_from_answers_and_from_people() -> None:
    stage = Stage("quality", targets("a", "b"))
    for _ in range(10):
        stage.scores.answered("a/m", whole=0.1, quality=0.7)
        stage.scores.answered("b/m", whole=0.1, quality=1.0)
    assert stage.order()[0].provider == "b"
    for _ in range(4):
        stage.scores.rated("b/m", 0.0)
    assert stage.order()[0].provider == "a"


def brownout(chance: random.Random, slug: str) -> tuple[float, bool]:
    """Of three, one is down half of the time, and one is slow."""
    return {"a": (0.2, chance.random() > 0.5), "b": (1.0, True), "c": (0.2, True)}[slug]


def adaptive(seed: int, calls: int = 600) -> list[str]:
    stage = Stage("adaptive", targets("a", "b", "c"), seed)
    return stage.run(calls, partial(brownout, random.Random(99)))


def test_adaptive_is_deterministic_under_a_seed() -> None:
    assert adaptive(7, 200) == adaptive(7, 200)
    assert adaptive(7, 200) != adaptive(8, 200)


@pytest.mark.parametrize("seed", range(5))
def test_adaptive_beats_chance_in_a_brownout_and_still_explores(seed: int) -> None:
    asked = Counter(adaptive(seed))
    assert asked["c"] > 0.75 * 600, "a third is what chance would give"
    assert min(asked["a"], asked["b"]) >= 2


def test_adaptive_comes_back_to_who_recovered() -> None:
    stage = Stage("adaptive", targets("a", "b"), seed=3)
    down: dict[str, tuple[float, bool]] = {"a": (0.1, False), "b": (0.4, True)}
    up = {**down, "a": (0.1, True)}
    assert Counter(stage.run(300, down.__getitem__))["a"] < 60
    recovered = Counter(stage.run(1500, up.__getitem__)[-200:])
    assert recovered["a"] > 150


def test_adaptive_weighs_the_price() -> None:
    stage = Stage("adaptive", targets("dear", "cheap"), seed=5)
    stage.prices = book({"dear": Prices(10**8, 10**8), "cheap": Prices(10**5, 10**5)})
    asked = Counter(stage.run(300, taking(dear=0.2, cheap=0.2)))
    assert asked["cheap"] > 250


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_a_single_target_is_the_order(seed: int) -> None:
    for strategy in Route.Strategy.values:
        stage = Stage(strategy, targets("only"), seed)
        assert stage.order() == targets("only")
        stage.down = frozenset({"only/m"})
        assert stage.order() == targets("only")
