"""Processes that race for the same counters, each with its own connection and its own name, and
one that watches a counter all the while."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import redis

from lib.clock import SystemClock
from lib.problems import Problem
from tests.chaos.shared_book import SharedBook
from usage.admission import Admissions, Grant
from usage.counters.claims import MICROSECONDS, NOTHING, Amounts, Claim, Part, QuotaClaim
from usage.counters.scripts import PREFIX
from usage.counters.shared import SharedCounters

CLIENTS = 256
PROCESSES = 3
TIMEOUT = 0.04  # the product's
SAMPLE_SECONDS = 0.0005
ANSWER_SECONDS = 120.0
# Each is forked off one that has imported all of this, and has no threads and no connections.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


@dataclass(frozen=True)
class Race:
    """What all clients do: call after call, until the first refusal or, where they try again,
    for `seconds` or until they are called back.

    `most` and `least` are the amounts that a call reserves; between none and all of it is used,
    or just that where `exact`. `provider`: the claims are of its, not of the caller's.
    """

    claims: Sequence[Claim]
    least: Amounts
    most: Amounts
    provider: str = ""
    exact: bool = True
    seconds: float = 0.0  # 0: until the first refusal
    lasting: tuple[float, float] = (0.0, 0.0)  # seconds between a call's admission and its end
    pause: float = 0.01  # seconds after a refusal
    seed: int = 0


@dataclass
class Outcome:
    """What one process saw."""

    admitted: list[int] = field(default_factory=list)
    """When each was, in µs of the counters' clock."""
    decided: list[tuple[float, float]] = field(default_factory=list)
    """When each call was begun for which the counters said yes or no, and when they did, by the
    process's clock."""
    refused: Counter[str] = field(default_factory=Counter)
    used: Amounts = NOTHING


class _Racing:
    """One process's clients."""

    def __init__(self, admissions: Admissions, book: SharedBook, race: Race, clients: int) -> None:
        self.race = race
        self.stopped = False
        self._admissions = admissions
        self._book = book
        self._clients = clients
        self._chance = random.Random(f"{race.seed}/{admissions.process}")
        self._outcome = Outcome()

    async def run(self) -> Outcome:
        self._until = time.monotonic() + self.race.seconds
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._clients):
                tasks.create_task(self._client())
        return self._outcome

    async def _client(self) -> None:
        again = self.race.seconds > 0
        while not self.stopped:
            if not await self._call() and not again:
                return
            if again and time.monotonic() > self._until:
                return

    async def _call(self) -> bool:
        """Whether it was admitted."""
        race, id_, begun = self.race, self._chance.randbytes(8).hex(), time.time()
        reserved = self._between(race.least, race.most)
        part = Part(race.claims, reserved, race.provider)
        base, options = (Part((), reserved), [part]) if race.provider else (part, [])
        try:
            grant = await self._admissions.admit(id_, base, options)
            if grant.refusal is not None:
                raise grant.refusal
        except Problem as problem:
            self._outcome.refused[problem.code] += 1
            if problem.code != "store_unavailable":
                self._outcome.decided.append((begun, time.time()))
            if race.seconds:
                await asyncio.sleep(race.pause * self._chance.uniform(0.5, 1.5))
            return False
        # What was let in while the store was late has a moment of this process's own clock.
        moment = round(time.time() * MICROSECONDS) if grant.away else grant.hold.moment
        self._outcome.admitted.append(moment)
        self._outcome.decided.append((begun, time.time()))
        if race.lasting[1]:
            await asyncio.sleep(self._chance.uniform(*race.lasting))
        await self._end(grant, reserved if race.exact else self._between(NOTHING, reserved))
        return True

    async def _end(self, grant: Grant, used: Amounts) -> None:
        """The row first, the settlement after it, as in the product."""
        self._outcome.used = self._outcome.used.plus(used)
        parts = grant.hold.parts
        await self._book.write(grant.hold.id, parts, [used, *([used] if len(parts) > 1 else [])])
        grant.tried(0, grant.current)
        grant.settle(used, [used])

    def _between(self, least: Amounts, most: Amounts) -> Amounts:
        return Amounts(*map(self._chance.randint, least, most))


@dataclass(frozen=True)
class _Place:
    """Where they race: over the store at `url`, which a call waits for `timeout` seconds, and
    the ledger `file`."""

    url: str
    file: Path
    names: Sequence[str]
    timeout: float


async def _compete(wire: Connection, name: str, place: _Place) -> None:
    book = SharedBook(place.file, place.names)
    counters = SharedCounters(place.url, name, book, timeout=place.timeout)
    admissions = Admissions(counters, book, SystemClock(), name)
    await counters.start()
    while not counters.ready:
        await asyncio.sleep(0.01)
    wire.send("ready")
    racing: _Racing | None = None
    running: set[asyncio.Task[None]] = set()
    while (told := await asyncio.to_thread(wire.recv)) is not None:
        if told == "stop":
            if racing is not None:
                racing.stopped = True
            continue
        racing = _Racing(admissions, book, *told)
        task = asyncio.create_task(_answer(wire, racing))
        running.add(task)
        task.add_done_callback(running.discard)
    await counters.close()
    book.close()


async def _answer(wire: Connection, racing: _Racing) -> None:
    try:
        wire.send(await racing.run())
    except BaseException as error:
        wire.send(error)
        raise


def _competitor(wire: Connection, name: str, place: _Place) -> None:
    asyncio.run(_compete(wire, name, place))


class Racers:
    """Some of them, over the store at `url` and the ledger `book`."""

    def __init__(
        self, url: str, file: Path, count: int = PROCESSES, timeout: float = TIMEOUT
    ) -> None:
        names = [f"racer-{number}" for number in range(count)]
        place = _Place(url, file, names, timeout)
        self.book = SharedBook(file, names)
        self._wires: list[Connection] = []
        self._processes: list[Any] = []
        for name in names:
            ours, theirs = _context.Pipe()
            process = _context.Process(target=_competitor, args=(theirs, name, place), daemon=True)
            process.start()
            self._wires.append(ours)
            self._processes.append(process)

    def await_start(self) -> None:
        for wire in self._wires:
            assert _heard(wire) == "ready"

    def run(self, race: Race, clients: int = CLIENTS) -> list[Outcome]:
        self.begin(race, clients)
        return self.outcomes()

    def begin(self, race: Race, clients: int = CLIENTS) -> None:
        each, more = divmod(clients, len(self._wires))
        for number, wire in enumerate(self._wires):
            wire.send((race, each + (number < more)))

    def stop(self) -> None:
        """Calls that run come to their end."""
        for wire in self._wires:
            wire.send("stop")

    def outcomes(self) -> list[Outcome]:
        found = [_heard(wire) for wire in self._wires]
        for one in found:
            if isinstance(one, BaseException):
                raise one
        return found

    def close(self) -> None:
        for wire in self._wires:
            with contextlib.suppress(OSError):
                wire.send(None)
        for process in self._processes:
            process.join(10)
            process.kill()
        self.book.close()


def _heard(wire: Connection) -> Any:
    assert wire.poll(ANSWER_SECONDS), "a racer does not answer"
    return wire.recv()


@contextlib.contextmanager
def racing(
    url: str, folder: Path, count: int = PROCESSES, timeout: float = TIMEOUT
) -> Iterator[Racers]:
    """`timeout`: the seconds that a call waits for the store."""
    racers = Racers(url, folder / "book.sqlite3", count, timeout)
    try:
        racers.await_start()
        yield racers
    finally:
        racers.close()


@dataclass
class Samples:
    """What a counter was seen to be: settled and reserved together."""

    count: int = 0
    most: int = 0


class Sampler:
    """Reads one counter after the other, as fast as it lets others live. The store may go away
    meanwhile."""

    def __init__(self, url: str) -> None:
        self._wire, theirs = _context.Pipe()
        self._process = _context.Process(target=_sample, args=(theirs, url), daemon=True)
        self._process.start()

    def watch(self, claim: QuotaClaim) -> None:
        self._wire.send((PREFIX + claim.key, claim.counter))

    def end(self) -> Samples:
        """Of the counter that was watched."""
        self._wire.send(("", ""))
        found = _heard(self._wire)
        assert isinstance(found, Samples)
        return found

    def close(self) -> None:
        self._wire.send(None)
        self._process.join(5)
        self._process.kill()


def _sample(wire: Connection, url: str) -> None:
    client = redis.Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5)
    while (told := wire.recv()) is not None:
        key, counter = told
        samples = Samples()
        while not wire.poll(SAMPLE_SECONDS):
            try:
                held = client.hmget(key, f"{counter}:used", f"{counter}:reserved")
            except redis.RedisError:
                time.sleep(0.01)
                continue
            samples.count += 1
            samples.most = max(samples.most, sum(int(each or 0) for each in held))
        wire.recv()
        wire.send(samples)


@contextlib.contextmanager
def sampling(url: str) -> Iterator[Sampler]:
    sampler = Sampler(url)
    try:
        yield sampler
    finally:
        sampler.close()
