"""The journal is the oracle of the kill tests: what it says of a call must be so."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from providers.sandbox.server import SandboxServer

CHAT = "/openai/v1/chat/completions"
ASK = {"model": "gpt-x", "messages": [{"role": "user", "content": "one two three"}]}
STREAM = {**ASK, "stream": True}
Lines = Callable[[str], list[dict[str, Any]]]


def sent(sandbox: SandboxServer, request_id: str, body: Any, **headers: str) -> socket.socket:
    """A connection with the request on it."""
    document = json.dumps(body).encode()
    told = {"authorization": "Bearer x", "x-client-request-id": request_id, **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in told.items())
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\n{lines}content-length: {len(document)}\r\n\r\n"
    sock = socket.create_connection(("127.0.0.1", sandbox.port), timeout=5)
    sock.sendall(head.encode() + document)
    return sock


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(("body", "events"), [(ASK, 0), (STREAM, 8)])
def test_a_finished_call(
    http: httpx2.Client, journal: Lines, body: Any, events: int, request: pytest.FixtureRequest
) -> None:
    name = request.node.name
    http.post(CHAT, json=body, headers={"x-client-request-id": name})
    (line,) = journal(name)
    assert line["finished"] is True
    assert line["hung_up"] is False
    assert (line["input_tokens"], line["output_tokens"]) == (3, 5)
    assert line["events_sent"] == events
    assert (line["provider"], line["model"]) == ("openai", "gpt-x")
    assert (line["operation"], line["stream"]) == ("chat.completions", events > 0)
    assert line["started_at"] <= line["ended_at"]


def test_what_the_client_saw_is_what_was_written(http: httpx2.Client, journal: Lines) -> None:
    for index in range(50):
        body = {**STREAM, "stream_options": {"include_usage": True}}
        answer = http.post(CHAT, json=body, headers={"x-client-request-id": f"seen-{index}"})
        assert answer.text.endswith("data: [DONE]\n\n")
        (line,) = journal(f"seen-{index}")
        usage = json.loads(answer.text.split("\n\n")[-3].removeprefix("data: "))["usage"]
        assert line["finished"] is True
        assert line["output_tokens"] == usage["completion_tokens"]


@pytest.mark.parametrize("end", [b'"finish_reason":"stop"', b"[DONE]"])
def test_a_client_that_leaves_after_the_last_byte_did_not_hang_up(
    sandbox: SandboxServer, journal: Lines, end: bytes
) -> None:
    """The closing chunk goes out with the last event: who has read the one has had the other."""
    for index in range(20):
        name = f"leaves-{end!r}-{index}"
        sock = sent(sandbox, name, STREAM, x_sandbox_pace_ms="1")
        got = b""
        while end not in got:
            got += sock.recv(65536)
        sock.close()
        (line,) = journal(name)
        if end == b"[DONE]":
            assert (line["finished"], line["hung_up"]) == (True, False)
        assert line["finished"] is not line["hung_up"]


@pytest.mark.parametrize("pace", ["0", "10"])
@pytest.mark.parametrize("reset", [True, False])
def test_a_hang_up_is_seen_within_100_ms(
    sandbox: SandboxServer, journal: Lines, pace: str, reset: bool
) -> None:
    name = f"hung-up-{pace}-{reset}"
    sock = sent(sandbox, name, STREAM, x_sandbox_fault="endless", x_sandbox_pace_ms=pace)
    got = sock.recv(65536)
    assert got
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    left = time.time()
    sock.close()
    (line,) = journal(name)
    assert (line["finished"], line["hung_up"]) == (False, True)
    ended = time.mktime(time.strptime(line["ended_at"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert ended + int(line["ended_at"][20:23]) / 1000 - left < 0.1
    assert line["events_sent"] > 0


@pytest.mark.parametrize("fault", ["no_first_byte", "delay_ms=60000", "stall_after=2"])
@pytest.mark.parametrize("body", [ASK, STREAM])
def test_a_hang_up_is_seen_while_nothing_is_sent(
    sandbox: SandboxServer, journal: Lines, fault: str, body: Any
) -> None:
    name = f"silent-{fault}-{body is STREAM}"
    sock = sent(sandbox, name, body, x_sandbox_fault=fault)
    until(lambda: sandbox.control("GET", "calls")["in_flight"] == 1)
    sock.close()
    (line,) = journal(name)
    assert (line["finished"], line["hung_up"]) == (False, True)
    if "stall" not in fault:
        assert line["output_tokens"] == 0


@pytest.mark.parametrize("body", [ASK, STREAM])
def test_a_client_that_takes_nothing_and_leaves_has_hung_up(
    sandbox: SandboxServer, journal: Lines, body: Any
) -> None:
    name = f"takes-nothing-{body is STREAM}"
    sock = sent(sandbox, name, body, x_sandbox_fault="huge_body=50MB")
    assert sock.recv(1)
    sock.close()
    (line,) = journal(name)
    assert (line["finished"], line["hung_up"]) == (False, True)


@pytest.mark.parametrize("cut", ["close", "reset", "mid", "clean"])
@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_tokens_are_counted_up_to_the_cut(
    sandbox: SandboxServer, journal: Lines, cut: str, after: int
) -> None:
    name = f"cut-{cut}-{after}"
    sock = sent(sandbox, name, STREAM, x_sandbox_fault=f"cut_after={after};cut={cut}")
    (line,) = journal(name)
    sock.close()
    assert line["events_sent"] == after
    assert line["output_tokens"] == max(0, after - 1), "the first event has the role alone"
    assert (line["finished"], line["hung_up"]) == (False, False), "the answer is not whole"


def test_errors_bill_nothing(http: httpx2.Client, journal: Lines) -> None:
    headers = {"x-client-request-id": "refused", "x-sandbox-fault": "status=429"}
    http.post(CHAT, json=ASK, headers=headers)
    (line,) = journal("refused")
    assert (line["status"], line["input_tokens"], line["output_tokens"]) == (429, 0, 0)


def test_embeddings_and_data_calls_are_written_down(http: httpx2.Client, journal: Lines) -> None:
    body = {"model": "e", "input": ["one two", "three"]}
    http.post("/openai/v1/embeddings", json=body, headers={"x-client-request-id": "embedded"})
    (line,) = journal("embedded")
    assert (line["operation"], line["input_tokens"]) == ("embeddings", 3)
    path = "/frankfurter/v1/latest?base=EUR&symbols=SEK"
    http.get(path, headers={"x-client-request-id": "rate"})
    (line,) = journal("rate")
    assert (line["operation"], line["provider"]) == ("finance.fx_rate", "frankfurter")


def test_two_attempts_of_one_request_are_two_lines(http: httpx2.Client, journal: Lines) -> None:
    for provider in ("openai", "groq"):
        path = f"/{provider}/v1/chat/completions"
        http.post(path, json=ASK, headers={"x-client-request-id": "twice"})
    until(lambda: len(journal("twice")) == 2)
    assert {line["provider"] for line in journal("twice")} == {"openai", "groq"}


def test_calls_under_way_are_told(sandbox: SandboxServer, journal: Lines) -> None:
    sock = sent(sandbox, "waiting", ASK, x_sandbox_fault="no_first_byte")
    until(lambda: sandbox.control("GET", "calls")["in_flight"] == 1)
    sandbox.control("POST", "reset")
    told = sandbox.control("GET", "calls?request_id=waiting")
    assert told["providers"]["openai"]["in_flight"] == 1
    assert told["requests"][0]["ended_at"] is None
    sock.close()
    journal("waiting")
    until(lambda: sandbox.control("GET", "calls")["in_flight"] == 0)
    told = sandbox.control("GET", "calls?provider=openai")
    assert told["providers"]["openai"] == {
        **{"calls": 1, "hung_up": 1, "faults": 1, "status_0": 1, "in_flight": 0}
    }
    assert told["requests"][0]["hung_up"] is True


@pytest.mark.unmeasured
def test_many_at_once_are_all_written_once(http: httpx2.Client, sandbox: SandboxServer) -> None:
    def one(index: int) -> int:
        headers = {"x-client-request-id": f"many-{index}", "x-sandbox-pace-ms": "1"}
        return http.post(CHAT, json=STREAM, headers=headers).status_code

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(one, range(200))) == {200}
    until(lambda: sandbox.control("GET", "calls")["in_flight"] == 0)
    told = sandbox.control("GET", "calls")
    assert told["providers"]["openai"]["finished"] == 200
    assert len({each["request_id"] for each in told["requests"]}) == 200


def test_a_journal_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal"
    for _ in range(2):
        with SandboxServer(path) as server:
            headers = {"authorization": "Bearer x"}
            assert httpx2.post(server.url + CHAT, json=ASK, headers=headers).status_code == 200
    assert [json.loads(line)["finished"] for line in path.read_text().splitlines()] == [True, True]
