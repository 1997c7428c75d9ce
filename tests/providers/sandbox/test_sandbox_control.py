"""Scripting faults as text, and what a connection must survive between two calls."""

from __future__ import annotations

import http.client
import socket
import statistics
import time

import httpx2
import orjson
import pytest

from providers.sandbox.server import SandboxServer, _make_server
from providers.sandbox.speed import REFUSED, Speed

CHAT = "/openai/v1/chat/completions"
ASK = {"model": "gpt-x", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize(
    "body",
    [b"status=503;times=2", b'"status=503;times=2"', b'{"status": 503, "times": 2}'],
)
def test_a_fault_is_put_as_a_spec_or_as_json(http: httpx2.Client, body: bytes) -> None:
    assert http.put("/_sandbox/faults/openai", content=body).status_code == 200
    statuses = [http.post(CHAT, json=ASK).status_code for _ in range(3)]
    assert statuses == [503, 503, 200]


def test_a_spec_has_a_probability(http: httpx2.Client, sandbox: SandboxServer) -> None:
    sandbox.control("PUT", "faults/openai", "status=500;probability=0.5;seed=3")
    statuses = [http.post(CHAT, json=ASK).status_code for _ in range(40)]
    assert 5 < statuses.count(500) < 35
    sandbox.control("PUT", "faults/openai", "status=500;probability=0.5;seed=3")
    assert [http.post(CHAT, json=ASK).status_code for _ in range(40)] == statuses


@pytest.mark.parametrize(
    "body",
    [b"nonsense", b"times=x", b"status=500;probability=2", b"\xff", b"[1]", b"{", b'"', b"5"],
)
def test_what_is_no_fault_is_refused(http: httpx2.Client, body: bytes) -> None:
    answer = http.put("/_sandbox/faults/openai", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert http.get("/_sandbox/faults").json() == {}


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", "Basic abc", "sk-test"])
def test_a_header_without_a_token_is_no_key(sandbox: SandboxServer, value: str) -> None:
    """Sent by hand: clients refuse to send some of these."""
    head = f"POST /cohere/v2/chat HTTP/1.1\r\nHost: x\r\nAuthorization: {value}\r\n"
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=5) as connection:
        connection.sendall(f"{head}Content-Length: 2\r\n\r\n{{}}".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 401")


def test_the_scheme_of_a_bearer_has_no_case(http: httpx2.Client) -> None:
    headers = {"authorization": "bearer sk-test"}
    assert http.post(CHAT, json=ASK, headers=headers).status_code == 200


def test_idle_connections_outlive_those_of_clients() -> None:
    """aiohttp keeps them for 15 seconds; a server that closes first loses somebody's call."""
    assert _make_server(None).config.timeout_keep_alive > 60


def test_small_answers_are_not_held_back(sandbox: SandboxServer) -> None:
    body = orjson.dumps(ASK)
    connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=5)
    took = []
    for _ in range(20):
        started = time.perf_counter()
        connection.request("POST", CHAT, body, {"Authorization": "Bearer sk-x"})
        connection.getresponse().read()
        took.append(time.perf_counter() - started)
    connection.close()
    assert statistics.median(took) < 0.02, "Nagle's algorithm and delayed ACKs cost 40 ms"


class Transport:
    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("cut", [1, 40, 60])
def test_speed_refuses_a_body_whose_end_it_cannot_find(cut: int) -> None:
    request = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    protocol, transport = Speed(), Transport()
    protocol.connection_made(transport)
    protocol.data_received(request[:cut])
    protocol.data_received(request[cut:])
    assert (transport.written.startswith(REFUSED), transport.closed) == (True, True)


def test_speed_closes_when_told() -> None:
    protocol, transport = Speed(), Transport()
    protocol.connection_made(transport)
    protocol.data_received(b"POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert transport.written.startswith(b"HTTP/1.1 200")
    assert transport.closed
