"""When this worker cannot keep up, some new calls are refused: no sooner, no more, no longer."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from gateway import shedding
from gateway.shedding import INTERVAL, MOST, PERIOD, TARGET, Shedder, keep_measuring
from lib.clock import SystemClock
from lib.problems import Unavailable
from tests.clocks import ManualClock
from tests.gateway.unit.rig import CHAT, Rig
from tests.loops import eventually, on_loop

HIGH = 1.5 * TARGET  # at which half of the calls is refused
MANY = 1000


@dataclass
class Stage:
    """A shedder, whose lag is measured as the product does it."""

    clock: ManualClock
    shedder: Shedder

    def lags(self, lag: float, seconds: float = 0.0) -> None:
        until = self.clock.monotonic() + seconds
        while True:
            self.shedder.note(lag)
            if self.clock.monotonic() >= until:
                return
            self.clock.advance(PERIOD + lag)

    def refuses(self, in_flight: int = 1) -> bool:
        """As the gateway asks."""
        if in_flight <= self.shedder.bound:
            return False
        try:
            self.shedder.check(in_flight)
        except Unavailable as problem:
            assert (problem.code, problem.status, problem.retry_after) == ("overloaded", 503, 1)
            return True
        return False

    def refused(self, calls: int = MANY) -> int:
        return sum(self.refuses() for _ in range(calls))


@pytest.fixture
def stage() -> Stage:
    return make()


def make(max_in_flight: int = 100) -> Stage:
    clock = ManualClock()
    return Stage(clock, Shedder(clock, max_in_flight))


LAGS = st.lists(st.floats(0, 10 * TARGET) | st.sampled_from([TARGET, 0.0]), max_size=60)


@given(LAGS)
def test_nothing_is_ever_refused_while_the_lag_is_no_more_than_the_target(
    lags: list[float],
) -> None:
    stage = make()
    for lag in lags:
        stage.lags(lag)
        if lag <= TARGET:
            assert not stage.refused(20)
        stage.clock.advance(PERIOD)


def test_a_burst_that_passes_is_no_overload(stage: Stage) -> None:
    for _ in range(20):
        stage.lags(2 * TARGET, INTERVAL * 0.4)
        assert not stage.refused()
        stage.lags(TARGET)
        stage.clock.advance(PERIOD)


@pytest.mark.parametrize(
    ("lag", "share"), [(1.1, 0.1), (1.5, 0.5), (1.9, 0.9), (2.0, MOST), (50.0, MOST)]
)
def test_the_more_it_lags_the_more_is_refused(stage: Stage, lag: float, share: float) -> None:
    stage.lags(lag * TARGET, INTERVAL)
    assert abs(stage.refused() - share * MANY) <= 1
    assert stage.shedder.busy


def test_refused_calls_are_spread_evenly(stage: Stage) -> None:
    stage.lags(HIGH, INTERVAL)
    pattern = [stage.refuses() for _ in range(100)]
    assert pattern in ([True, False] * 50, [False, True] * 50)


def test_when_the_lag_is_gone_all_are_taken_at_once(stage: Stage) -> None:
    stage.lags(9 * TARGET, 5 * INTERVAL)
    stage.lags(TARGET)
    assert not stage.refused()
    assert stage.shedder.bound == 100  # and nobody asks any more


def test_what_was_overloaded_just_now_needs_no_second_proof(stage: Stage) -> None:
    stage.lags(HIGH, INTERVAL)
    stage.lags(0.0, INTERVAL / 2)
    stage.lags(HIGH)
    assert stage.refused()
    stage.lags(0.0, 2 * INTERVAL)
    assert not stage.shedder.busy
    stage.lags(HIGH)
    assert not stage.refused()


def test_no_more_are_in_flight_than_there_may_be(stage: Stage) -> None:
    assert not stage.refuses(100)
    assert stage.refuses(101)
    stage.lags(HIGH, INTERVAL)
    assert all(stage.refuses(101) for _ in range(10))
    assert stage.shedder.shed == {"busy": 0, "in_flight": 11}


@dataclass
class Worker:
    """A loop that works off one second of work a second, and lags by half of its queue."""

    stage: Stage
    cost: float = 0.001  # seconds a call
    queue: float = 0.0
    came: int = 0
    taken: int = 0
    idle: float = 0.0
    longest: float = 0.0
    measures_at: float = 0.0
    _due: float = 0.0

    def runs(self, load: float, seconds: float) -> Worker:
        """At `load` times its capacity. Says what happened from here on."""
        self.came = self.taken = 0
        self.idle = self.longest = 0.0
        clock, step = self.stage.clock, 0.001
        until = clock.monotonic() + seconds
        while clock.monotonic() < until:
            if clock.monotonic() >= self.measures_at:
                lag = self.queue / 2
                self.stage.shedder.note(lag)
                self.measures_at = clock.monotonic() + PERIOD + lag
            self._due += load * step / self.cost
            while self._due >= 1:
                self._due -= 1
                self.came += 1
                if not self.stage.refuses():
                    self.taken += 1
                    self.queue += self.cost
            self.idle += max(0.0, step - self.queue)
            self.queue = max(0.0, self.queue - step)
            self.longest = max(self.longest, self.queue)
            clock.advance(step)
        return self


@pytest.mark.parametrize("load", [1.2, 2.0, 3.0, 5.0])
@pytest.mark.unmeasured
def test_under_overload_all_of_the_capacity_is_used_and_nobody_waits_long(load: float) -> None:
    worker = Worker(make())
    assert worker.runs(load, 4).longest < 4  # it takes a while to be noticed, and more came
    worker.runs(load, 5)
    assert worker.idle < 0.05  # of 5 s: nothing is refused in vain
    assert worker.longest < 8 * TARGET
    worker.runs(0.9, 5)
    assert worker.came - worker.taken < worker.came / 5  # while the queue drains
    assert worker.runs(0.9, 5).came == worker.taken


def test_without_it_the_queue_grows_for_ever() -> None:
    """That is, the simulation does overload what does not refuse."""
    worker = Worker(make(), measures_at=math.inf)
    assert worker.runs(2.0, 10).longest > 9


# In the gateway


@pytest.mark.parametrize(("path", "openai"), [(CHAT, True), ("/api/v1/models", True)])
@on_loop
async def test_who_is_refused_is_told_so_and_costs_nothing(
    rig: Rig, path: str, openai: bool
) -> None:
    refuse_all(rig)
    before = requests(path)
    client = await rig.ask(path)
    assert client.status == 503
    assert client.headers["retry-after"] == "1"
    assert client.headers["x-request-id"]
    assert client.error["code"] == "overloaded"
    assert ("error" in client.json) is openai
    assert client.received == 0  # its body was not even read
    assert rig.upstreams.sent == [] and rig.journal.entries == []
    assert rig.gateway.observer.in_flight == 0
    rig.gateway.observer.flush()
    assert requests(path) == before + 1


@on_loop
async def test_data_operations_have_it_as_a_problem(rig: Rig) -> None:
    refuse_all(rig)
    client = await rig.ask("/api/v1/weather/current?lat=1&lon=2")
    assert client.headers["content-type"] == "application/problem+json"
    assert (client.json["code"], client.json["title"]) == ("overloaded", "Too busy")


@on_loop
async def test_calls_under_way_are_finished_when_there_are_too_many(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(max_in_flight=2)
    clients = [
        rig.client(b'{"model":"m","messages":[{"role":"user","content":"x"}]}') for _ in "abc"
    ]
    await asyncio.gather(*map(rig.run, clients))
    assert sorted(client.status for client in clients) == [200, 200, 503]
    assert (await rig.chat()).status == 200


def refuse_all(rig: Rig) -> None:
    rig.gateway.shedder.share, rig.gateway.shedder.bound = 1.0, 0


def requests(path: str) -> float:
    operation = "chat.completions" if path == CHAT else "models"
    labels = {"operation": operation, "status": "503"}
    return REGISTRY.get_sample_value("patchbay_requests_total", labels) or 0.0


# Measuring


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    lags: list[float] = []
    real = Shedder.note

    def note(shedder: Shedder, lag: float) -> None:
        lags.append(lag)
        real(shedder, lag)

    monkeypatch.setattr(Shedder, "note", note)
    monkeypatch.setattr(shedding, "PERIOD", 0.001)
    yield lags


@contextlib.asynccontextmanager
async def measuring(shedder: Shedder) -> AsyncIterator[None]:
    task = asyncio.create_task(keep_measuring(shedder, SystemClock()))
    yield
    task.cancel()


@on_loop
async def test_what_holds_the_loop_up_is_seen_and_calls_that_only_wait_are_not(
    measured: list[float],
) -> None:
    async with measuring(Shedder(SystemClock(), 10)):
        waiting = [asyncio.create_task(asyncio.Event().wait()) for _ in range(2000)]
        await eventually(lambda: len(measured) > 20)
        assert sorted(measured)[len(measured) // 2] < TARGET
        time.sleep(0.15)  # noqa: ASYNC251 - it is what is to be seen
        await eventually(lambda: max(measured) > 0.1)
        for task in waiting:
            task.cancel()


@on_loop
async def test_what_was_refused_is_told_to_prometheus(measured: list[float]) -> None:
    def told(reason: str) -> float:
        return REGISTRY.get_sample_value("patchbay_shed_calls_total", {"reason": reason}) or 0.0

    busy, in_flight = told("busy"), told("in_flight")
    shedder = Shedder(SystemClock(), 10)
    async with measuring(shedder):
        await eventually(lambda: measured)
        shedder.shed["busy"] += 3
        shedder.shed["in_flight"] += 2
        await eventually(lambda: told("busy") == busy + 3)
        assert told("in_flight") == in_flight + 2
    assert REGISTRY.get_sample_value("patchbay_shed_share") == 0.0
