"""Answers that break off after every single event, by either side: one row, right or flagged."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.chaos.client import CHAT, Seen, call, prompt
from tests.services.process import until
from tests.services.system import System

pytestmark = pytest.mark.chaos

WORDS = 4
ASK = prompt(WORDS, 0, stream=True)
EVENTS = WORDS + 7  # role, You said:, call-0, the words, finish, count, [DONE]
NO_TOKENS = 1  # the first event says the role and nothing else
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST


def line(system: System, request_id: str) -> Mapping[str, Any]:
    """What the sandbox wrote down of a call, once it has ended."""

    def written() -> list[str]:
        whole = system.journal.read_text().rpartition("\n")[0]  # the last may be half-written
        return [each for each in whole.splitlines() if request_id in each]

    until(lambda: bool(written()))
    (found,) = written()
    return json.loads(found)  # type: ignore[no-any-return]


def settled(system: System, request_id: str) -> Mapping[str, Any]:
    """The one row of a call, once it is there; then nothing of it is open."""
    statement = "SELECT * FROM usage_usagerecord WHERE request_id = ?"
    until(lambda: bool(system.rows(statement, request_id)))
    opened = "SELECT * FROM usage_opencall WHERE request_id = ?"
    assert system.rows(opened, request_id) == []
    return system.record(request_id)


def is_right(row: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
    names = ("input_tokens", "output_tokens")
    return not row["estimate"] and [row[name] for name in names] == [told[name] for name in names]


def broken_by_upstream(system: System, key: str, fault: str) -> Seen:
    return asyncio.run(call(system.port, key, ASK, x_sandbox_fault=fault))


def test_so_many_events_has_the_whole_answer(system: System) -> None:
    seen = broken_by_upstream(system, system.visitor(), "cut_after=1000")
    assert seen.whole
    assert line(system, seen.request_id)["events_sent"] == EVENTS
    assert is_right(settled(system, seen.request_id), line(system, seen.request_id))


@pytest.mark.parametrize("how", ["close", "reset", "mid", "clean"])
def test_cut_by_the_upstream_after_every_event(system: System, how: str) -> None:
    key = system.visitor()
    for count in range(EVENTS + 2):
        seen = broken_by_upstream(system, key, f"cut_after={count};cut={how}")
        row, told = settled(system, seen.request_id), line(system, seen.request_id)
        case = f"cut={how} after {count}: {row}"
        assert seen.done == (count >= EVENTS), case
        if seen.done:
            assert is_right(row, told), case
        elif count == 0:
            assert row["status"] == seen.status and seen.status in (502, 503), case
            assert row["input_tokens"] == row["output_tokens"] == row["charge"] == 0, case
        else:
            assert (row["estimate"], row["code"]) == ("cut", "stream_cut"), case
            assert b'"error"' in seen.body, case
            assert row["input_tokens"] > 0 and row["output_tokens"] >= _tokens_seen(count), case


def _tokens_seen(count: int) -> int:
    """What an estimate from text is never below: some for any text, none for none."""
    return int(count > NO_TOKENS)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_the_client_leaves_after_every_event(system: System, how: str) -> None:
    key = system.visitor()
    for count in range(EVENTS):
        with leaving(system.port, key, how) as answer:
            request_id = answer.headers["x-request-id"]
            read_events(answer, count)
        row, told = settled(system, request_id), line(system, request_id)
        case = f"{how} after {count}: {row} {told}"
        if row["estimate"]:
            assert (row["estimate"], row["code"]) == ("hung_up", "hung_up"), case
            assert row["input_tokens"] > 0 and row["output_tokens"] >= _tokens_seen(count), case
        else:
            assert is_right(row, told) and told["finished"], case


def test_a_client_that_leaves_ends_the_upstream_call(system: System) -> None:
    with leaving(system.port, system.visitor(), "close", "endless;pace_ms=5") as answer:
        read_events(answer, 30)
    request_id = answer.headers["x-request-id"]
    assert line(system, request_id)["hung_up"]
    assert settled(system, request_id)["estimate"] == "hung_up"


@contextlib.contextmanager
def leaving(
    port: int, key: str, how: str, fault: str = "pace_ms=8"
) -> Iterator[http.client.HTTPResponse]:
    """A streamed answer whose reader closes the connection when it leaves the scope."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "X-Sandbox-Fault": fault,
    }
    connection.request("POST", CHAT, json.dumps(ASK), headers)
    if how == "reset":
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    answer = connection.getresponse()
    try:
        assert answer.status == 200
        yield answer
    finally:
        answer.close()
        connection.close()


def read_events(answer: http.client.HTTPResponse, count: int) -> None:
    seen = 0
    while seen < count and (text := answer.readline()):
        seen += text.startswith(b"data: ")
