"""What stands before the server's handler of SIGTERM; tests/chaos/test_drain.py has it at work."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from config.draining import drain_first
from tests.loops import on_loop


class Server:
    """What happened, in order; its handler is in place while a test runs."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def stop(self, number: int, _: object) -> None:
        assert number == signal.SIGTERM
        self.heard.append("stop")

    def drain(self) -> None:
        self.heard.append("drain")


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    before = signal.signal(signal.SIGTERM, server.stop)
    yield server
    signal.signal(signal.SIGTERM, before)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def heard(server: Server, *events: str) -> None:
    async with asyncio.timeout(5):
        while server.heard != [*events]:
            await asyncio.sleep(0.005)


@on_loop
async def test_the_signal_is_told_at_once_and_obeyed_later(server: Server) -> None:
    drain_first(server.drain, 0.05)
    terminate()
    assert server.heard == ["drain"]
    await heard(server, "drain", "stop")


@on_loop
async def test_the_second_signal_is_obeyed_at_once(server: Server) -> None:
    drain_first(server.drain, 60)
    terminate()
    terminate()
    assert server.heard == ["drain", "stop"]


@on_loop
async def test_a_server_that_handles_no_signal_is_left_alone() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        drain_first(lambda: None, 1)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_has_no_say(server: Server) -> None:
    thread = threading.Thread(target=lambda: drain_first(server.drain, 1))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == server.stop
