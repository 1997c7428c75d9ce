"""The server's side of a connection: nothing is lost, doubled or held back by writing once a turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from config.http import MOST_HELD, OnceATurn, Protocol
from tests.loops import on_loop

Writer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Wire:
    """Stands where the socket does."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.open = True
        self.name = "wire"

    def write(self, data: bytes) -> None:
        assert self.open
        self.written.append(data)

    def close(self) -> None:
        self.open = False

    def is_closing(self) -> bool:
        return not self.open

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def together(wire: Wire) -> OnceATurn:
    return OnceATurn(wire, asyncio.get_running_loop())  # type: ignore[arg-type]


@on_loop
async def test_what_one_turn_says_leaves_in_one_write_and_in_order() -> None:
    wire = Wire()
    transport = together(wire)
    for part in (b"head ", b"body ", b"end"):
        transport.write(part)
    assert wire.written == []
    await asyncio.sleep(0)
    assert wire.written == [b"head body end"]
    transport.write(b"more")
    await asyncio.sleep(0)
    assert wire.written == [b"head body end", b"more"]


@on_loop
async def test_what_was_written_leaves_before_the_end() -> None:
    wire = Wire()
    transport = together(wire)
    transport.write(b"last words")
    transport.close()
    assert wire.written == [b"last words"]
    assert not wire.open
    await asyncio.sleep(0)
    assert wire.written == [b"last words"]


@on_loop
async def test_much_is_not_held() -> None:
    wire = Wire()
    transport = together(wire)
    transport.write(b"x" * MOST_HELD)
    assert wire.written == []
    transport.write(b"y")
    assert wire.written == [b"x" * MOST_HELD + b"y"]


@on_loop
async def test_nothing_is_written_to_a_client_who_left() -> None:
    wire = Wire()
    transport = together(wire)
    transport.write(b"hello?")
    wire.open = False
    await asyncio.sleep(0)
    assert wire.written == []
    assert transport.name == "wire"


@asynccontextmanager
async def served(application: Callable[..., Any]) -> AsyncIterator[Callable[[], Any]]:
    """Ways to connect to a server with that application behind our protocol."""
    config = uvicorn.Config(application, http=Protocol, ws="none", lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: Protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    opened: list[asyncio.StreamWriter] = []

    async def connect() -> Writer:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        opened.append(writer)
        return reader, writer

    yield connect
    for writer in opened:
        writer.close()
    server.close()


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answers with the path, as many times as the query says, in parts."""
    times = int(scope["query_string"] or 1)
    part = scope["path"].encode()
    length = str(len(part) * times).encode()
    headers = [(b"content-length", length)] if scope["method"] == "GET" else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(times):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return await asyncio.wait_for(reader.readexactly(length), 5)


@on_loop
async def test_pipelined_requests_are_answered_each_and_in_order() -> None:
    async with served(echo) as connect:
        reader, writer = await connect()
        paths = [b"/%d" % number for number in range(20)]
        writer.write(b"".join(b"GET %s?3 HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in paths))
        assert [await answer(reader) for _ in paths] == [path * 3 for path in paths]


@pytest.mark.parametrize("times", [1, 100_000])
@on_loop
async def test_an_answer_that_ends_the_connection_is_whole(times: int) -> None:
    async with served(echo) as connect:
        reader, writer = await connect()
        writer.write(b"GET /whole?%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % times)
        told = await asyncio.wait_for(reader.read(-1), 10)
        assert told.partition(b"\r\n\r\n")[2] == b"/whole" * times


@on_loop
async def test_a_stream_that_waits_has_sent_what_it_said() -> None:
    go_on = asyncio.Event()

    async def slow(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"second"})

    async with served(slow) as connect:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n5\r\nfirst\r\n"), 5)
        go_on.set()
        await asyncio.wait_for(reader.readuntil(b"6\r\nsecond\r\n0\r\n\r\n"), 5)


@on_loop
async def test_a_client_that_does_not_read_is_waited_for() -> None:
    """What it has not taken stays bounded: the application is held up instead."""
    sent = 0

    async def endless(scope: dict[str, Any], receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 4096, "more_body": True})
            sent += 4096
            await asyncio.sleep(0)

    async with served(endless) as connect:
        _, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        before = -1
        while sent != before or not sent:
            before = sent
            await asyncio.sleep(0.05)
        assert sent < 32 * 1024 * 1024
