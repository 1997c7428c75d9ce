"""What becomes of connections: when callers leave at any instant, when servers close them
between two calls, when answers come early, late, or without end."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import Any

import pytest

from providers.call import UpstreamRequest, Verdict
from providers.timeouts import Timeouts
from providers.transport import Http1Transport, TransportFault, http1
from tests.loops import eventually, on_loop
from tests.providers.transport.calls import HEAD, Subject, fault_of, meeting, ours_only, read, send
from tests.providers.upstreams import Connection, Server, always, answer, chunked, once, serving

UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"


def open_connections(server: Server) -> int:
    return sum(not connection.hung_up_at for connection in server.connections)


async def own_path(connection: Connection) -> None:
    """Answers every request with its path, in one piece or in chunks, at once or in drops."""
    pick = random.Random(len(connection.server.connections))
    while request := await connection.request():
        body = request.split(b" ")[1] * 40
        whole = pick.choice([answer(body), chunked(body[:9], body[9:])])
        for at in range(0, len(whole), size := pick.choice([17, 90, len(whole)])):
            if connection.writer.is_closing():
                connection.hung_up_at = time.perf_counter()
                return
            await connection.send(whole[at : at + size])
            await asyncio.sleep(0)


@on_loop
@pytest.mark.unmeasured
async def test_a_caller_may_leave_at_any_instant() -> None:
    """Cancelled after each number of turns of the loop that a call may take. With two slots,
    a third that got lost would make every later caller wait for ever."""
    async with serving(own_path) as server:
        transport = Subject.make(connections_per_pool=2)

        async def call(path: str) -> None:
            assert await read(transport, server.get(path)) == path.encode() * 40

        left = 0
        for number in range(400):
            task = asyncio.create_task(call(f"/left-{number}"))
            for _ in range(number % 50):
                await asyncio.sleep(0)
            left += task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            if number % 4 == 0:
                await asyncio.gather(*(call(f"/{number}-{n}") for n in range(3)))
        assert left > 100
        await eventually(lambda: open_connections(server) <= 2)
        await transport.close()
        await eventually(lambda: open_connections(server) == 0)


@on_loop
async def test_a_caller_may_leave_while_waiting_for_a_place() -> None:
    async def slow(connection: Connection) -> None:
        while await connection.request():
            await asyncio.sleep(0.03)
            await connection.send(answer(b"ok"))

    async with serving(slow) as server:
        transport = Subject.make(connections_per_pool=1)
        callers = [asyncio.create_task(read(transport, server.get())) for _ in range(9)]
        await asyncio.sleep(0.01)
        for caller in callers[1::2]:
            caller.cancel()
        results = await asyncio.gather(*callers, return_exceptions=True)
        assert results[0::2] == [b"ok"] * 5
        assert all(isinstance(result, asyncio.CancelledError) for result in results[1::2])
        assert len(server.connections) == 1
        await transport.close()


@pytest.mark.parametrize("wait", [0, 0.0005, 0.003, 0.02])
@on_loop
async def test_a_post_on_a_connection_just_closed_is_never_sent_twice(wait: float) -> None:
    async with meeting(once(answer(b"done"))) as (transport, server):
        done = 0
        for number in range(40):
            with contextlib.suppress(TransportFault):
                response = await send(transport, server.post(b"once", f"/{number}"))
                assert await response.read() == b"done"
                response.close()
                done += 1
            await asyncio.sleep(wait)
        assert done >= 20  # a caller that comes in the very moment may find it gone
        firsts = [request.split(b"\r\n")[0] for request in server.requests]
        assert len(set(firsts)) == len(firsts)


@on_loop
async def test_every_way_to_fail_gives_the_place_back() -> None:
    """One place only: had any of these kept it, the next caller would wait for ever."""
    for handler in (
        once(),
        once(b"nonsense\r\n"),
        once(b"HTTP/1.1 200"),
        once(chunked(b"part", end=False)),
        once(answer(b"x", b"Content-Encoding: br")),
        once(answer(b"x", b"Connection: close")),
        always(answer(b"ok")),
    ):
        async with serving(handler) as server:
            transport = Subject.make(connections_per_pool=1)
            for _ in range(4):
                with contextlib.suppress(TransportFault):
                    async with asyncio.timeout(2):
                        await read(transport, server.get())
            await transport.close()


@on_loop
async def test_an_answer_before_the_question_has_left_uses_its_connection_up() -> None:
    async def hasty(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        await connection.send(answer(b"too large", status=b"413 Too Large"))
        await connection.until_hang_up()

    async with meeting(hasty) as (transport, server):
        for _ in range(2):
            response = await send(transport, server.post(b"x" * 30_000_000))
            assert response.status == 413
            assert await response.read() == b"too large"
            response.close()
        assert len(server.connections) == 2


@on_loop
async def test_a_stream_that_came_whole_keeps_its_connection_though_half_was_read() -> None:
    async with meeting(always(chunked(b"data: 1\n\n", b"data: [DONE]\n\n"))) as (transport, server):
        for _ in range(5):
            response = await send(transport, server.get())
            assert (await anext(response.chunks())).startswith(b"data: 1")
            await asyncio.sleep(0.01)
            response.close()
        assert len(server.connections) == 1


@on_loop
async def test_a_body_that_nobody_reads_is_not_taken_in() -> None:
    sent = 0

    async def flood(connection: Connection) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(HEAD)
        while not connection.writer.is_closing():
            await connection.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent += 65536

    async with meeting(flood) as (transport, server):
        response = await send(transport, server.get())
        before = -1
        while sent != before:  # until the system's own buffers are full
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 20_000_000
        taken = 0
        async for chunk in response.chunks():
            taken += len(chunk)
            if taken > 2 * before:
                break
        response.close()


@on_loop
async def test_a_body_may_end_with_its_connection() -> None:
    async with meeting(once(UNTIL_CLOSE, b"to the ", b"end")) as (transport, server):
        for _ in range(3):
            assert await read(transport, server.get()) == b"to the end"
        assert len(server.connections) == 3
    if Subject.make is not Http1Transport:
        return  # aiohttp takes a reset for the end
    async with meeting(once(UNTIL_CLOSE, b"to the", reset=True)) as (transport, server):
        assert await fault_of(read(transport, server.get())) is Verdict.UNREACHABLE


@on_loop
async def test_what_a_closed_transport_cut_never_looks_whole() -> None:
    async def endless(connection: Connection) -> None:
        await connection.request()
        await connection.send(UNTIL_CLOSE, b"part")
        await connection.until_hang_up()

    async with meeting(endless) as (transport, server):
        response = await send(transport, server.get(), Timeouts(idle=5))
        chunks = response.chunks()
        assert await anext(chunks) == b"part"
        await transport.close()
        if Subject.make is Http1Transport:  # aiohttp takes it for the end
            assert await fault_of(anext(chunks)) is Verdict.UNREACHABLE  # type: ignore[arg-type]
        response.close()


@on_loop
async def test_a_server_that_speaks_first_is_no_http_server() -> None:
    async def greeting(connection: Connection) -> None:
        await connection.send(b"220 mail.example ESMTP\r\n")
        await connection.until_hang_up()

    async with meeting(greeting) as (transport, server):
        for _ in range(5):
            assert await fault_of(read(transport, server.get())) is Verdict.UNREACHABLE


@ours_only
@on_loop
async def test_a_connection_that_nobody_uses_is_closed_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http1, "KEPT", 0.15)
    async with meeting(always(answer(b"ok"))) as (transport, server):
        await read(transport, server.get())
        assert open_connections(server) == 1
        await eventually(lambda: open_connections(server) == 0)
        await eventually(lambda: not transport._pools)  # type: ignore[attr-defined]
        assert await read(transport, server.get()) == b"ok"


@ours_only
@on_loop
async def test_a_name_is_looked_up_once_for_many_callers() -> None:
    loop, looked_up = asyncio.get_running_loop(), 0
    real = loop.getaddrinfo

    async def counting(host: Any, *args: Any, **kwargs: Any) -> object:
        nonlocal looked_up
        looked_up += host == "localhost"  # uvloop asks for the address it connects to, too
        await asyncio.sleep(0.02)
        return await real(host, *args, **kwargs)

    loop.getaddrinfo = counting  # type: ignore[method-assign,assignment]
    async with meeting(own_path) as (transport, server):
        request = UpstreamRequest("GET", f"http://localhost:{server.port}/", {})
        callers = [asyncio.create_task(send(transport, request)) for _ in range(6)]
        await asyncio.sleep(0.01)
        callers[0].cancel()  # the one that began it
        answers = await asyncio.gather(*callers, return_exceptions=True)
        assert looked_up == 1
        for response in answers[1:]:
            assert not isinstance(response, BaseException)
            assert response.status == 200
            response.close()
