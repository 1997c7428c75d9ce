"""A TCP proxy between a server and its clients, that can be made slow or a black hole."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from tests.services.process import free_port


class Proxy:
    """Listens on `port` of 127.0.0.1. What it is set to holds for open connections too."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.target = target
        self.delay = 0.0  # seconds by which every byte comes later, each way
        self.swallows = False  # takes everything and gives nothing
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.Transport] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()
        serving = self._loop.create_server(lambda: _End(self), "127.0.0.1", self.port)
        asyncio.run_coroutine_threadsafe(serving, self._loop).result(10)

    def stop(self) -> None:
        self.heal()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def heal(self) -> None:
        """As it was. What was swallowed is not made good, so those connections end."""
        if self.swallows:
            self._loop.call_soon_threadsafe(lambda: [each.abort() for each in list(self._open)])
        self.delay, self.swallows = 0.0, False

    @contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        self.delay = seconds
        try:
            yield
        finally:
            self.heal()

    @contextmanager
    def black_hole(self) -> Iterator[None]:
        self.swallows = True
        try:
            yield
        finally:
            self.heal()


class _End(asyncio.Protocol):
    """One side of a connection; `other` is the other, made when a client comes."""

    def __init__(self, proxy: Proxy, other: _End | None = None) -> None:
        self.proxy, self.other = proxy, other
        self.transport: asyncio.Transport | None = None
        self.waiting: list[bytes] = []
        self.coming: deque[tuple[float, bytes]] = deque()  # and when it is due
        self.over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.proxy._open.add(transport)
        if self.over:
            transport.abort()
        if self.other is None:
            self.other = _End(self.proxy, self)
            loop = self.proxy._loop
            target = self.other
            coming = loop.create_connection(lambda: target, "127.0.0.1", self.proxy.target)
            loop.create_task(coming).add_done_callback(self._reached)
        for data in self.waiting:
            transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Bytes never overtake those before them, though these were delayed and they are not."""
        if self.proxy.swallows:
            return
        self.coming.append((self.proxy._loop.time() + self.proxy.delay, data))
        if len(self.coming) == 1:
            self._later()

    def _later(self) -> None:
        self.proxy._loop.call_at(self.coming[0][0], self._pass_on)

    def _pass_on(self) -> None:
        _, data = self.coming.popleft()
        if self.other is not None:
            self.other.give(data)
        if self.coming:
            self._later()

    def connection_lost(self, error: Exception | None) -> None:
        if self.transport is not None:
            self.proxy._open.discard(self.transport)
        self.end()
        if self.other is not None:
            self.other.end()

    def give(self, data: bytes) -> None:
        if self.transport is None:
            self.waiting.append(data)
        else:
            self.transport.write(data)

    def end(self) -> None:
        self.over = True
        if self.transport is not None:
            self.transport.close()

    def _reached(self, done: asyncio.Task[object]) -> None:
        if done.exception() is not None:
            self.end()
