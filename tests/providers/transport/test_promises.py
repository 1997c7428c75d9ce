"""The transport against servers that refuse, stall, cut, lie and flood, and against callers
that leave in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import socket
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import uvloop

from lib.ids import uuid7
from providers.call import UpstreamRequest, Verdict
from providers.timeouts import Timeouts
from providers.transport import TransportFault, interface
from tests.loops import eventually, on_loop, ticking
from tests.providers.transport.calls import (
    HEAD,
    PATIENT,
    TIMES,
    Subject,
    fault_of,
    meeting,
    read,
    send,
)
from tests.providers.upstreams import (
    Connection,
    Handler,
    always,
    answer,
    chunked,
    once,
    serving,
)

# What goes out and what comes in


@on_loop
async def test_an_answer_comes_whole() -> None:
    handler = always(answer(b"hello", b"X-One: 1", b"x-TWO: 2", status=b"418 Teapot"))
    async with meeting(handler) as (transport, server):
        response = await send(transport, server.get())
        assert response.status == 418
        assert response.headers["x-one"] == "1" and response.headers.get("x-two") == "2"
        assert response.headers.get("x-three") is None and "x-three" not in response.headers
        assert set(response.headers) == {"content-length", "x-one", "x-two"}
        assert len(response.headers) == 3
        assert await response.read() == b"hello"
        response.close()


@on_loop
async def test_what_goes_out_is_what_was_asked_and_no_more() -> None:
    async with meeting(always(answer())) as (transport, server):
        url = server.url + "/v1/a%2Fb?q=%20x&r=1"
        await read(transport, UpstreamRequest("POST", url, {"x-a": "1"}, b'{"a":1}'))
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        assert first == b"POST /v1/a%2Fb?q=%20x&r=1 HTTP/1.1"
        assert body == b'{"a":1}'
        names = {line.partition(b":")[0].lower() for line in lines}
        assert names == {b"host", b"x-a", b"accept", b"content-length"}


@on_loop
async def test_no_cookie_is_ever_kept() -> None:
    handler = always(answer(b"", b"Set-Cookie: tenant=a; Path=/"))
    async with meeting(handler) as (transport, server):
        by_name = f"http://localhost:{server.port}/"  # a jar would take none from a bare address
        for _ in range(2):
            await read(transport, UpstreamRequest("GET", by_name, {}))
        assert b"cookie" not in server.requests[1].lower()


@on_loop
async def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with meeting(always(answer(b"direct"))) as (transport, server):
        assert await read(transport, server.get()) == b"direct"


@on_loop
async def test_a_redirect_is_an_answer_like_any_other() -> None:
    async with serving(always(answer(b"stolen"))) as other:
        location = f"Location: {other.url}/".encode()
        for status in (b"301 M", b"302 F", b"303 S", b"307 T", b"308 P"):
            handler = always(answer(b"moved", location, status=status))
            async with meeting(handler) as (transport, server):
                response = await send(transport, server.post(b"secret"))
                assert response.status == int(status[:3])
                assert await response.read() == b"moved"
                response.close()
        assert other.connections == []


@on_loop
async def test_a_stream_arrives_chunk_by_chunk() -> None:
    told: asyncio.Queue[bytes] = asyncio.Queue()

    async def handle(connection: Connection) -> None:
        await connection.request()
        await connection.send(HEAD)
        while chunk := await told.get():
            await connection.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        await connection.send(b"0\r\n\r\n")

    async with meeting(handle) as (transport, server):
        response = await send(transport, server.get())
        chunks = response.chunks()
        for text in (b"data: 1\n\n", b"data: 2\n\n", b"\xff\x00"):
            told.put_nowait(text)
            assert await anext(chunks) == text
        told.put_nowait(b"")
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)
        response.close()


@on_loop
async def test_early_hints_and_empty_answers() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
    async with meeting(always(early + answer(b"late"))) as (transport, server):
        assert await read(transport, server.get()) == b"late"
    handler = always(b"HTTP/1.1 204 No Content\r\n\r\n")
    async with meeting(handler) as (transport, server):
        assert [await read(transport, server.get()) for _ in range(2)] == [b"", b""]
        assert len(server.connections) == 1


# What goes wrong before the head


@on_loop
async def test_a_refused_connection_is_unreachable() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        transport = Subject.make()
        request = UpstreamRequest("GET", url, {})
        assert await fault_of(send(transport, request)) is Verdict.UNREACHABLE
        await transport.close()


@on_loop
async def test_a_host_that_takes_no_connection_is_given_up_in_time() -> None:
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # its queue is full: what else knocks is not answered
            knocking = stack.enter_context(socket.socket())
            knocking.setblocking(False)
            knocking.connect_ex(full.getsockname())
        transport = Subject.make()
        request = UpstreamRequest("GET", f"http://127.0.0.1:{full.getsockname()[1]}/", {})
        started = time.perf_counter()
        async with ticking() as ticker:
            doing = send(transport, request, Timeouts(connect=0.2))
            assert await fault_of(doing) is Verdict.UNREACHABLE
        assert 0.15 < time.perf_counter() - started < 1.0
        assert ticker.longest < 0.1
        await transport.close()


@on_loop
async def test_an_unknown_name_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    transport = Subject.make()
    for allowed in (True, False):
        request = UpstreamRequest("GET", "http://nowhere.example/", {})
        doing = transport.send(request, TIMES, allow_private=allowed)
        assert await fault_of(doing) is Verdict.UNREACHABLE
    await transport.close()


@on_loop
async def test_a_server_that_never_answers_sees_the_caller_leave() -> None:
    async def hole(connection: Connection) -> None:
        await connection.request()
        await connection.until_hang_up()

    async with meeting(hole) as (transport, server):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await send(transport, server.get())
        left = time.perf_counter()
        await eventually(lambda: server.connections[0].hung_up_at)
        assert server.connections[0].hung_up_at - left < 0.5


@on_loop
async def test_a_head_that_comes_drop_by_drop_is_waited_for() -> None:
    async def slow(connection: Connection) -> None:
        await connection.request()
        for byte in answer(b"slow"):
            await connection.send(bytes([byte]))
            await asyncio.sleep(0.002)

    async with meeting(slow) as (transport, server):
        assert await read(transport, server.get()) == b"slow"


@pytest.mark.parametrize(
    "handler",
    [
        once(),
        once(reset=True),
        once(b"HTTP/1.1 200"),
        once(b"HTTP/1.1 200 OK\r\nContent-Le", reset=True),
        once(b"SSH-2.0-OpenSSH_9.6\r\n"),
        once(b"\x16\x03\x01\x00\x05hello"),
        once(b"HTTP/1.1 99999 Huge\r\n\r\n"),
        once(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        once(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
        once(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"),
        once(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000),
    ],
    ids=["closed", "reset", "half a line", "reset in head", "ssh", "tls", "status", "two lengths",
         "negative length", "huge header", "endless headers"],
)  # fmt: skip
@on_loop
async def test_what_is_no_http_answer_is_unreachable(handler: Handler) -> None:
    async with meeting(handler) as (transport, server):
        assert await fault_of(send(transport, server.post(b"x"))) is Verdict.UNREACHABLE


@pytest.mark.parametrize(
    "url",
    ["", "/", "http://", "http:///x", "http://[::1", "http://[]/", "http://a\0b/", "http://a b/",
     "file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/", "http://127.0.0.1:99999/",
     "http://127.0.0.1:x/", "http://" + "a" * 300 + "/", "http://%31%32%37.1/", "//x"],
)  # fmt: skip
@on_loop
async def test_what_is_no_url_is_unreachable(url: str) -> None:
    transport = Subject.make()
    for allowed in (True, False):
        request = UpstreamRequest("GET", url, {})
        doing = transport.send(request, TIMES, allow_private=allowed)
        assert await fault_of(doing) is Verdict.UNREACHABLE
    await transport.close()


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\nb", "a\0b"])
@on_loop
async def test_a_header_that_would_break_out_is_never_sent(value: str) -> None:
    async with meeting(always(answer())) as (transport, server):
        assert await fault_of(send(transport, server.get(x_a=value))) is Verdict.UNREACHABLE
        assert server.requests == []


# What goes wrong in the body


@pytest.mark.parametrize(
    "handler",
    [
        once(chunked(b"part", end=False)),
        once(chunked(b"part", end=False), reset=True),
        once(HEAD + b"4\r\npart\r\n8\r\nhalf"),
        once(HEAD + b"4\r\npart\r\nzz\r\nnonsense"),
        once(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart"),
        once(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart", reset=True),
    ],
    ids=[
        "chunked cut",
        "chunked reset",
        "cut in a chunk",
        "no chunk",
        "length cut",
        "length reset",
    ],
)
@on_loop
async def test_a_cut_body_never_looks_whole(handler: Handler) -> None:
    async with meeting(handler) as (transport, server):
        assert await fault_of(read(transport, server.get())) is Verdict.UNREACHABLE
        seen = b""
        with pytest.raises(TransportFault) as fault:
            response = await send(transport, server.get())
            async for chunk in response.chunks():
                seen += chunk
        assert fault.value.outcome.verdict is Verdict.UNREACHABLE
        assert seen in {b"", b"part", b"parthalf"}


@on_loop
async def test_a_body_that_stalls_is_given_up_after_the_idle_time() -> None:
    async def stall(connection: Connection) -> None:
        await connection.request()
        await connection.send(HEAD + b"4\r\npart\r\n")
        await connection.until_hang_up()

    async with meeting(stall) as (transport, server):
        response = await send(transport, server.get(), Timeouts(idle=0.2))
        chunks = response.chunks()
        assert await anext(chunks) == b"part"
        started = time.perf_counter()
        assert await fault_of(anext(chunks)) is Verdict.TIMEOUT  # type: ignore[arg-type]
        assert 0.15 < time.perf_counter() - started < 1.0
        response.close()
        await eventually(lambda: server.connections[0].hung_up_at)


@on_loop
async def test_the_idle_time_counts_from_the_last_chunk() -> None:
    async def steady(connection: Connection) -> None:
        await connection.request()
        await connection.send(HEAD)
        for _ in range(8):
            await asyncio.sleep(0.05)
            await connection.send(b"1\r\nx\r\n")
        await connection.send(b"0\r\n\r\n")

    async with meeting(steady) as (transport, server):
        response = await send(transport, server.get(), Timeouts(idle=0.2))
        assert await response.read() == b"x" * 8
        response.close()


@pytest.mark.parametrize("told", [True, False], ids=["length", "chunked"])
@on_loop
async def test_a_body_without_end_is_cut_at_its_cap(
    told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cap = 1024 * 1024
    monkeypatch.setattr(interface, "MAX_BODY_BYTES", cap)
    sent = 0

    async def flood(connection: Connection) -> None:
        nonlocal sent
        await connection.request()
        block = b"x" * 65536
        await connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" if told else HEAD
        )
        while not connection.writer.is_closing():
            await connection.send(block if told else b"10000\r\n%s\r\n" % block)
            sent += len(block)
            await asyncio.sleep(0)

    async with meeting(flood) as (transport, server):
        assert await fault_of(read(transport, server.get())) is Verdict.BAD_PAYLOAD
        await eventually(server.connections[0].writer.is_closing)
        assert sent < 40 * cap


@on_loop
async def test_a_body_just_within_the_cap_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface, "MAX_BODY_BYTES", 300_000)
    async with meeting(always(answer(b"x" * 300_000))) as (transport, server):
        assert len(await read(transport, server.get())) == 300_000
    async with meeting(always(answer(b"x" * 300_001))) as (transport, server):
        assert await fault_of(read(transport, server.get())) is Verdict.BAD_PAYLOAD


@pytest.mark.parametrize("encoding", [b"gzip", b"GZIP", b"br", b"zstd", b"deflate", b"gzip, gzip"])
@on_loop
async def test_a_compressed_answer_is_not_unpacked(encoding: bytes) -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    handler = always(answer(bomb, b"Content-Encoding: " + encoding))
    async with meeting(handler) as (transport, server):
        assert await fault_of(read(transport, server.get())) is Verdict.BAD_PAYLOAD


@pytest.mark.parametrize("encoding", [b"identity", b"Identity", b""])
@on_loop
async def test_an_answer_that_says_it_is_not_compressed_is_taken(encoding: bytes) -> None:
    handler = always(answer(b"plain", b"Content-Encoding: " + encoding))
    async with meeting(handler) as (transport, server):
        assert await read(transport, server.get()) == b"plain"


# Private addresses

LOOPBACK = [
    "127.0.0.1", "127.1", "127.0.1", "0x7f.1", "0x7f000001", "0X7F.0.0.1", "2130706433", "0177.0.0.1",
    "017700000001", "127.0.0.1.", "127.255.255.254", "0", "0.0.0.0", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]",
    "[fe80::1%25lo]", "localhost", "LOCALHOST", "localhost.", "１２７.０.０.１", "127。0。0。1", "①②⑦.⓪.⓪.①",
    "user:pw@127.0.0.1", "169.254.169.254", "10.0.0.1", "192.168.1.1", "100.64.0.1",
]  # fmt: skip


@pytest.mark.parametrize("host", LOOPBACK)
@on_loop
async def test_a_private_address_is_refused_in_every_spelling(host: str) -> None:
    async with meeting(always(answer(b"inside"))) as (transport, server):
        request = UpstreamRequest("GET", f"http://{host}:{server.port}/", {})
        with pytest.raises(TransportFault) as fault:
            async with asyncio.timeout(5):
                await transport.send(request, TIMES, allow_private=False)
        assert fault.value.outcome.verdict is Verdict.UNREACHABLE
        assert server.connections == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
@on_loop
async def test_where_staff_allow_it_a_private_address_is_called(host: str) -> None:
    async with meeting(always(answer(b"inside"))) as (transport, server):
        request = UpstreamRequest("GET", f"http://{host}:{server.port}/", {})
        assert await read(transport, request) == b"inside"


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["1.1.1.1", "127.0.0.1"], ["127.0.0.1", "1.1.1.1"], ["10.9.8.7"]]
)
@on_loop
async def test_a_name_that_stands_for_a_private_address_is_refused(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with meeting(always(answer(b"inside"))) as (transport, server):
        real = socket.getaddrinfo

        def lying(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
            if host not in ("public.example", b"public.example"):
                return real(host, port, *args, **kwargs)
            if kwargs.get("flags", 0) & socket.AI_NUMERICHOST:
                raise socket.gaierror(socket.EAI_NONAME, "no address")
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kind, (address, port)) for address in addresses]

        async def lying_soon(host: Any, port: Any, **kwargs: Any) -> Any:
            return lying(host, port, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", lying)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lying_soon)
        request = UpstreamRequest("GET", f"http://public.example:{server.port}/", {})
        with pytest.raises(TransportFault, match="private"):
            await transport.send(request, TIMES, allow_private=False)
        assert server.connections == []


@on_loop
async def test_a_connection_for_private_upstreams_serves_nobody_else() -> None:
    """One provider may call inside; its open connection must not be a door for another."""
    async with meeting(always(answer(b"inside"))) as (transport, server):
        assert await read(transport, server.get()) == b"inside"
        for _ in range(3):
            doing = transport.send(server.get(), TIMES, allow_private=False)
            assert await fault_of(doing) is Verdict.UNREACHABLE
        assert len(server.requests) == 1


# Connections: kept, let go, and never mixed up


@on_loop
async def test_a_connection_is_used_again_when_its_answer_was_read() -> None:
    async with meeting(always(answer(b"x" * 1000))) as (transport, server):
        for _ in range(5):
            await read(transport, server.get())
        assert len(server.connections) == 1


@on_loop
async def test_an_answer_that_was_not_read_is_never_somebody_elses() -> None:
    async def numbered(connection: Connection) -> None:
        while request := await connection.request():
            path = request.split(b" ")[1]
            await connection.send(answer(path * 5000))

    async with meeting(numbered) as (transport, server):
        for number in range(20):
            unread = await send(transport, server.get(f"/unread-{number}"))
            unread.close()
            path = f"/read-{number}"
            assert await read(transport, server.get(path)) == path.encode() * 5000


@on_loop
async def test_an_answer_nobody_asked_for_is_nobodys() -> None:
    """A server that sends two answers to one request plants the second for the next caller."""

    async def planting(connection: Connection) -> None:
        while request := await connection.request():
            path = request.split(b" ")[1]
            await connection.send(answer(path), answer(b"planted"))

    async with meeting(planting) as (transport, server):
        for number in range(10):
            path = f"/{number}"
            with contextlib.suppress(TransportFault):
                assert await read(transport, server.get(path)) == path.encode()
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("begun", [False, True], ids=["head only", "in the stream"])
@on_loop
async def test_letting_go_of_an_unread_body_is_seen_at_once(begun: bool) -> None:
    async def endless(connection: Connection) -> None:
        await connection.request()
        await connection.send(HEAD + b"4\r\npart\r\n")
        await connection.until_hang_up()

    async with meeting(endless) as (transport, server):
        response = await send(transport, server.get())
        if begun:
            assert await anext(response.chunks()) == b"part"
        left = time.perf_counter()
        response.close()
        response.close()
        await eventually(lambda: server.connections[0].hung_up_at)
        assert server.connections[0].hung_up_at - left < 0.5


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no such timer")
@on_loop
async def test_a_server_that_takes_nothing_does_not_keep_what_was_let_go_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bytes still unsent, and their connection, stay for ever otherwise."""
    monkeypatch.setattr(interface, "DEAF_MS", 300)
    gone = asyncio.Event()

    async def deaf(connection: Connection) -> None:
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await gone.wait()

    async with meeting(deaf) as (transport, server):
        doing = asyncio.create_task(send(transport, server.post(b"x" * 20_000_000)))
        await asyncio.sleep(0.1)
        assert _established(server.port)
        doing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await doing
        await eventually(lambda: not _established(server.port))
        gone.set()


def _established(port: int) -> bool:
    """Whether this process has a connection to the port that it has not closed."""
    mine = psutil.Process().net_connections("tcp")
    return any(c.raddr and c.raddr.port == port and c.status == "ESTABLISHED" for c in mine)


@on_loop
async def test_callers_beyond_the_pools_size_wait_their_turn() -> None:
    async def slow(connection: Connection) -> None:
        while await connection.request():
            await asyncio.sleep(0.05)
            await connection.send(answer(b"ok"))

    async with serving(slow) as server:
        transport = Subject.make(connections_per_pool=2)
        results = await asyncio.gather(*(read(transport, server.get()) for _ in range(8)))
        assert results == [b"ok"] * 8
        assert len(server.connections) == 2
        await transport.close()


@on_loop
async def test_a_transport_that_was_closed_lets_go_of_all() -> None:
    async with meeting(always(answer(b"ok"))) as (transport, server):
        await read(transport, server.get())
        await transport.close()
        await eventually(lambda: server.connections[0].hung_up_at)
        await transport.close()


async def _echo(connection: Connection) -> None:
    """Answers with the request's own path many times over, in random pieces and pauses."""
    pick = random.Random(connection.writer.get_extra_info("peername")[1])
    while request := await connection.request():
        body = request.split(b" ")[1] * pick.choice([1, 50, 3000])
        whole = chunked(body[:37], body[37:] or b"-") if pick.random() < 0.5 else answer(body)
        cut = pick.randrange(len(whole))
        await connection.send(whole[:cut])
        await asyncio.sleep(pick.choice([0, 0, 0.001, 0.004]))
        await connection.send(whole[cut:])


def _is_echo(body: bytes, path: str) -> bool:
    plain = body.removesuffix(b"-")
    return len(plain) > 0 and plain == path.encode() * (len(plain) // len(path))


@pytest.mark.unmeasured
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_thousand_cancelled_callers_leave_no_others_answer_behind(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def storm() -> None:
        async with meeting(_echo) as (transport, server):
            pick, whole = random.Random(11), 0

            async def call() -> bool:
                path = f"/{uuid7()}"
                body = await read(transport, server.get(path), PATIENT)
                assert _is_echo(body, path)
                return True

            async def round_of() -> bool:
                task = asyncio.create_task(call())
                if pick.random() < 0.6:
                    await asyncio.sleep(pick.choice([0, 0.0005, 0.001, 0.003]))
                    task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    return await task
                return False

            for _ in range(50):
                whole += sum(await asyncio.gather(*(round_of() for _ in range(20))))
            assert 300 < whole < 950
            for _ in range(100):
                assert await call()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(storm())
