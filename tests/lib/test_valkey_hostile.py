"""The shared connection against servers that no store should be."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import hiredis
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.valkey import Script, StoreAway, StoreError, Valkey
from tests.loops import eventually, on_loop

SCRIPT = Script("return 1")
INFO = b"$17\r\nrun_id:cafe1234\r\n\r\n"
Answer = Callable[[list[bytes]], bytes | None]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(
    autouse=True, params=["asyncio", pytest.param("uvloop", marks=pytest.mark.unmeasured)]
)
def kind_of_loop(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Both kinds; and neither has to complain of errors that nobody looked at."""
    if request.param == "uvloop":
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    yield
    asyncio.set_event_loop_policy(None)
    records = caplog.get_records("call")
    assert not [record for record in records if record.name == "asyncio" and record.levelno > 30]


@contextlib.asynccontextmanager
async def listening(serve: Serve, **options: Any) -> AsyncIterator[int]:
    """The port of a server that does `serve` with each connection."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(one, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def answering(answer: Answer) -> Serve:
    """Greets as a store does, and answers what `answer` says; None ends the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(65536):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                reply = INFO if command[0] == b"INFO" else answer(command)
                if reply is None:
                    return
                writer.write(reply)

    return serve


@contextlib.asynccontextmanager
async def store_at(port: int, *, connect: bool = True, **options: Any) -> AsyncIterator[Valkey]:
    store = Valkey(f"redis://127.0.0.1:{port}", **options)
    try:
        if connect:
            await store.connect()
        yield store
    finally:
        await store.close()


@on_loop
async def test_one_that_accepts_and_never_answers() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass

    async with listening(silent) as port, store_at(port, connect=False) as store:
        began = time.perf_counter()
        with pytest.raises(StoreAway, match="no answer"):
            await store.connect()
        assert time.perf_counter() - began < 1.5
        began = time.perf_counter()
        for _ in range(100):
            with pytest.raises(StoreAway):
                await store.run(SCRIPT, [], [])
        assert time.perf_counter() - began < 0.5


@on_loop
async def test_one_that_falls_silent_is_given_up() -> None:
    times = 0

    def answer(command: list[bytes]) -> bytes:
        nonlocal times
        times += 1
        return b":1\r\n" if times == 1 else b""

    async with listening(answering(answer)) as port, store_at(port) as store:
        assert await store.run(SCRIPT, [], [], timeout=5) == 1
        waiting = [store.call("PING"), store.call("PING")]
        with pytest.raises(StoreAway, match="no answer in time"):
            await store.run(SCRIPT, [], [])
        assert store.connected
        began = time.perf_counter()
        with pytest.raises(StoreAway):  # the connection is suspect: not even sent
            await store.run(SCRIPT, [], [], timeout=10)
        assert time.perf_counter() - began < 5
        await eventually(lambda: not store.connected)
        for future in waiting:
            with pytest.raises(StoreAway, match="no answer"):
                await future


@on_loop
async def test_one_that_answers_two_seconds_late() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def slowly(command: list[bytes]) -> None:
            await asyncio.sleep(2 * (command[0] != b"INFO"))
            writer.write(INFO if command[0] == b"INFO" else b"$4\r\nlate\r\n")

        parser = hiredis.Reader()
        async with asyncio.TaskGroup() as group:
            while data := await reader.read(65536):
                parser.feed(data)
                while (command := parser.gets()) is not False:
                    group.create_task(slowly(command))

    async with listening(serve) as port, store_at(port) as store:
        waits, end = [], time.monotonic() + 3
        while time.monotonic() < end:
            began = time.perf_counter()
            with pytest.raises(StoreAway):
                await store.run(SCRIPT, [], [])
            waits.append(time.perf_counter() - began)
            await asyncio.sleep(0.002)
        assert sum(wait > 0.03 for wait in waits) < len(waits) / 10


@on_loop
async def test_a_late_answer_goes_to_nobody_else() -> None:
    """Each answer names its question and comes a little too late for it, for a while."""
    delay = 0.08

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(65536):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                if command[0] == b"INFO":
                    writer.write(INFO)
                    continue
                await asyncio.sleep(delay)
                writer.write(b"$%d\r\n%s\r\n" % (len(command[-1]), command[-1]))

    async with listening(serve) as port, store_at(port) as store:
        with pytest.raises(StoreAway):
            await store.run(SCRIPT, [], ["first"])
        delay = 0.0
        later = [store.call("ECHO", f"{n}") for n in range(10)]
        assert await asyncio.gather(*later) == [b"%d" % n for n in range(10)]
        assert await store.run(SCRIPT, [], ["second"], timeout=5) == b"second"


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\x01\x02\r\n",
        b"$-5\r\nxx\r\n",
        b":not a number\r\n",
        b":1\r\n:2\r\n",  # an answer that nobody asked for
    ],
)
def test_garbage_ends_the_connection(garbage: bytes) -> None:
    asked = False

    def answer(command: list[bytes]) -> bytes:
        nonlocal asked
        first, asked = not asked, True
        return garbage if first else b"+fine\r\n"

    @on_loop
    async def run() -> None:
        async with listening(answering(answer)) as port, store_at(port, timeout=5) as store:
            link = store._link
            with contextlib.suppress(StoreAway):
                assert await store.call("PING") == 1
            await eventually(lambda: link is not None and link.lost)
            await eventually(lambda: store.connected)
            assert await store.run(SCRIPT, [], []) == b"fine"

    run()


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    noise=st.binary(min_size=1, max_size=200) | st.text("*$:+-\r\n019", min_size=1).map(str.encode)
)
def test_any_bytes_at_all(noise: bytes) -> None:
    """Whatever comes, all who wait hear in the end, and a sane server is found again."""
    asked = False

    def answer(command: list[bytes]) -> bytes:
        nonlocal asked
        first, asked = not asked, True
        return noise if first else b"+fine\r\n"

    @on_loop
    async def run() -> None:
        async with listening(answering(answer)) as port, store_at(port, timeout=0.02) as store:
            futures = [store.call("PING", n) for n in range(3)]
            await asyncio.wait(futures)
            while True:
                with contextlib.suppress(StoreAway, StoreError):
                    if await store.run(SCRIPT, [], [], timeout=5) == b"fine":
                        break
                await asyncio.sleep(0.01)

    run()


@pytest.mark.parametrize("head", [b"$1000000000\r\n", b"*3000000\r\n"])
def test_endless_answers_are_cut_off(head: bytes) -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"server\r\n")
        writer.write(INFO)
        await reader.read(100)
        writer.write(head)
        while True:
            writer.write(b":1\r\n" * 16384)
            sent += 65536
            await writer.drain()

    @on_loop
    async def run() -> None:
        async with listening(serve) as port, store_at(port, timeout=20) as store:
            with pytest.raises(StoreAway, match="too long"):
                await store.call("PING")
            assert sent < 64 << 20

    run()


@on_loop
async def test_long_answers_below_the_bound_come_whole() -> None:
    long = b"x" * (7 << 20)
    reply = b"$%d\r\n%s\r\n" % (len(long), long)
    async with (
        listening(answering(lambda command: reply)) as port,
        store_at(port, timeout=20) as store,
    ):
        for answer in await asyncio.gather(*(store.call("GET", "x") for _ in range(3))):
            assert answer == long


@pytest.mark.parametrize("how", ["half", "whole", "reset"])
def test_closed_from_the_other_side(how: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"server\r\n")
        writer.write(INFO)
        await reader.read(100)
        if how == "half":
            writer.write_eof()
            await asyncio.sleep(20)
        elif how == "whole":
            writer.close()
            await asyncio.sleep(20)

    @on_loop
    async def run() -> None:
        async with listening(serve) as port, store_at(port, timeout=20) as store:
            futures = [store.call("PING") for _ in range(3)]
            for future in futures:
                with pytest.raises(StoreAway, match="connection lost"):
                    await future
            assert not store.connected

    run()


@on_loop
async def test_one_that_reads_nothing_fills_no_memory() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"server\r\n")
        writer.write(INFO)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(20)

    async with listening(deaf) as port, store_at(port, timeout=20) as store:
        taken = 0
        with pytest.raises(StoreAway, match="does not read"):
            for _ in range(1000):
                store.call("SET", "k", b"x" * 65536)
                taken += 65536
                await asyncio.sleep(0)
        assert taken < 32 << 20  # the sockets' own buffers hold a part
        assert store.connected
        with pytest.raises(StoreAway, match="does not read"):
            await store.run(SCRIPT, [], [])


@on_loop
async def test_one_turn_of_the_loop_is_bounded_too() -> None:
    """Also a caller that never lets the loop turn hears that the buffer is full."""
    async with (
        listening(answering(lambda command: b"+OK\r\n")) as port,
        store_at(port, timeout=20) as store,
    ):
        futures: list[asyncio.Future[Any]] = []
        with pytest.raises(StoreAway, match="does not read"):
            futures.extend(store.call("SET", "k", b"x" * 65536) for _ in range(2000))
        assert set(await asyncio.gather(*futures)) == {b"OK"}
        assert await store.run(SCRIPT, [], []) == b"OK"


@on_loop
async def test_commands_of_one_turn_leave_in_one_write() -> None:
    reads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            reads.append(data)
            for _ in range(data.count(b"PING")):
                writer.write(b"+PONG\r\n")
            writer.write(INFO * data.count(b"INFO"))

    async with listening(serve) as port, store_at(port, timeout=20) as store:
        assert len(await asyncio.gather(*(store.call("PING", n) for n in range(500)))) == 500
        assert len(reads) == 2  # the greeting, and all of these


@pytest.mark.parametrize("code", ["LOADING", "MASTERDOWN", "CLUSTERDOWN", "READONLY", "BUSY"])
def test_errors_that_mean_away(code: str) -> None:
    error = f"-{code} you cannot now\r\n".encode()

    @on_loop
    async def run() -> None:
        async with (
            listening(answering(lambda command: error)) as port,
            store_at(port, timeout=20) as store,
        ):
            with pytest.raises(StoreAway, match=code):
                await store.run(SCRIPT, [], [])
            assert store.connected == (code != "READONLY")
            await eventually(lambda: store.connected)
            with pytest.raises(StoreError) as caught:
                await store.call("PING")
            assert caught.value.code == code

    run()


@on_loop
async def test_an_error_is_not_retried_for_ever() -> None:
    seen: list[bytes] = []

    def answer(command: list[bytes]) -> bytes:
        seen.append(command[0])
        return b"-NOSCRIPT none\r\n"

    async with listening(answering(answer)) as port, store_at(port, timeout=20) as store:
        with pytest.raises(StoreError):
            await store.run(SCRIPT, [], [])
        assert seen == [b"EVALSHA", b"EVAL"]


@on_loop
async def test_moved_is_followed_once() -> None:
    visits: list[str] = []

    def first(command: list[bytes]) -> bytes:
        visits.append("first")
        return b"-MOVED 3999 127.0.0.1:%d\r\n" % there

    def second(command: list[bytes]) -> bytes:
        visits.append("second")
        return b":2\r\n" if visits.count("second") == 1 else b"-MOVED 3999 127.0.0.1:1\r\n"

    async with (
        listening(answering(second)) as there,
        listening(answering(first)) as port,
        store_at(port, timeout=20) as store,
    ):
        with pytest.raises(StoreAway, match="MOVED"):
            await store.run(SCRIPT, [], [])
        await eventually(lambda: store.connected)
        assert await store.run(SCRIPT, [], []) == 2
        with pytest.raises(StoreAway, match="MOVED"):
            await store.run(SCRIPT, [], [])
        await eventually(lambda: store.connected)  # back at the first
        with pytest.raises(StoreAway, match="MOVED"):
            await store.run(SCRIPT, [], [])
        assert visits == ["first", "second", "second", "first"]


@pytest.mark.parametrize(
    "where", [b"", b"nowhere", b"127.0.0.1:99999999", b":0", b"[::1]:1", b"?:1", b"a:b:c"]
)
def test_moved_to_nowhere(where: bytes) -> None:
    times = 0

    def answer(command: list[bytes]) -> bytes:
        nonlocal times
        times += 1
        return b"-MOVED 3999 " + where + b"\r\n" if times == 1 else b":1\r\n"

    @on_loop
    async def run() -> None:
        async with listening(answering(answer)) as port, store_at(port, timeout=20) as store:
            with pytest.raises(StoreAway, match="MOVED"):
                await store.run(SCRIPT, [], [])
            await eventually(lambda: store.connected)
            assert await store.run(SCRIPT, [], []) == 1

    run()


@pytest.mark.parametrize(
    "info", [b"+OK\r\n", b"$-1\r\n", b"*0\r\n", b"-NOAUTH first\r\n", b":1\r\n"]
)
def test_one_that_does_not_say_who_it_is(info: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(info)

    @on_loop
    async def run() -> None:
        async with listening(serve) as port, store_at(port, connect=False) as store:
            with pytest.raises(StoreAway):
                await store.connect()
            assert not store.connected

    run()


@on_loop
async def test_reconnecting_is_paced() -> None:
    """A server that greets and then refuses is not stormed."""
    greetings = 0

    def answer(command: list[bytes]) -> bytes | None:
        return None

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greetings
        greetings += 1
        await answering(answer)(reader, writer)

    async def prepare(store: Valkey) -> None:
        await store.call("PING")

    async with listening(serve) as port:
        store = Valkey(f"redis://127.0.0.1:{port}", on_connect=prepare)
        with pytest.raises(StoreAway):
            await store.connect()
        await asyncio.sleep(1.5)
        await store.close()
        assert 3 <= greetings <= 8
        await asyncio.sleep(0.2)
        assert 3 <= greetings <= 8


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of its own authority for localhost, and its key."""
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    return folder / "cert.pem", folder / "key.pem"


@on_loop
async def test_tls_is_verified(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    heard: list[list[bytes]] = []

    def answer(command: list[bytes]) -> bytes:
        heard.append(command)
        return b"+OK\r\n"

    async with listening(answering(answer), ssl=context) as port:
        trusted = f"?ssl_ca_certs={certificate}"
        for url, works in (
            (f"rediss://:secret@localhost:{port}/0{trusted}", True),
            (f"rediss://:secret@127.0.0.1:{port}/0{trusted}", False),  # another name
            (f"rediss://:secret@localhost:{port}/0", False),  # an unknown authority
            (f"rediss://:secret@localhost:{port}/0?ssl_cert_reqs=none", False),
        ):
            heard.clear()
            store = Valkey(url, timeout=5)
            if works:
                await store.connect()
                assert await store.run(SCRIPT, [], []) == b"OK"
                assert heard[0] == [b"AUTH", b"secret"]
            else:
                with pytest.raises(StoreAway):
                    await store.connect()
                assert not heard  # and never the password
            await store.close()


@on_loop
async def test_over_a_unix_socket(tmp_path: Path) -> None:
    heard: list[list[bytes]] = []

    def answer(command: list[bytes]) -> bytes:
        heard.append(command)
        return b"+OK\r\n"

    path = tmp_path / "store.sock"
    server = await asyncio.start_unix_server(answering(answer), path)
    store = Valkey(f"unix://gate:secret@{path}?db=2", timeout=5)
    await store.connect()
    assert await store.run(SCRIPT, [], []) == b"OK"
    assert heard[:2] == [[b"AUTH", b"gate", b"secret"], [b"SELECT", b"2"]]
    await store.close()
    server.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "localhost:6379",
        "redis://:hun/ter2@localhost:6379/0",
        "redis://:hunter2@localhost:port/0",
        "redis://:hunter2@localhost/hunter2",
        "redis://:hunter2@localhost:6379/0?db=hunter2",
        "redis://:hunter2@[::1/0",
    ],
)
def test_a_wrong_url_is_refused_and_never_repeated(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        Valkey(url)
    assert "hun" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_nothing_shows_the_password() -> None:
    store = Valkey("redis://gate:hunter2@127.0.0.1:1/0")
    shown = repr(store) + repr(vars(store))
    assert "hunter2" not in shown
