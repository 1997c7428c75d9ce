"""The lines to the provider, the counters' store and the database go bad in each of eight ways:
callers get a right answer or a right error in time, all is well soon after, and nothing grows."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import pytest

from tests.chaos.fault_proxy import (
    Bandwidth,
    BlackHole,
    FaultProxy,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Toxic,
    Way,
)
from tests.chaos.lines import MB, BadLines, Line, Size
from tests.chaos.reporting import FIGURES
from tests.chaos.standing import by_ledger, told
from tests.chaos.words import OK
from tests.patience import eventually
from tests.services.postgres import TABLES, Postgres
from tests.services.valkey import Valkey

pytestmark = pytest.mark.chaos

DEADLINE_MS = 400
RECOVERY_SECONDS = 5.0
SIEGE_DEADLINE_MS = 1000
SECONDS_TO_WARM = 3.0
LATE = 0.001  # share of a siege's calls: those whose machine was busy
TRIES = 3  # a busy machine may make a call late, but not each time
CALLS = 2  # of each kind at once

Trouble = Callable[[FaultProxy], AbstractContextManager[None]]


def bad(toxic: Toxic, *ways: Way) -> Trouble:
    return lambda proxy: proxy.toxic(toxic, *ways)


TROUBLES: dict[str, Trouble] = {
    "latency": bad(Latency(0.05, jitter=0.04)),
    "long latency": bad(Latency(1.0), Way.UP),
    "bandwidth": bad(Bandwidth(20_000)),
    "slow close": bad(SlowClose(1.0)),
    "black hole": bad(BlackHole()),
    "black hole up": bad(BlackHole(), Way.UP),
    "black hole that closes": bad(BlackHole(after=0.1)),
    "reset": bad(ResetPeer()),
    "late reset": bad(ResetPeer(after=0.05), Way.UP),
    "slices": bad(Slicer(100, pause=0.0005), *Way),
    "limit": bad(LimitData(1500)),
    "down": FaultProxy.down,
}


@pytest.fixture
def site(
    postgres_server: Postgres,
    valkey: Valkey,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[BadLines]:
    name = postgres_server.create_database(TABLES)
    folder = tmp_path_factory.mktemp("bad-lines")
    site = BadLines(folder, postgres_server.url(name), valkey)
    try:
        site.start()
        yield site
    finally:
        site.stop()
        postgres_server.drop_database(name)
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Column:
    """One line under every trouble, one after the other."""

    line: Line
    late: list[str] = field(default_factory=list)
    recovered: list[float] = field(default_factory=list)

    async def suffer(self) -> None:
        for _ in range(5):
            await self.line.calls(CALLS, 2000)  # it is warm then
        before = self.line.size
        for name, trouble in TROUBLES.items():
            with trouble(self.line.proxy):
                await self._calls(name)
            self.recovered.append(await self.line.recovers(RECOVERY_SECONDS))
        eventually(lambda: self.line.size.is_within(before))

    async def _calls(self, name: str) -> None:
        for _ in range(TRIES):
            over = max(each.over for each in await self.line.calls(CALLS, DEADLINE_MS))
            if over <= 0:
                return
        self.late.append(f"{name}: by {over * 1000:.0f} ms")


def test_each_line_in_every_trouble(
    site: BadLines, record_property: Callable[[str, object], None]
) -> None:
    begun = time.monotonic()
    columns = [Column(line) for line in site.lines.values()]
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda column: asyncio.run(column.suffer()), columns))
    recovered = [seconds for column in columns for seconds in column.recovered]
    line = figures(site, recovered, seconds=time.monotonic() - begun)
    record_property(FIGURES, line)
    assert {column.line.name: column.late for column in columns if column.late} == {}, line
    assert {each.name: each.wrong for each in site.lines.values() if each.wrong} == {}, line
    check_books(site)


@dataclass
class Siege:
    """Steady load on all three lines, each with one trouble after the other."""

    site: BadLines
    seconds: float
    seed: int
    troubles: list[str] = field(default_factory=list)
    recovered: list[float] = field(default_factory=list)
    sizes: dict[str, list[Size]] = field(default_factory=dict)

    async def rage(self) -> None:
        self._end = time.monotonic() + self.seconds
        async with asyncio.TaskGroup() as tasks:
            for line in self.site.lines.values():
                self.sizes[line.name] = []
                tasks.create_task(self._trouble(line))
                for stream in (False, True):
                    tasks.create_task(self._load(line, stream))

    @property
    def _is_over(self) -> bool:
        return time.monotonic() > self._end

    async def _load(self, line: Line, stream: bool) -> None:
        while not self._is_over:
            await line.call(stream, SIEGE_DEADLINE_MS)
            await asyncio.sleep(0.1)

    async def _trouble(self, line: Line) -> None:
        chance = random.Random(f"{self.seed} {line.name}")
        await asyncio.sleep(SECONDS_TO_WARM)
        while not self._is_over:
            self.sizes[line.name].append(await asyncio.to_thread(lambda: line.size))
            name = chance.choice(list(TROUBLES))
            with TROUBLES[name](line.proxy):
                await asyncio.sleep(chance.uniform(0.5, 4))
            self.troubles.append(f"{line.name}: {name}")
            self.recovered.append(await line.recovers(RECOVERY_SECONDS))

    @property
    def slopes(self) -> dict[str, float]:
        """MB a minute by which each gateway's memory grew in the second half."""
        return {
            name: slope([size.memory / MB for size in sizes], self.seconds / 60)
            for name, sizes in self.sizes.items()
        }


def slope(values: Sequence[float], minutes: float) -> float:
    late = values[len(values) // 2 :]
    if len(late) < 2:
        return 0.0
    by_sample = statistics.linear_regression(range(len(late)), late).slope
    return round(by_sample * len(values) / minutes, 2)


@pytest.mark.only_long
def test_a_siege(site: BadLines, record_property: Callable[[str, object], None]) -> None:
    """PATCHBAY_CHAOS_MINUTES says how long: 10 unless said."""
    minutes = float(os.environ.get("PATCHBAY_CHAOS_MINUTES", "10"))
    siege = Siege(site, minutes * 60, secrets.randbelow(10**6))
    try:
        asyncio.run(siege.rage())
    except* (AssertionError, TimeoutError) as fault:
        pytest.fail(f"seed {siege.seed}, after {siege.troubles[-5:]}: {fault.exceptions}")
    line = figures(site, siege.recovered, seconds=siege.seconds)
    line += f" troubles={len(siege.recovered)} mb_a_minute={siege.slopes} seed={siege.seed}"
    record_property(FIGURES, line)
    calls = [each for gateway in site.lines.values() for each in gateway.told]
    assert sum(each.over > 0 for each in calls) <= len(calls) * LATE, line
    assert {each.name: each.wrong for each in site.lines.values() if each.wrong} == {}, line
    for gateway in site.lines.values():
        warm = siege.sizes[gateway.name][0]
        eventually(lambda gateway=gateway, warm=warm: gateway.size.is_within(warm), 30)  # type: ignore[misc]
    check_books(site)


def figures(site: BadLines, recovered: Sequence[float], *, seconds: float) -> str:
    parts = []
    for line in site.lines.values():
        words = Counter(each.word for each in line.told)
        latest = max(each.over for each in line.told) * 1000
        size = line.size
        parts.append(
            f"{line.name} {' '.join(f'{word}={times}' for word, times in words.most_common())}"
            f" latest_ms={latest:.0f} mb={size.memory // MB} descriptors={size.descriptors}"
        )
    told = f"recovers_s_at_most={max(recovered):.2f} seconds={seconds:.0f}"
    return f"bad lines: {'; '.join(parts)}; {told}"


def check_books(site: BadLines) -> None:
    """One row for each call that got a byte of an answer, or one that is still open where the
    database was away, and a right one for a whole answer; nothing else is reserved, and the
    counters say what the ledger says."""
    open_calls = {row["request_id"] for row in site.rows("SELECT request_id FROM usage_opencall")}
    rows = site.rows("SELECT request_id, code FROM usage_usagerecord")
    code_of = {row["request_id"]: row["code"] for row in rows}
    assert len(code_of) == len(rows)
    for line in site.lines.values():
        for each in line.told:
            request_id = each.seen.request_id
            if each.word == OK:
                assert code_of[request_id] == "ok"
            elif each.seen.status == 200:
                assert request_id in code_of or request_id in open_calls, each.word
    for line in (site.lines["store"], site.lines["upstream"]):
        eventually(lambda line=line: is_in_order(site, line), 30)  # type: ignore[misc]


def is_in_order(site: BadLines, line: Line) -> bool:
    ledger = by_ledger(site, line.tenant)
    del ledger["cost"]  # no quota counts it
    return told(site, f"http://127.0.0.1:{line.port}", line.key) == ledger
