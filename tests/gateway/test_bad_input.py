"""Bad input gets a clear problem and changes nothing: no row, no crash, no upstream call."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.services.system import System

CHAT = "/api/v1/chat/completions"
GOOD = {"model": "lab-chat", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def client(system: System) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {system.keys['acme/test']}"}
    with httpx2.Client(base_url=system.url, headers=headers, timeout=20) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_changed(system: System) -> Iterator[None]:
    """Refused calls leave no trace in the ledger."""
    count = "SELECT count(*) AS n FROM usage_usagerecord"
    before = system.rows(count)
    yield
    assert system.rows(count) == before


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    body = answer.json()
    error = body.get("error", body)
    assert error["code"] == code
    assert error["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    return error


BROKEN = {
    "broken JSON": b'{"model": "lab-chat", "messages": [',
    "no JSON at all": b"hello",
    "empty body": b"",
    "a list": b"[]",
    "a number": b"17",
    "NaN": b'{"model": "lab-chat", "messages": [], "temperature": NaN}',
    "Infinity": b'{"model": "lab-chat", "messages": [], "temperature": Infinity}',
    "a lone surrogate": b'{"model": "lab-chat", "messages": [{"role":"user","content":"\\ud800"}]}',
    "invalid UTF-8": b'{"model": "lab-chat\xff"}',
    "100,000 levels": b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "1,000 levels": b'{"x": ' + b"[" * 1_000 + b"]" * 1_000 + b"}",
    "10,000 objects deep": b'{"x":' * 10_000 + b"1" + b"}" * 10_000,
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_bytes_that_are_no_request(client: httpx2.Client, body: bytes) -> None:
    answer = client.post(CHAT, content=body, headers={"content-type": "application/json"})
    problem(answer, 400, "invalid_request")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no messages": ({"model": "lab-chat"}, "messages"),
    "no model": ({"messages": GOOD["messages"]}, "model"),
    "messages is a text": ({**GOOD, "messages": "hello"}, "messages"),
    "messages is empty": ({**GOOD, "messages": []}, "messages"),
    "a message is a number": ({**GOOD, "messages": [1]}, "messages.0"),
    "an unknown role": (
        {**GOOD, "messages": [{"role": "king", "content": "x"}]},
        "messages.0.role",
    ),
    "model is a number": ({**GOOD, "model": 3}, "model"),
    "stream is a text": ({**GOOD, "stream": "yes"}, "stream"),
    "temperature out of range": ({**GOOD, "temperature": 7}, "temperature"),
    "no tokens": ({**GOOD, "max_tokens": 0}, "max_tokens"),
    "two answers": ({**GOOD, "n": 2}, "n"),
}


@pytest.mark.parametrize(("body", "param"), WRONG.values(), ids=WRONG.keys())
def test_the_wrong_field_is_named(client: httpx2.Client, body: dict[str, Any], param: str) -> None:
    error = problem(client.post(CHAT, json=body), 400, "invalid_request")
    assert error["param"] == param
    assert error["errors"][0]["pointer"] == "/" + param.replace(".", "/")


def test_an_unknown_model(client: httpx2.Client) -> None:
    problem(client.post(CHAT, json={**GOOD, "model": "nobody/nothing"}), 404, "not_found")


@pytest.mark.parametrize("path", ["/api/v1/finance/astrology", "/api/v1/nothing", "/api/nothing"])
def test_an_unknown_operation(client: httpx2.Client, path: str) -> None:
    answer = client.get(path)
    problem(answer, 404, "not_found")
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_a_missing_parameter(client: httpx2.Client) -> None:
    answer = client.get("/api/v1/finance/quote")
    error = problem(answer, 400, "invalid_request")
    assert error["errors"] == [{"detail": "This is required.", "pointer": "/symbol"}]
    assert answer.headers["content-type"] == "application/problem+json"
    assert error["type"].endswith("#invalid_request")
    assert error["status"] == 400


@pytest.mark.parametrize(
    "query",
    [
        "lat=north&lon=1",
        "lat=NaN&lon=1",
        "lat=1",
        "lat=1&lon=1&lat=2",
        "lat=999&lon=1",
        "lat=1&lon=1&x=1",
    ],
)
def test_wrong_query_parameters(client: httpx2.Client, query: str) -> None:
    problem(client.get(f"/api/v1/weather/current?{query}"), 400, "invalid_request")


def test_a_query_that_is_no_utf8(client: httpx2.Client) -> None:
    problem(client.get("/api/v1/geo/geocode?q=%ff%fe"), 400, "invalid_request")


def test_ten_megabytes(client: httpx2.Client) -> None:
    body = {**GOOD, "messages": [{"role": "user", "content": "x" * 10_000_000}]}
    problem(client.post(CHAT, json=body), 413, "payload_too_large")


def test_ten_megabytes_that_do_not_say_so(client: httpx2.Client) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"model": "'
        for _ in range(160):
            yield b"x" * 65_536

    headers = {"content-type": "application/json"}
    problem(client.post(CHAT, content=chunks(), headers=headers), 413, "payload_too_large")


def test_a_compressed_request(client: httpx2.Client) -> None:
    body = gzip.compress(json.dumps(GOOD).encode())
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    problem(client.post(CHAT, content=body, headers=headers), 415, "unsupported_media_type")


def test_another_content_type(client: httpx2.Client) -> None:
    headers = {"content-type": "text/plain"}
    answer = client.post(CHAT, content=json.dumps(GOOD), headers=headers)
    problem(answer, 415, "unsupported_media_type")


def test_headers_too_large(client: httpx2.Client) -> None:
    answer = client.post(CHAT, json=GOOD, headers={"x-padding": "x" * 40_000})
    assert answer.status_code in (400, 431)
    assert "Traceback" not in answer.text


def test_the_wrong_method_says_which_is_right(client: httpx2.Client) -> None:
    answer = client.get(CHAT)
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_two_credentials_at_once(client: httpx2.Client, system: System) -> None:
    answer = client.post(CHAT, json=GOOD, headers={"x-api-key": system.keys["acme/test"]})
    problem(answer, 401, "unauthenticated")


@pytest.mark.parametrize("deadline", ["0", "-1", "soon", "1e3", "99999999999"])
def test_a_deadline_that_is_none(client: httpx2.Client, deadline: str) -> None:
    answer = client.post(CHAT, json=GOOD, headers={"x-patchbay-deadline-ms": deadline})
    problem(answer, 400, "invalid_request")


def test_a_field_that_no_dialect_of_the_route_can_express(client: httpx2.Client) -> None:
    body = {**GOOD, "model": "lab2/claude-y", "logit_bias": {"50256": -100}}
    error = problem(client.post(CHAT, json=body), 400, "invalid_request")
    assert error["param"] == "logit_bias"


def test_half_a_request_and_then_silence_leaves_nothing_behind(system: System) -> None:
    with socket.create_connection(("127.0.0.1", system.port)) as client:
        client.sendall(
            b"POST /api/v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: "
            + system.keys["acme/test"].encode()
            + b"\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"
        )
