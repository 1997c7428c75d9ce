"""A provider fails in every way that providers fail: what its callers see, how often it is
asked, and what the books say. One gateway, live mode, real sockets, all scenarios at once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest

from tests.chaos.client import Seen, call, prompt
from tests.chaos.reporting import FIGURES
from tests.chaos.standing import by_ledger, told
from tests.chaos.words import CUT, OK, events, text_of, word_of
from tests.gateway.scenarios import BOMB, SCENARIOS, Scenario, configuration
from tests.patience import eventually
from tests.services.process import free_port, until
from tests.services.system import System

DEADLINE_MS = 2000
GRACE = 0.1  # seconds after its deadline by which a call must have ended
TRIES = 3  # a busy machine may make a call late, but not each time
AT_ONCE = 16
TIMEOUTS = "{connect_ms: 400, first_byte_ms: 500, idle_ms: 500, total_ms: 10000}"
WORDS = 6
GIVEN, MADE = WORDS + 1, WORDS + 3  # tokens, by the sandbox's rule
MOST = 1.2  # attempts at a provider for each call that was routed to it
INPUT_PRICE, OUTPUT_PRICE = 1, 2  # µUSD a token
KINDS = [("alone", False), ("alone", True), ("pair", False), ("pair", True), ("rescued", True)]


@dataclass(frozen=True)
class Case:
    """One call of a scenario."""

    scenario: Scenario
    route: str
    stream: bool
    number: int

    @property
    def ask(self) -> dict[str, Any]:
        told = prompt(WORDS, self.number, stream=self.stream)
        return {**told, "model": f"{self.scenario.name}-{self.route}"}

    @property
    def name(self) -> str:
        return f"{self.scenario.name}, {self.route}, {'SSE' if self.stream else 'JSON'}"

    @property
    def allowed(self) -> frozenset[str]:
        return self.scenario.allowed(self.route, stream=self.stream)


@dataclass
class Told:
    """A case's call and how it ended, in a word: ok, cut, a problem's code, or what is wrong."""

    case: Case
    seen: Seen
    is_late: bool
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def word(self) -> str:
        return word_of(self.seen, self.case.ask)

    @property
    def words_seen(self) -> int:
        """Of a stream."""
        return len(text_of(events(self.seen)).split())

    @property
    def milliseconds(self) -> int:
        return round((self.seen.ended - self.seen.begun) * 1000)


@dataclass
class Run:
    """All scenarios once, and all that the witnesses say when it has come to rest."""

    system: System
    told: list[Told] = field(default_factory=list)
    attempts: Mapping[str, int] = field(default_factory=dict)
    counted: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.system.keys["acme/live"]

    async def make_calls(self) -> None:
        numbers = itertools.count()
        cases = [
            Case(scenario, route, stream, next(numbers))
            for scenario in SCENARIOS
            for route, stream in KINDS
            for _ in range(scenario.calls)
        ]
        turns = asyncio.Semaphore(AT_ONCE)

        async def in_turn(case: Case) -> Told:
            async with turns:
                return await self.call(case)

        self.told = await asyncio.gather(*map(in_turn, cases))
        for late in [each for each in self.told if each.is_late]:
            for _ in range(TRIES - 1):
                again = await self.call(late.case)
                self.told.append(again)
                late.is_late = late.is_late and again.is_late

    async def call(self, case: Case) -> Told:
        deadline = {"x-patchbay-deadline-ms": str(DEADLINE_MS)}
        seen = await call(self.system.port, self.key, case.ask, **deadline)
        return Told(case, seen, seen.ended - seen.begun > DEADLINE_MS / 1000 + GRACE)

    def ask_the_witnesses(self) -> None:
        until(lambda: self.calls()["in_flight"] == 0)
        rows = self.system.rows("SELECT * FROM usage_usagerecord")
        row_of = {row["request_id"]: row for row in rows}
        assert len(row_of) == len(rows) == len(self.told)
        for each in self.told:
            each.row = row_of[each.seen.request_id]
        self.attempts = self._attempts()
        self.counted = eventually(self._counters)

    def calls(self) -> dict[str, Any]:
        url = f"{self.system.sandbox_url}/_sandbox/calls?request_id=none"
        return dict(json.loads(self.system.get(url)[1]))

    def _attempts(self) -> dict[str, int]:
        """By provider: as the sandbox counted them; of those that it does not play, as ours."""
        elsewhere = self.system.rows(
            "SELECT provider, count(*) AS n FROM usage_attempt"
            " WHERE verdict NOT LIKE 'skipped%' GROUP BY provider"
        )
        counted = self.calls()["providers"].items()
        return {row["provider"]: row["n"] for row in elsewhere} | {
            slug: counts["calls"] for slug, counts in counted
        }

    def _counters(self) -> Mapping[str, Any]:
        """What the gateway says of the quotas, once nothing is reserved."""
        counted = told(self.system, self.system.url, self.key)
        return counted if all(reserved == 0 for _, reserved in counted.values()) else {}

    def of(self, scenario: Scenario) -> list[Told]:
        return [each for each in self.told if each.case.scenario == scenario]

    @property
    def routed(self) -> Counter[str]:
        """How many calls had a provider in their route's reach."""
        counts: Counter[str] = Counter()
        for each in self.told:
            reach = each.case.scenario.providers if each.case.route != "alone" else ()
            counts.update(reach or (each.case.scenario.name,))
        return counts

    def table(self) -> str:
        """Scenario × result."""
        lines = [f"{'scenario':<20}" + "".join(f"{k:<24}" for k in _COLUMNS) + "attempts  slowest"]
        for scenario in SCENARIOS:
            told = self.of(scenario)
            cells = "".join(f"{self._cell(told, kind):<24}" for kind in KINDS)
            share = self.attempts.get(scenario.name, 0) / self.routed[scenario.name]
            slowest = max(each.milliseconds for each in told)
            lines.append(f"{scenario.name:<20}{cells}{share:>8.2f}{slowest:>6} ms")
        return "\n".join(["scenarios:", *lines])

    @staticmethod
    def _cell(told: Sequence[Told], kind: tuple[str, bool]) -> str:
        words = Counter(each.word for each in told if (each.case.route, each.case.stream) == kind)
        return " ".join(f"{word[:18]}×{times}" for word, times in words.most_common())


_COLUMNS = ("alone, JSON", "alone, SSE", "fallback, JSON", "fallback, SSE", "rescued, SSE")


class Bench(System):
    """Serves the scenarios, and no catalogue."""

    def begin(self, black_hole: int) -> None:
        self.manage("migrate", "-v0")
        self.sandbox.start(lambda: self.get(f"{self.sandbox_url}/_sandbox/calls")[0] == 200)
        self.apply(configuration(TIMEOUTS, refused=free_port(), black_hole=black_hole))
        for scenario in SCENARIOS:
            self._sandbox("PUT", f"_sandbox/faults/{scenario.name}", scenario.fault)
        # It makes its bomb once, and is deaf to all others meanwhile.
        self._sandbox("PUT", "_sandbox/faults/warm", BOMB)
        self._sandbox("POST", "warm/v1/chat/completions", prompt(1, 0, stream=False))
        self.start_gateway()

    def _sandbox(self, method: str, path: str, document: Any) -> None:
        headers = {"authorization": "Bearer sk-lab-0123456789"}
        request = urllib.request.Request(
            f"{self.sandbox_url}/{path}", json.dumps(document).encode(), headers, method=method
        )
        urllib.request.urlopen(request, timeout=10).close()


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """Where connections are neither accepted nor refused: its queue is full (Linux)."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with deaf_port() as black_hole:
        bench = Bench(tmp_path_factory.mktemp("scenarios"))
        try:
            bench.begin(black_hole)
            run = Run(bench)
            asyncio.run(run.make_calls())
            run.ask_the_witnesses()
            yield run
        finally:
            bench.stop()


def test_every_call_ends_with_a_right_answer_or_a_right_error(run: Run) -> None:
    wrong = {each.case.name: each.word for each in run.told if each.word not in each.case.allowed}
    assert wrong == {}


def test_every_call_ends_by_its_deadline(run: Run) -> None:
    assert {each.case.name: each.milliseconds for each in run.told if each.is_late} == {}


def test_no_provider_is_asked_more_often_than_its_share(run: Run) -> None:
    """Nor is the one that takes over from all others."""
    routed = run.routed
    share = {slug: run.attempts[slug] / times for slug, times in routed.items()}
    assert {slug: each for slug, each in share.items() if each > MOST} == {}
    assert len(share) == len(SCENARIOS) + 1


def test_the_ledger_says_what_the_callers_saw(run: Run) -> None:
    wrong = {each.case.name: (each.word, each.row) for each in run.told if not is_right(each)}
    assert wrong == {}


def is_right(each: Told) -> bool:
    """A whole answer is billed to the token, a broken one by what came, an error not at all."""
    row, word = each.row, each.word
    given, made = row["input_tokens"], row["output_tokens"]
    if row["charge"] != given * INPUT_PRICE + made * OUTPUT_PRICE:
        return False
    billed = row["status"], row["code"], row["estimate"]
    if word == OK:
        return billed == (200, "ok", "") and (given, made) == (GIVEN, MADE)
    if word == CUT:
        return billed == (200, "stream_cut", "cut") and given > 0 and made >= each.words_seen
    return billed == (each.seen.status, word, "") and row["charge"] == 0


def test_at_rest_nothing_is_reserved_and_the_counters_are_the_ledgers(run: Run) -> None:
    assert run.counted == by_ledger(run.system, "acme")
    assert run.system.rows("SELECT * FROM usage_opencall") == []


def test_openais_sdk_raises_where_a_stream_was_broken_off(run: Run) -> None:
    url = f"{run.system.url}/api/v1"
    with openai.OpenAI(base_url=url, api_key=run.key, max_retries=0, timeout=10) as client:
        for scenario, route in itertools.product(SCENARIOS, ("alone", "pair")):
            if scenario.begins:
                finishes = finishes_before_it_raises(client, Case(scenario, route, True, 0))
                assert finishes and {*finishes} == {None}, scenario.name


def finishes_before_it_raises(client: openai.OpenAI, case: Case) -> list[str | None]:
    finishes: list[str | None] = []
    with pytest.raises(openai.APIError):
        for chunk in client.chat.completions.create(**case.ask):
            finishes += [choice.finish_reason for choice in chunk.choices]
    return finishes


def test_the_table(run: Run, record_property: Callable[[str, object], None]) -> None:
    record_property(FIGURES, run.table())
    assert len(run.told) >= len(SCENARIOS) * len(KINDS)
