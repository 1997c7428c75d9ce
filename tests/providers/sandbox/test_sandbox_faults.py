"""Every fault, seen from the far end of a real socket."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.sandbox.faults import NO_FAULT, Cut, FaultBook, FaultError, Script, parse
from providers.sandbox.server import SandboxServer

CHAT = "/openai/v1/chat/completions"
ASK = {"model": "gpt-x", "messages": [{"role": "user", "content": "one two three"}]}
STREAM = {**ASK, "stream": True, "stream_options": {"include_usage": True}}


def ask(http: httpx2.Client, fault: str, body: Any = None) -> httpx2.Response:
    return http.post(CHAT, json=body or ASK, headers={"x-sandbox-fault": fault})


def events(answer: httpx2.Response) -> list[str]:
    return [event for event in answer.text.split("\n\n") if event]


@contextmanager
def plug(sandbox: SandboxServer, fault: str, body: Any = ASK) -> Iterator[socket.socket]:
    """A bare socket with the request sent: what comes back is seen as it comes."""
    document = json.dumps(body).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-test\r\n"
        f"x-sandbox-fault: {fault}\r\ncontent-length: {len(document)}\r\n\r\n"
    )
    with closing(socket.create_connection(("127.0.0.1", sandbox.port), timeout=5)) as sock:
        sock.sendall(head.encode() + document)
        yield sock


def drained(sock: socket.socket) -> bytes:
    """Everything until the far end closes. Raises ConnectionResetError on RST."""
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


# The grammar.


@pytest.mark.parametrize(
    "spec",
    [
        "nonsense",
        "status",
        "status=",
        "status=199",
        "status=600",
        "status=x",
        "retry_after=-1",
        "cut_after",
        "cut=sideways",
        "endless=maybe",
        "huge_body=5 MB",
        "huge_body=-1",
        "example=",
        "wrong_content_type=a\nb",
        "slow_headers;endless",
    ],
)
def test_what_is_no_spec_is_refused(spec: str) -> None:
    with pytest.raises(FaultError):
        parse(spec)


def test_a_spec_says_what_it_says() -> None:
    fault = parse(" status=429 ; retry_after=2;cut_after=0;cut=reset;huge_body=2KB;endless ")
    assert (fault.status, fault.retry_after, fault.cut_after) == (429, 2, 0)
    assert (fault.cut, fault.huge_body, fault.endless) == (Cut.RESET, 2048, True)
    assert parse("") == NO_FAULT


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        parse(text)
    except FaultError as error:
        assert str(error)


@given(st.floats(0, 1), st.integers(0, 99))
def test_chance_is_the_same_for_the_same_seed(probability: float, seed: int) -> None:
    def strikes() -> list[bool]:
        script = Script.read({"status": 500, "probability": probability, "seed": seed})
        return [script.strikes("p", "m") for _ in range(20)]

    assert strikes() == strikes()


@pytest.mark.parametrize("document", [{"status": 500, "flap": 2}, "status=500;flap=2"])
def test_a_flapping_provider_fails_and_recovers_in_turn(document: Any) -> None:
    script = Script.parse(document) if isinstance(document, str) else Script.read(document)
    assert [script.strikes("p", "m") for _ in range(7)] == [
        True,
        True,
        False,
        False,
        True,
        True,
        False,
    ]


def test_the_more_particular_script_wins() -> None:
    book = FaultBook()
    for slug, document in (
        ("*", {"status": 500}),
        ("a", {"spec": "status=501", "times": 1}),
        ("a", {"status": 502, "model": "m"}),
    ):
        book.put(slug, Script.read(document))
    taken = [book.take("a", "m"), book.take("a", "x"), book.take("a", "x"), book.take("b", "x")]
    assert [fault.status for fault in taken] == [502, 501, 500, 500]
    book.clear("*")
    assert book.take("b", "x") == NO_FAULT
    book.clear()
    assert book.take("a", "m") == NO_FAULT


# The control API.


def test_scripted_faults_strike_as_often_as_told(
    sandbox: SandboxServer, http: httpx2.Client
) -> None:
    sandbox.control("PUT", "faults/openai", {"spec": "status=503", "times": 2})
    assert [http.post(CHAT, json=ASK).status_code for _ in range(3)] == [503, 503, 200]
    sandbox.control("PUT", "faults/openai", {"status": 500})
    assert http.post("/groq/v1/chat/completions", json=ASK).status_code == 200
    assert http.post(CHAT, json=ASK).status_code == 500
    assert sandbox.control("GET", "faults") == {"openai": [{"status": 500, "times": None}]}
    assert sandbox.control("DELETE", "faults/openai") == {}
    assert http.post(CHAT, json=ASK).status_code == 200


def test_a_header_for_another_provider_leaves_the_script_standing(
    sandbox: SandboxServer, http: httpx2.Client
) -> None:
    sandbox.control("PUT", "faults/openai", {"status": 503})
    assert ask(http, "status=418;provider=groq").status_code == 503
    assert ask(http, "status=418;provider=openai").status_code == 418


@pytest.mark.parametrize(
    "document",
    [
        [],
        "x",
        {"times": -1},
        {"times": "x"},
        {"flap": -1},
        {"probability": 2},
        {"nonsense": 1},
        {"spec": "huh"},
    ],
)
def test_the_control_api_refuses_nonsense(sandbox: SandboxServer, document: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        sandbox.control("PUT", "faults/openai", document)
    assert sandbox.control("GET", "faults") == {}


def test_a_wrong_header_is_told(http: httpx2.Client) -> None:
    answer = ask(http, "nonsense")
    assert answer.status_code == 400
    assert "nonsense" in answer.json()["error"]


def test_neither_model_nor_prompt_scripts_a_fault(http: httpx2.Client) -> None:
    spec = "status=500;cut_after=1"
    body = {"model": spec, "messages": [{"role": "user", "content": f"x-sandbox-fault: {spec}"}]}
    assert http.post(CHAT, json=body).status_code == 200


# Errors and time.


def test_an_error_with_its_own_code(http: httpx2.Client) -> None:
    answer = ask(http, "status=429;code=insufficient_quota;retry_after=4")
    assert answer.json()["error"]["type"] == "insufficient_quota"
    assert answer.headers["retry-after"] == "4"


def test_mistral_words_its_errors_in_its_own_way(http: httpx2.Client) -> None:
    path, headers = "/mistral/v1/chat/completions", {"authorization": "Bearer sk-bad"}
    assert http.post(path, json=ASK, headers=headers).json() == {"detail": "Invalid API Key"}
    fault = {"x-sandbox-fault": "status=429"}
    assert http.post(path, json=ASK, headers=fault).json()["object"] == "error"


def test_gemini_tells_the_wait_in_the_body(http: httpx2.Client) -> None:
    answer = http.post(
        "/gemini/v1beta/models/m:generateContent",
        json={"contents": [{"parts": [{"text": "x"}]}]},
        headers={"x-sandbox-fault": "status=429;retry_after=4"},
    )
    assert "retry-after" not in answer.headers
    assert answer.json()["error"]["details"][-1]["retryDelay"] == "4s"


def test_delay(http: httpx2.Client) -> None:
    started = time.monotonic()
    assert ask(http, "delay_ms=150").status_code == 200
    assert time.monotonic() - started >= 0.15


def test_pace(http: httpx2.Client) -> None:
    started = time.monotonic()
    answer = http.post(CHAT, json=STREAM, headers={"x-sandbox-pace-ms": "20"})
    assert len(events(answer)) == 9
    assert time.monotonic() - started >= 8 * 0.02


def test_no_first_byte(sandbox: SandboxServer) -> None:
    with plug(sandbox, "no_first_byte") as sock:
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_slow_headers(sandbox: SandboxServer) -> None:
    started = time.monotonic()
    with plug(sandbox, "slow_headers=200") as sock:
        first = sock.recv(65536)
        assert first.startswith(b"HTTP/1.1 ")
        assert b"\r\n\r\n" not in first
        rest = first + drained(sock)
    assert time.monotonic() - started >= 0.2
    assert json.loads(rest.partition(b"\r\n\r\n")[2])["object"] == "chat.completion"


# Cuts.


def test_a_closed_stream_has_no_end(sandbox: SandboxServer) -> None:
    with plug(sandbox, "cut_after=3", STREAM) as sock:
        got = drained(sock)
    assert got.count(b"data: ") == 3
    assert not got.endswith(b"0\r\n\r\n")


def test_a_reset_stream_breaks(sandbox: SandboxServer) -> None:
    with (
        plug(sandbox, "cut_after=3;cut=reset", STREAM) as sock,
        pytest.raises(ConnectionResetError),
    ):
        drained(sock)


def test_a_stream_cut_in_the_middle_of_an_event(sandbox: SandboxServer) -> None:
    with plug(sandbox, "cut_after=3;cut=mid", STREAM) as sock:
        got = drained(sock)
    assert got.count(b"data: ") == 4
    assert not got.endswith(b"\n\n\r\n")


def test_a_cleanly_cut_stream_lacks_its_events_alone(http: httpx2.Client) -> None:
    answer = ask(http, "cut_after=3;cut=clean", STREAM)
    assert len(events(answer)) == 3
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize("cut", ["close", "mid"])
def test_a_cut_whole_answer_is_shorter_than_it_says(http: httpx2.Client, cut: str) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        ask(http, f"cut_after=1;cut={cut}")


def test_a_cut_before_the_first_event(sandbox: SandboxServer) -> None:
    with plug(sandbox, "cut_after=0", STREAM) as sock:
        got = drained(sock)
    assert got.startswith(b"HTTP/1.1 200")
    assert b"data:" not in got


def test_a_cut_after_the_end_is_none(http: httpx2.Client) -> None:
    assert ask(http, "cut_after=99", STREAM).text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("body", [ASK, STREAM])
def test_a_stall_keeps_the_connection(sandbox: SandboxServer, body: Any) -> None:
    with plug(sandbox, "stall_after=2", body) as sock:
        sock.settimeout(0.3)
        got = b""
        with pytest.raises(TimeoutError):
            while True:
                got += sock.recv(65536)
    assert got.count(b"data: ") == (2 if body is STREAM else 0)


# Bodies.


@pytest.mark.parametrize("fault", ["malformed_json", "truncated_json"])
def test_bodies_that_are_no_json(http: httpx2.Client, fault: str) -> None:
    answer = ask(http, fault)
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_malformed_sse(http: httpx2.Client) -> None:
    got = events(ask(http, "malformed_sse=2", STREAM))
    with pytest.raises(json.JSONDecodeError):
        json.loads(got[2].removeprefix("data: "))
    assert got[-1] == "data: [DONE]"
    assert ask(http, "malformed_sse", STREAM).text.startswith('data: {"broken"')


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        (CHAT, STREAM, '"server_error"'),
        ("/anthropic/v1/messages", {**ASK, "max_tokens": 9, "stream": True}, "overloaded_error"),
        (
            "/gemini/v1beta/models/m:streamGenerateContent?alt=sse",
            {"contents": [{"parts": [{"text": "x"}]}]},
            '"UNAVAILABLE"',
        ),
        ("/cohere/v2/chat", {**ASK, "stream": True}, '"finish_reason":"ERROR"'),
    ],
)
def test_an_error_event_ends_the_stream(
    http: httpx2.Client, path: str, body: Any, word: str
) -> None:
    answer = http.post(path, json=body, headers={"x-sandbox-fault": "error_event=2"})
    assert answer.status_code == 200
    last = answer.text.replace("\r\n", "\n").strip().split("\n\n")
    assert len(last) == 3
    assert word in last[-1]


@pytest.mark.parametrize("body", [ASK, STREAM])
def test_endless(sandbox: SandboxServer, body: Any) -> None:
    with plug(sandbox, "endless", body) as sock:
        size = 0
        while size < 1_000_000:
            size += len(sock.recv(65536))


def test_a_huge_body_is_as_big_as_told(http: httpx2.Client) -> None:
    whole = ask(http, "huge_body=3MB")
    assert 3 * 1024**2 < len(whole.content) < 3 * 1024**2 + 100
    assert set(whole.json()) == {"padding"}
    streamed = ask(http, "huge_body=3MB", STREAM)
    assert max(map(len, events(streamed))) > 3 * 1024**2
    assert events(streamed)[-1] == "data: [DONE]"


@pytest.mark.parametrize("body", [ASK, STREAM])
def test_a_gzip_bomb(sandbox: SandboxServer, body: Any) -> None:
    with plug(sandbox, "gzip_bomb=5MB", body) as sock:
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        packed = answer.read()
    assert answer.headers["content-encoding"] == "gzip"
    assert len(packed) < 50_000
    assert len(gzip.decompress(packed)) == 5 * 1024**2


@pytest.mark.parametrize("body", [ASK, STREAM])
def test_wrong_content_types_pages_and_nothing(http: httpx2.Client, body: Any) -> None:
    assert ask(http, "wrong_content_type", body).headers["content-type"] == "text/html"
    told = ask(http, "wrong_content_type=text/plain", body)
    assert told.headers["content-type"] == "text/plain"
    assert "three" in told.text
    page = ask(http, "html;status=502", body)
    assert (page.status_code, page.headers["content-type"][:9]) == (502, "text/html")
    assert ask(http, "html", body).status_code == 200
    assert ask(http, "empty_body", body).content == b""


@pytest.mark.parametrize("body", [ASK, STREAM])
@pytest.mark.parametrize("path", [CHAT, "/anthropic/v1/messages", "/cohere/v2/chat"])
def test_no_usage(http: httpx2.Client, path: str, body: Any) -> None:
    asked = {**body, "max_tokens": 9}
    for fault, told in (("no_usage", False), ("pace_ms=0", True)):
        answer = http.post(path, json=asked, headers={"x-sandbox-fault": fault})
        assert ("tokens" in answer.text) is told, answer.text
