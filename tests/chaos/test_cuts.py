"""Answers that break off after every single event, by either side, in each dialect: one row,
right or flagged; what was reserved is given back; and who need not answer any more hears of it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import http.client
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.chaos.client import CHAT, Seen, call, prompt
from tests.chaos.reporting import FIGURES
from tests.chaos.standing import HELD_PLAN, by_ledger, held_tenants, told
from tests.patience import eventually
from tests.services.process import until
from tests.services.system import System

pytestmark = pytest.mark.chaos

WORDS = 4
MODELS = {
    "openai": "openai/gpt-4o-mini",
    "anthropic": "anthropic/claude-haiku-4-5",
    "gemini": "gemini/gemini-2.5-flash",
    "cohere": "cohere/command-r7b-12-2024",
}
CUTS = ("close", "reset", "mid", "clean")  # how the upstream breaks off (the sandbox's words)
LEAVES = ("leave", "leave-reset")  # how the client does
WAYS = (*CUTS, *LEAVES, "stalled", "whole")
HEARD_SECONDS = 0.5  # after the client left, the upstream's connection is closed (design G4)
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST
ALL = 1000  # more events than any answer has


@dataclass(frozen=True)
class Line:
    """A tenant's calls to one provider of the shared system; its breakers are its own."""

    system: System
    dialect: str
    tenant: str

    @property
    def key(self) -> str:
        return self.system.keys[f"{self.tenant}/test"]

    @property
    def ask(self) -> dict[str, Any]:
        return {**prompt(WORDS, 0, stream=True), "model": MODELS[self.dialect]}

    def broken_by_upstream(self, count: int, how: str = "close") -> Seen:
        """After a whole answer: many failures in a row would open the breaker."""
        for fault in ("pace_ms=0", f"cut_after={count};cut={how}"):
            seen = asyncio.run(call(self.system.port, self.key, self.ask, x_sandbox_fault=fault))
        return seen

    @contextlib.contextmanager
    def call(self, fault: str, how: str = "leave") -> Iterator[http.client.HTTPConnection]:
        """A call whose client leaves when it leaves the scope."""
        connection = http.client.HTTPConnection("127.0.0.1", self.system.port, timeout=10)
        headers = {
            "Authorization": f"Bearer {self.key}",
            "Content-Type": "application/json",
            "X-Sandbox-Fault": fault,
        }
        connection.request("POST", CHAT, json.dumps(self.ask), headers)
        wire = connection.sock
        if how == "leave-reset":
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        try:
            yield connection
        finally:
            wire.shutdown(socket.SHUT_RDWR) if how == "leave" else None
            wire.close()
            connection.close()

    def is_in_order(self) -> bool:
        """Nothing is reserved, and the counters say what the ledger says."""
        counted = told(self.system, self.system.url, self.key)
        return counted == by_ledger(self.system, self.tenant)


@pytest.fixture(scope="module")
def lines(system: System) -> Callable[[str, str], Line]:
    """`lines(dialect, how)`: each with a tenant that nobody used before."""
    tenants = [f"cut-{dialect}-{how}" for dialect in MODELS for how in WAYS]
    system.apply(HELD_PLAN + held_tenants(*tenants, mode="test"))
    return lambda dialect, how: Line(system, dialect, f"cut-{dialect}-{how}")


def journal_line(system: System, request_id: str) -> Mapping[str, Any]:
    """What the sandbox wrote down of a call, once it has ended: of its last try, for what breaks
    off before an event that the client could see may be asked for again."""

    def written() -> list[str]:
        whole = system.journal.read_text().rpartition("\n")[0]  # the last may be half-written
        return [each for each in whole.splitlines() if request_id in each]

    until(lambda: bool(written()))
    return json.loads(written()[-1])  # type: ignore[no-any-return]


def settled(system: System, request_id: str) -> Mapping[str, Any]:
    """The one row of a call, once it is there; then nothing of it is open."""
    statement = "SELECT * FROM usage_usagerecord WHERE request_id = ?"
    until(lambda: bool(system.rows(statement, request_id)))
    opened = "SELECT * FROM usage_opencall WHERE request_id = ?"
    assert system.rows(opened, request_id) == []
    return system.record(request_id)


def is_right(row: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    names = ("input_tokens", "output_tokens")
    return not row["estimate"] and [row[name] for name in names] == [made[name] for name in names]


def is_flagged(row: Mapping[str, Any], made: Mapping[str, Any], why: str) -> bool:
    """An estimate, said to be one, and never of nothing where something was made."""
    pays = row["output_tokens"] > 0 or made["output_tokens"] == 0
    return bool(row["estimate"] == why and row["input_tokens"] > 0 and pays)


def whole_answer(line: Line) -> int:
    """How many events it has at the upstream's side."""
    seen = line.broken_by_upstream(ALL)
    assert seen.whole
    made = journal_line(line.system, seen.request_id)
    assert is_right(settled(line.system, seen.request_id), made)
    return int(made["events_sent"])


@pytest.mark.parametrize("dialect", MODELS)
def test_cut_by_the_upstream_after_every_event(
    lines: Callable[[str, str], Line], dialect: str
) -> None:
    whole = whole_answer(lines(dialect, "whole"))
    for how in CUTS:
        line = lines(dialect, how)
        # Cohere's [DONE] says nothing more; but a reset may take what came before it along.
        complete = whole - (dialect == "cohere" and how != "reset")
        for count in range(whole + 2):
            seen = line.broken_by_upstream(count, how)
            row = settled(line.system, seen.request_id)
            made = journal_line(line.system, seen.request_id)
            case = f"{dialect}, cut={how} after {count}: {row} {made}"
            assert seen.done or count < complete, case
            assert seen.done or b'"error"' in seen.body, case
            if seen.status != 200:
                assert (row["status"], row["charge"], row["output_tokens"]) == (
                    seen.status,
                    0,
                    0,
                ), case
                assert made["output_tokens"] == 0, case
            elif seen.done:
                assert is_right(row, made) and row["code"] == "ok", case
            else:
                assert row["code"] == "stream_cut", case
                assert is_right(row, made) or is_flagged(row, made, "cut"), case
        eventually(line.is_in_order)


@pytest.mark.parametrize("dialect", MODELS)
def test_the_client_leaves_after_every_event(
    lines: Callable[[str, str], Line], dialect: str
) -> None:
    """While the answer flows: whoever is first, there is one row, and it says what was made."""
    for how in LEAVES:
        line = lines(dialect, how)
        for count in range(WORDS + 6):
            with line.call("pace_ms=4", how) as connection:
                answer = connection.getresponse()
                request_id = answer.headers["x-request-id"]
                text = read_events(answer, count)
            row, made = settled(line.system, request_id), journal_line(line.system, request_id)
            case = f"{dialect}, {how} after {count}: {row} {made}"
            if row["estimate"]:
                assert (row["estimate"], row["code"]) == ("hung_up", "hung_up"), case
                assert row["input_tokens"] > 0 and (row["output_tokens"] > 0 or not text), case
            else:
                assert is_right(row, made), case
        eventually(line.is_in_order)


@pytest.mark.parametrize("dialect", MODELS)
def test_the_upstream_hears_at_once_that_the_client_left(
    lines: Callable[[str, str], Line],
    dialect: str,
    record_property: Callable[[str, object], None],
) -> None:
    """While the answer stands still after so many events: only our closing ends the call."""
    line, seconds = lines(dialect, "stalled"), []
    for count in range(ALL):
        told_so_far = line.broken_by_upstream(count)
        journal_line(line.system, told_so_far.request_id)  # it stands still no more
        if told_so_far.done:
            break
        with line.call(f"stall_after={count}") as connection:
            if told_so_far.status == 200:
                answer = connection.getresponse()
                read_events(answer, told_so_far.events - 1)  # the last one says the error
            made = standing_still(line, count)
            left = time.time()
        request_id = made["request_id"]
        row, made = settled(line.system, request_id), journal_line(line.system, request_id)
        case = f"{dialect}, left after {count}: {row} {made}"
        seconds.append(dt.datetime.fromisoformat(made["ended_at"]).timestamp() - left)
        assert made["hung_up"] and seconds[-1] < HEARD_SECONDS, case
        assert row["code"] == "hung_up", case
        if told_so_far.status == 200:
            assert is_right(row, made) or is_flagged(row, made, "hung_up"), case
        else:
            assert made["output_tokens"] == 0, case
    eventually(line.is_in_order)
    slowest = round(max(seconds) * 1000)
    record_property(
        FIGURES,
        f"client leaves, {dialect}: places={len(seconds)} upstream_hears_after_ms_at_most={slowest}",
    )


def standing_still(line: Line, events: int) -> Mapping[str, Any]:
    """The one call that runs, once the sandbox has sent so many events of it."""

    def found() -> list[Mapping[str, Any]]:
        url = f"{line.system.sandbox_url}/_sandbox/calls?provider={line.dialect}"
        calls = json.loads(line.system.get(url)[1])["requests"]
        return [
            each for each in calls if each["ended_at"] is None and each["events_sent"] == events
        ]

    return eventually(found)[-1]


def read_events(answer: http.client.HTTPResponse, count: int) -> str:
    """The text of so many events, or of all there are."""
    text, seen = "", 0
    while seen < count and (told_line := answer.readline()):
        if told_line.startswith(b"data: {"):
            (choice,) = json.loads(told_line[6:]).get("choices") or [{}]
            text += choice.get("delta", {}).get("content") or ""
        seen += told_line.startswith(b"data: ")
    return text
