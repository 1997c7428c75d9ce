"""Each toxic does what it is called, to connections that are open already, and is gone after."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from tests.chaos.fault_proxy import (
    Bandwidth,
    BlackHole,
    FaultProxy,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Toxic,
    Way,
)
from tests.patience import eventually
from tests.services.proxy import Proxy

Wire = Callable[[], socket.socket]


def echo(listener: socket.socket) -> None:
    """Sends back whatever comes, to each client, until the listener is closed."""
    with suppress(OSError):
        while True:
            threading.Thread(target=echo_one, args=listener.accept()[:1], daemon=True).start()


def echo_one(wire: socket.socket) -> None:
    with closing(wire), suppress(OSError):
        while data := wire.recv(65536):
            wire.sendall(data)


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        threading.Thread(target=echo, args=(listener,), daemon=True).start()
        proxy = FaultProxy(listener.getsockname()[1])
        proxy.start()
        yield proxy
        proxy.stop()


@pytest.fixture
def connect(proxy: FaultProxy) -> Iterator[Wire]:
    made: list[socket.socket] = []

    def connect() -> socket.socket:
        made.append(socket.create_connection(("127.0.0.1", proxy.port), timeout=5))
        assert asked(made[-1], b"hello") == b"hello"
        return made[-1]

    yield connect
    for wire in made:
        wire.close()


def asked(wire: socket.socket, data: bytes) -> bytes:
    wire.sendall(data)
    return received(wire, len(data))


def received(wire: socket.socket, size: int) -> bytes:
    """So many bytes, or what came before the end."""
    got = b""
    while len(got) < size and (part := wire.recv(size - len(got))):
        got += part
    return got


def timed(wire: socket.socket, data: bytes) -> float:
    begun = time.monotonic()
    assert asked(wire, data) == data
    return time.monotonic() - begun


def is_silent(wire: socket.socket, seconds: float = 0.05) -> bool:
    wire.settimeout(seconds)
    try:
        return wire.recv(1) is None
    except TimeoutError:
        return True
    finally:
        wire.settimeout(5)


def test_without_a_toxic_everything_passes_and_is_counted(proxy: FaultProxy, connect: Wire) -> None:
    data = bytes(range(256)) * 4096
    wire = connect()
    threading.Thread(target=wire.sendall, args=(data,), daemon=True).start()
    assert received(wire, len(data)) == data
    assert (proxy.connections, proxy.open) == (1, 1)
    assert proxy.bytes == dict.fromkeys(Way, len(data) + len(b"hello"))
    wire.close()
    eventually(lambda: proxy.open == 0)
    assert proxy.connections == 1


@pytest.mark.parametrize("way", Way)
def test_latency_makes_late_and_does_not_add_up(proxy: FaultProxy, connect: Wire, way: Way) -> None:
    wire = connect()
    with proxy.toxic(Latency(0.1, jitter=0.02), way):
        begun = time.monotonic()
        for _ in range(5):
            wire.sendall(b"x")
            time.sleep(0.01)
        assert received(wire, 5) == b"x" * 5
        assert 0.08 <= time.monotonic() - begun < 0.4
    assert timed(wire, b"again") < 0.08


@pytest.mark.parametrize("way", Way)
def test_bandwidth_takes_its_time(proxy: FaultProxy, connect: Wire, way: Way) -> None:
    wire = connect()
    with proxy.toxic(Bandwidth(10_000), way):
        assert 0.18 <= timed(wire, b"x" * 2000) < 1
    assert timed(wire, b"x" * 2000) < 0.1


def test_slow_close_keeps_the_other_side_waiting(proxy: FaultProxy, connect: Wire) -> None:
    wire = connect()
    with proxy.toxic(SlowClose(0.1)):
        wire.shutdown(socket.SHUT_WR)  # the server ends, too
        begun = time.monotonic()
        assert wire.recv(1) == b""
        assert time.monotonic() - begun >= 0.09


@pytest.mark.parametrize("way", Way)
def test_a_black_hole_gives_nothing_and_what_it_took_is_gone(
    proxy: FaultProxy, connect: Wire, way: Way
) -> None:
    wire, idle = connect(), connect()
    with proxy.toxic(BlackHole(), way):
        wire.sendall(b"lost")
        assert is_silent(wire)
        with closing(socket.create_connection(("127.0.0.1", proxy.port), 5)) as new:
            new.sendall(b"lost too")
            assert is_silent(new)
    with pytest.raises(ConnectionResetError):
        wire.recv(1)
    assert asked(idle, b"unharmed") == b"unharmed"


def test_a_black_hole_may_close(proxy: FaultProxy, connect: Wire) -> None:
    wire = connect()
    with proxy.toxic(BlackHole(after=0.05)):
        wire.sendall(b"lost")
        begun = time.monotonic()
        assert wire.recv(1) == b""
        assert time.monotonic() - begun >= 0.03


def test_reset_peer_resets_those_that_are_open_and_those_that_come(
    proxy: FaultProxy, connect: Wire
) -> None:
    wire = connect()
    with proxy.toxic(ResetPeer()):
        with pytest.raises(ConnectionResetError):
            wire.recv(1)
        with ExitStack() as stack, pytest.raises(ConnectionResetError):
            # As soon as it is made, or while that is still being told.
            new = socket.create_connection(("127.0.0.1", proxy.port), 5)
            stack.enter_context(closing(new)).recv(1)
    assert connect()


def test_what_would_have_struck_later_is_forgotten(proxy: FaultProxy, connect: Wire) -> None:
    wire = connect()
    with proxy.toxic(ResetPeer(after=0.1)):
        assert asked(wire, b"in time") == b"in time"
    time.sleep(0.15)  # past the moment
    assert asked(wire, b"alive") == b"alive"


def test_slicer_sends_small_pieces(proxy: FaultProxy, connect: Wire) -> None:
    wire = connect()
    with proxy.toxic(Slicer(4, pause=0.01)):
        wire.sendall(b"x" * 40)
        pieces: list[int] = []
        while sum(pieces) < 40:
            pieces.append(len(wire.recv(100)))
    assert len(pieces) > 4 and max(pieces) < 40


@pytest.mark.parametrize("way", Way)
def test_limit_data_closes_when_so_much_has_gone_through(
    proxy: FaultProxy, connect: Wire, way: Way
) -> None:
    wire = connect()
    with proxy.toxic(LimitData(len(b"hello") + 10), way):
        wire.sendall(b"x" * 30)
        got = received(wire, 30)
    # What went up so far is echoed, or comes too late.
    assert got in ([b"x" * 10] if way is Way.DOWN else [b"x" * 10, b""])


def test_down_breaks_and_refuses_and_comes_back_at_the_same_port(
    proxy: FaultProxy, connect: Wire
) -> None:
    wire = connect()
    with proxy.down():
        with pytest.raises(ConnectionResetError):
            wire.recv(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port), 5)
        assert proxy.open == 0
    assert connect() and proxy.connections == 2


def test_a_server_that_is_not_there(connect: Wire, proxy: FaultProxy) -> None:
    proxy.target = 1
    with closing(socket.create_connection(("127.0.0.1", proxy.port), 5)) as wire:
        assert wire.recv(1) == b""


def test_toxics_in_turn_lose_no_byte_that_they_do_not_say(proxy: FaultProxy, connect: Wire) -> None:
    """Switched while a long answer is under way, they deliver every byte in its order."""
    wire = connect()
    data = b"".join(number.to_bytes(4) for number in range(50_000))
    threading.Thread(target=wire.sendall, args=(data,), daemon=True).start()
    kinds: list[Toxic] = [Latency(0.01), Bandwidth(4_000_000), Slicer(5000), SlowClose(0.01)]
    got = b""
    for toxic, way in itertools.product(kinds, Way):
        with proxy.toxic(toxic, way):
            got += received(wire, len(data) // 10)
    assert got + received(wire, len(data) - len(got)) == data


def test_no_byte_overtakes_one_that_was_delayed() -> None:
    """Of the other proxy, which knows only slow and silent (tests/services/proxy.py)."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        threading.Thread(target=echo, args=(listener,), daemon=True).start()
        proxy = Proxy(listener.getsockname()[1])
        proxy.start()
        with closing(socket.create_connection(("127.0.0.1", proxy.port), timeout=5)) as wire:
            assert asked(wire, b"hello") == b"hello"
            with proxy.slow(0.2):
                wire.sendall(b"first, ")
                time.sleep(0.05)
            wire.sendall(b"then second")
            assert received(wire, 18) == b"first, then second"
        proxy.stop()
