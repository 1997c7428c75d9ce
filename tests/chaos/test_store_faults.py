"""G1 and G4: the counters' store is emptied, stopped, killed, or replaced by a replica that is
behind, in the middle of a race for a hard quota. Never is more let in than it allows; calls are
let in again soon after; and at rest the counters say what the ledger says."""

from __future__ import annotations

import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import pytest

from tenants.quotas import Metric
from tenants.windows import Window
from tests.chaos.racers import CLIENTS, Outcome, Race, Racers, Sampler, racing, sampling
from tests.chaos.reporting import FIGURES
from tests.chaos.standing import Store
from tests.chaos.store_faults import FallibleStore, fallible_store
from tests.patience import eventually
from tests.usage.counters.stage import quota, rate, slots
from usage.counters.claims import Amounts, Claim, QuotaClaim
from usage.counters.shared import EPOCH

pytestmark = pytest.mark.chaos

FAULTS = ("emptied", "stopped", "restarted_empty", "failed_over")
AFTER_SECONDS = 3.0  # for which the race goes on after the last fault, at least
RECOVERY_SECONDS = 5.0
REST_SECONDS = 30.0  # within which what was granted unheard is given back
MANY = 10**9
EACH = Amounts(requests=1, tokens=500, cost=1000)


@dataclass
class Faulted:
    """One fault: which, when the store answered again, when the counters began anew, and the
    seconds from `back` until all processes could say yes or no to a call again."""

    name: str
    hit: float
    back: float
    started: float
    seconds: float = 0.0

    def measure(self, outcomes: Sequence[Outcome], until: float) -> None:
        """Where the next fault came first (`until`), it is taken for as long."""
        since = max(self.back, self.started)
        firsts = [
            min((at for begun, at in each.decided if begun > since), default=until)
            for each in outcomes
        ]
        self.seconds = min(max(firsts), until) - self.back


@dataclass
class Trouble:
    """Races for one quota, the limit of which is raised for each."""

    store: FallibleStore
    racers: Racers
    sampler: Sampler
    chance: random.Random
    stop_seconds: float
    calls: int  # for each fault
    clients: int
    faulted: list[Faulted] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    admitted: int = 0

    def race(self, faults: Sequence[str]) -> None:
        now = time.time()
        used = self.racers.book.total(quota(0, now, window=Window.LIFETIME))
        limit = used + self.calls * (len(faults) + 1)
        tight = quota(limit, now, window=Window.LIFETIME)
        loose = [quota(MANY, now, metric=metric) for metric in (Metric.COST, Metric.TOKENS)]
        claims: list[Claim] = [tight, *loose, rate(MANY, metric="tokens"), slots(MANY)]
        self.sampler.watch(tight)
        self.racers.begin(
            Race(
                claims,
                Amounts(requests=1),
                EACH,
                exact=False,
                seconds=600,
                lasting=(0.0, 0.2),
                pause=0.1,
                seed=self.chance.randrange(10**9),
            ),
            self.clients,
        )
        some = self.chance.randint(-self.calls // 3, self.calls // 3)
        moments = [used + n * self.calls + some for n in range(1, len(faults))]
        moments.append(limit - self.chance.choice([1, 10, 100, self.calls]))  # nearly at the end
        met = [self._meet(*each, tight) for each in zip(faults, moments, strict=True)]
        until = time.time() + AFTER_SECONDS
        eventually(lambda: self.racers.book.total(tight) >= limit and time.time() > until, 60)
        self.racers.stop()
        outcomes = self.racers.outcomes()
        self._check(tight, outcomes)
        for each, following in zip_longest(met, met[1:]):
            each.measure(outcomes, following.hit if following else float("inf"))
        self.faulted += met
        self.comes_to_rest([tight, *loose])

    def _meet(self, fault: str, moment: int, tight: QuotaClaim) -> Faulted:
        """`moment`: when the ledger says that so much was used."""
        if fault == "failed_over":
            self.store.falls_behind()
        eventually(lambda: self.racers.book.total(tight) >= moment, 60)
        hit = time.time()
        getattr(self.store, fault)(self.stop_seconds)
        return Faulted(fault, hit, time.time(), self._epoch_after(fault))

    def _epoch_after(self, fault: str) -> float:
        """When the counters began anew (unix seconds); a store that was stopped goes on."""
        if fault == "stopped":
            return 0.0
        with self.store.client() as client:
            eventually(lambda: client.hget(EPOCH, "ready") == b"1", 30)
            run_id = client.info("server")["run_id"].encode()
            eventually(lambda: client.hget(EPOCH, "run") == run_id, 30)
            return int(client.hget(EPOCH, "started") or 0) / 1_000_000

    def _check(self, tight: QuotaClaim, outcomes: Sequence[Outcome]) -> None:
        seen = self.sampler.end()
        self.samples += seen.count
        assert seen.most <= tight.quota.limit, seen
        assert self.racers.book.total(tight) == tight.quota.limit
        for each in outcomes:
            self.admitted += len(each.admitted)
            self.refused += each.refused
        assert {*self.refused} <= {"quota_exceeded", "store_unavailable"}, self.refused

    def comes_to_rest(self, claims: Sequence[QuotaClaim]) -> None:
        with self.store.client() as client:
            store = Store(client)
            deadline = time.monotonic() + REST_SECONDS
            while (left := store.unsettled()) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert left == {}
            for claim in claims:
                used = client.hget(f"{{patchbay}}:{claim.key}", f"{claim.counter}:used")
                if used is not None:  # else it is filled by the ledger when it is asked for
                    assert int(used) == self.racers.book.total(claim), claim


@pytest.fixture
def seed() -> int:
    return secrets.randbelow(10**6)


@pytest.fixture
def trouble(tmp_path: Path, seed: int, is_long: bool) -> Iterator[Trouble]:
    with ExitStack() as stack:
        store = stack.enter_context(fallible_store(tmp_path))
        racers = stack.enter_context(racing(store.url, tmp_path))
        sampler = stack.enter_context(sampling(store.url))
        seconds, calls, clients = (10.0, 2000, CLIENTS) if is_long else (2.0, 400, 96)
        yield Trouble(store, racers, sampler, random.Random(seed), seconds, calls, clients)


def test_no_quota_is_passed_whatever_happens_to_the_store(
    trouble: Trouble,
    seed: int,
    is_long: bool,
    record_property: Callable[[str, object], None],
) -> None:
    began = time.monotonic()
    for _ in range(5 if is_long else 1):
        trouble.race(trouble.chance.sample(FAULTS, len(FAULTS)))
    slowest = {
        name: f"{max(each.seconds for each in trouble.faulted if each.name == name):.1f}s"
        for name in FAULTS
    }
    told = {
        "admitted": trouble.admitted,
        **dict(sorted(trouble.refused.items())),
        "samples": trouble.samples,
        "faults": len(trouble.faulted),
        "over": 0,
        "recovered_within": slowest,
        "seed": seed,
        "seconds": round(time.monotonic() - began),
    }
    line = "store faults: " + " ".join(f"{name}={value}" for name, value in told.items())
    record_property(FIGURES, line)
    assert all(each.seconds < RECOVERY_SECONDS for each in trouble.faulted), trouble.faulted
