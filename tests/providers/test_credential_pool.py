"""Which credential may be used: turns among the healthy, rests to the second, drained for good."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from providers import credential_pool
from providers.call import Outcome, Upstream, Verdict
from providers.credential_pool import MOST_REST, OF_THE_CREDENTIAL, REST, CredentialPool
from tests.clocks import ManualClock


class Stage:
    def __init__(self, *names: str) -> None:
        self.clock = ManualClock()
        self.pool = CredentialPool(self.clock)
        self.upstreams = tuple(Upstream("lab", "https://lab.test", credential=n) for n in names)

    def picks(self, times: int = 1) -> list[str | None]:
        picked = [self.pool.pick(self.upstreams) for _ in range(times)]
        return [each and each.credential for each in picked]

    def fails(self, name: str, verdict: Verdict, retry_after: float | None = None) -> bool:
        return self.pool.note(name, Outcome(verdict, 429, retry_after=retry_after))

    @property
    def left(self) -> float:
        return self.pool.seconds_left(self.upstreams)


def test_they_take_turns() -> None:
    stage = Stage("a", "b", "c")
    assert stage.picks(6) == ["a", "b", "c", "a", "b", "c"]


def test_two_targets_that_alternate_use_all_credentials_of_both() -> None:
    stage = Stage("a", "b")
    others = tuple(Upstream("two", "https://two.test", credential=n) for n in ("x", "y"))
    used: Counter[str] = Counter()
    for _ in range(10):
        for upstreams in (stage.upstreams, others):
            picked = stage.pool.pick(upstreams)
            assert picked
            used[picked.credential] += 1
    assert set(used.values()) == {5}


@pytest.mark.parametrize("verdict", [Verdict.RATE_LIMITED, Verdict.QUOTA_EXHAUSTED])
@pytest.mark.parametrize(("told", "rest"), [(None, REST), (7.5, 7.5), (0.0, 0.0), (1e9, MOST_REST)])
def test_a_limited_one_rests_until_then(verdict: Verdict, told: float | None, rest: float) -> None:
    stage = Stage("a", "b")
    assert not stage.fails("a", verdict, told)
    if rest:
        assert set(stage.picks(4)) == {"b"}
        stage.clock.advance(rest - 0.01)
        assert set(stage.picks(4)) == {"b"}
        stage.clock.advance(0.01)
    assert set(stage.picks(4)) == {"a", "b"}


def test_the_longer_rest_counts() -> None:
    stage = Stage("a")
    stage.fails("a", Verdict.RATE_LIMITED, 60)
    stage.fails("a", Verdict.RATE_LIMITED, 1)
    assert stage.left == 60


def test_a_refused_one_is_drained_and_only_once_news() -> None:
    stage = Stage("a", "b")
    assert stage.fails("a", Verdict.AUTH)
    assert not stage.fails("a", Verdict.AUTH)
    stage.clock.advance(10 * MOST_REST)
    assert set(stage.picks(4)) == {"b"}
    stage.fails("b", Verdict.AUTH)
    assert stage.picks() == [None]
    assert stage.left == math.inf


def test_a_limit_takes_no_drained_one_back() -> None:
    stage = Stage("a")
    stage.fails("a", Verdict.AUTH)
    stage.fails("a", Verdict.RATE_LIMITED, 1)
    stage.clock.advance(2)
    assert stage.picks() == [None]


def test_the_snapshot_knows_better_once_it_is_written() -> None:
    stage = Stage("a")
    stage.fails("a", Verdict.AUTH)
    stage.pool.settled()  # one that was read before
    assert stage.picks() == [None]
    stage.pool.written("a")
    assert stage.picks() == [None]
    stage.pool.settled()
    assert stage.picks() == ["a"]
    assert stage.fails("a", Verdict.AUTH)


@pytest.mark.parametrize(
    "verdict", [verdict for verdict in Verdict if verdict not in OF_THE_CREDENTIAL]
)
def test_nothing_else_says_anything_of_a_credential(verdict: Verdict) -> None:
    stage = Stage("a")
    assert not stage.fails("a", verdict, 60)
    assert stage.picks() == ["a"]


def test_what_needs_no_credential_never_rests() -> None:
    stage = Stage("")
    assert not stage.fails("", Verdict.AUTH)
    stage.fails("", Verdict.RATE_LIMITED, 60)
    assert stage.picks() == [""]
    assert stage.left == 0


def test_scripted_refusals_drain_nothing_and_scripted_limits_rest_the_tenants_own() -> None:
    stage = Stage("test:1:lab")
    assert not stage.fails("test:1:lab", Verdict.AUTH)
    assert stage.picks() == ["test:1:lab"]
    stage.fails("test:1:lab", Verdict.RATE_LIMITED, 2)
    assert stage.picks() == [None]


def test_the_time_that_is_left_is_the_soonest() -> None:
    stage = Stage("a", "b")
    stage.fails("a", Verdict.RATE_LIMITED, 60)
    assert stage.left == 0
    stage.fails("b", Verdict.RATE_LIMITED, 20)
    stage.clock.advance(5)
    assert stage.left == 15


def test_none_at_all_is_none_ever() -> None:
    stage = Stage()
    assert stage.picks() == [None]
    assert stage.left == math.inf


def test_what_is_remembered_is_bounded_and_drained_ones_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(credential_pool, "MOST", 10)
    stage = Stage("bad")
    stage.fails("bad", Verdict.AUTH)
    for number in range(100):
        stage.fails(f"c{number}", Verdict.RATE_LIMITED, 60)
    assert len(stage.pool._until) <= 10
    assert stage.picks() == [None]
