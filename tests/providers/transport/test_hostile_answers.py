"""Our own client against answers that are made to exhaust or confuse it. aiohttp is more
lenient with some, and is left out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from itertools import pairwise

import pytest
from httptools import HttpParserError, HttpRequestParser
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.call import UpstreamRequest, Verdict
from providers.transport import TransportFault
from providers.transport.destination import Destination, destination_of
from providers.transport.wire import Answer, Connection, request_bytes
from tests.loops import on_loop
from tests.providers.transport.calls import HEAD, fault_of, meeting, ours_only, read
from tests.providers.upstreams import Connection as Peer
from tests.providers.upstreams import Handler, always, answer, chunked, once

OK = b"HTTP/1.1 200 OK\r\n"
FLOOD = 20_000_000

pytestmark = ours_only


@pytest.mark.parametrize(
    "handler",
    [
        once(OK + b"A: b\r\n folded\r\nContent-Length: 0\r\n\r\n"),
        once(OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
        once(OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
        once(OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
        once(OK + b"Transfer-Encoding: gzip\r\n\r\nab"),
        once(OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
        once(OK + b"Content-Length: 2, 2\r\n\r\nab"),
        once(OK + b"Content-Length: +2\r\n\r\nab"),
        once(OK + b"Content-Length: 0x2\r\n\r\nab"),
        once(OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nab"),
        once(OK + b"Content-Length : 2\r\n\r\nab"),
        once(OK + b"X: a\0b\r\nContent-Length: 2\r\n\r\nab"),
        once(OK + b"\r\n".join(b"X-%d: y" % n for n in range(300)) + b"\r\n\r\n"),
        once(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nab"),
        once(b"HTTP/1.1 199 What\r\n\r\n" + answer(b"ab")),
        once(b"HTTP/1.1 099 Low\r\nContent-Length: 2\r\n\r\nab"),
        once(b"HTTP/1.1 -20 Low\r\nContent-Length: 2\r\n\r\nab"),
        once(b"HTTP/1.1 103 Early\r\n\r\n" * 100_000),
        once(b"HTTP/1.1 " + b"200 " + b"O" * FLOOD),
        once(OK + b"X-" + b"y" * FLOOD),
    ],
    ids=["folded", "length and chunks", "chunks and length", "not chunked last", "only gzip",
         "hidden chunked", "lengths", "signed", "hexadecimal", "beyond 64 bits", "blank in name",
         "nul", "300 headers", "upgrade", "199", "099", "negative", "early for ever",
         "endless reason", "endless name"],
)  # fmt: skip
@on_loop
async def test_what_is_not_well_framed_is_no_answer(handler: Handler) -> None:
    async with meeting(handler) as (transport, server):
        async with asyncio.timeout(5):
            assert await fault_of(read(transport, server.get())) is Verdict.UNREACHABLE


@pytest.mark.parametrize(
    "start",
    [b"2;x=", b"0\r\nX: ", b"0\r\nX", b"f" * 17 + b"\r\n", b"0" * 100_000],
    ids=["extension", "trailer", "trailer name", "65 bits", "zeros"],
)
@on_loop
async def test_what_makes_no_byte_of_a_body_has_its_bound(start: bytes) -> None:
    sent = 0

    async def flood(connection: Peer) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(HEAD + start)
        while not connection.writer.is_closing() and sent < FLOOD:
            await connection.send(b"0" * 65536)
            sent += 65536
            await asyncio.sleep(0)

    async with meeting(flood) as (transport, server):
        assert await fault_of(read(transport, server.get())) is Verdict.UNREACHABLE
        assert sent < FLOOD


@on_loop
async def test_trailers_and_extensions_are_read_over() -> None:
    body = b"2;name=value\r\nab\r\n0\r\nX-Late: 1\r\n\r\n"
    async with meeting(always(HEAD + body)) as (transport, server):
        for _ in range(2):
            assert await read(transport, server.get()) == b"ab"
        assert len(server.connections) == 1


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@on_loop
async def test_an_answer_that_has_no_body_has_none_whatever_it_says(status: bytes) -> None:
    sneaky = b"HTTP/1.1 " + status + b"\r\nContent-Length: 20\r\n\r\n"
    async with meeting(always(sneaky)) as (transport, server):
        for _ in range(2):
            assert await read(transport, server.get()) == b""


# Any bytes, in any pieces


class _Owner:
    def __init__(self) -> None:
        self.back: list[bool] = []

    def take_back(self, connection: Connection, *, reusable: bool) -> None:
        self.back.append(reusable)

    def forget(self, connection: Connection) -> None: ...


class _Wire(asyncio.Transport):
    """Takes what is written, and is closed once it is aborted."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = False

    def write(self, data: object) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def outcome(pieces: list[bytes]) -> tuple[int, bytes, bool]:
    """Status, body, and whether it came whole, of an answer that comes in these pieces."""

    async def run() -> tuple[int, bytes, bool]:
        owner, body = _Owner(), b""
        connection = Connection(owner)
        connection.connection_made(_Wire())
        response = Answer(connection, idle=5)
        connection.ask(response, b"")
        for piece in pieces:
            connection.data_received(piece)
        connection.eof_received()
        connection.connection_lost(None)
        assert len(owner.back) == 1  # the place came back, and only once
        whole = False
        with contextlib.suppress(TransportFault):
            await response.head()
            async for chunk in response.chunks():
                body += chunk
            whole = True
        return response.status, body, whole

    return asyncio.run(run())


def split(whole: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(whole) + 1) for cut in cuts} | {0, len(whole)})
    return [whole[a:b] for a, b in pairwise(places)]


BODIES = st.lists(st.binary(min_size=1, max_size=30), max_size=4)
CUTS = st.lists(st.integers(0, 500), max_size=6)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    parts = draw(BODIES)
    whole = draw(st.sampled_from([chunked(*parts), answer(b"".join(parts))]))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(whole)))
        new = draw(st.sampled_from([b"", b"\r\n", b"\0", b" ", b"0", b":", b"HTTP/1.1 ", b"\xff"]))
        whole = whole[:at] + new + whole[at + draw(st.integers(0, 4)) :]
    return whole


@settings(max_examples=150, deadline=None)
@given(BODIES, CUTS, st.booleans())
def test_pieces_change_nothing(parts: list[bytes], cuts: list[int], in_chunks: bool) -> None:
    whole = chunked(*parts) if in_chunks else answer(b"".join(parts))
    assert outcome(split(whole, cuts)) == (200, b"".join(parts), True)
    cut_off = outcome(split(whole[:-1], cuts))
    assert not cut_off[2] or (not in_chunks and not parts)


@settings(max_examples=150, deadline=None)
@given(mutated() | st.binary(max_size=200), CUTS)
def test_no_bytes_do_more_than_fail(whole: bytes, cuts: list[int]) -> None:
    """And in whatever pieces they come, they mean the same."""
    told, at_once = outcome(split(whole, cuts)), outcome([whole])
    assert told[2] == at_once[2]
    if told[2]:
        assert told == at_once


# What goes out

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
NAMES = st.text("abcXYZ-_:\r\n \0é", max_size=8) | st.sampled_from(["host", "content-length"])


class _Seen:
    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = self.body = b""
        self.messages = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.messages += 1


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["GET", "POST", "PUT", "get", "GET / HTTP/1.1\r\n", ""]),
    st.dictionaries(NAMES, TEXT, max_size=4),
    st.none() | st.binary(max_size=40),
)
def test_whatever_is_asked_leaves_as_one_request_or_not_at_all(
    method: str, headers: dict[str, str], body: bytes | None
) -> None:
    destination = destination_of("https://api.example/v1?a=b")
    try:
        sent = request_bytes(UpstreamRequest(method, "", headers, body), destination)
    except ValueError:
        return
    seen = _Seen()
    with contextlib.suppress(HttpParserError):  # llhttp takes fewer characters than we do
        HttpRequestParser(seen).feed_data(sent)
        assert seen.messages == 1
        assert seen.body == (body or b"")
        assert seen.url == b"/v1?a=b"
    assert seen.messages <= 1
    names = [name.lower() for name, _ in seen.headers]
    assert len(names) == len(set(names))
    given_names = {name.lower().encode() for name in headers}
    assert set(names) <= given_names | {b"host", b"accept", b"content-length"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a.example", Destination(False, "a.example", 80, "a.example", "/")),
        ("HTTPS://A.example:443/x", Destination(True, "a.example", 443, "a.example", "/x")),
        ("https://a.example:80?q", Destination(True, "a.example", 80, "a.example:80", "/?q")),
        ("http://[2001:db8::1]:81/#f", Destination(False, "2001:db8::1", 81, "[2001:db8::1]:81", "/")),
        ("http://bücher.example/", Destination(False, "xn--bcher-kva.example", 80, "xn--bcher-kva.example", "/")),
    ],
)  # fmt: skip
def test_a_url_leads_where_it_says(url: str, expected: Destination) -> None:
    assert destination_of(url) == expected


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=20), st.text("ab.:/@?#[]%\\\r\n\t 1é", max_size=20))
def test_any_other_text_is_refused_or_leads_to_one_plain_host(any_text: str, hostly: str) -> None:
    for url in (any_text, "http://" + hostly, "https://" + any_text):
        try:
            found = destination_of(url)
        except ValueError:
            continue
        assert found.host and found.host.isascii()
        assert not set(found.host) & set("/?#@\\%")
        assert not set(found.host + found.path) & set("\r\n\t \0")
        assert found.path.startswith("/")


@pytest.fixture(autouse=True)
def fresh_cache() -> Iterator[None]:
    yield
    destination_of.cache_clear()
