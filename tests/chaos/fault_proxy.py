"""A TCP proxy that makes a connection bad in toxiproxy's eight ways, either way of it, while
connections are open.

    proxy = FaultProxy(target_port); proxy.start()        # its clients use proxy.port
    with proxy.toxic(Latency(0.2, jitter=0.1)): …           # what the server says comes late
    with proxy.toxic(BlackHole(), Way.UP, Way.DOWN): …      # nothing comes through
    with proxy.down(): …                                    # nobody listens
    proxy.connections, proxy.bytes[Way.UP]                  # how many there were, ever

A healed proxy is as if nothing had been: connections that lost data end with the toxic.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from tests.services.process import free_port

_READ = 64 * 1024
_TICK = 0.05  # seconds between the portions of a narrow line
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST


class Way(enum.Enum):
    UP = "up"
    """From the client to the server."""
    DOWN = "down"


@dataclass(frozen=True)
class Toxic:
    """Does nothing; its kinds do something. Times are in seconds, sizes in bytes."""

    async def carry(self, data: bytes, came: float, flow: Flow) -> None:
        """Pass on what came at `came` (the loop's time)."""
        await flow.give(data)

    async def close(self, flow: Flow) -> None:
        """The sender is done."""
        flow.finish()

    def strike(self, pair: Pair) -> None:
        """It is in force for this connection from now on."""


@dataclass(frozen=True)
class Latency(Toxic):
    seconds: float
    jitter: float = 0.0  # more or less, at most

    async def carry(self, data: bytes, came: float, flow: Flow) -> None:
        wait = self.seconds + flow.pair.proxy.chance.uniform(-self.jitter, self.jitter)
        await asyncio.sleep(came + wait - asyncio.get_running_loop().time())
        await flow.give(data)


@dataclass(frozen=True)
class Bandwidth(Toxic):
    per_second: int

    async def carry(self, data: bytes, came: float, flow: Flow) -> None:
        portion = max(1, int(self.per_second * _TICK))
        for at in range(0, len(data), portion):
            piece = data[at : at + portion]
            await asyncio.sleep(len(piece) / self.per_second)
            await flow.give(piece)


@dataclass(frozen=True)
class SlowClose(Toxic):
    seconds: float

    async def close(self, flow: Flow) -> None:
        await asyncio.sleep(self.seconds)
        flow.finish()


@dataclass(frozen=True)
class BlackHole(Toxic):
    """Toxiproxy's `timeout`: takes everything, gives nothing, and closes `after` so long."""

    after: float | None = None

    async def carry(self, data: bytes, came: float, flow: Flow) -> None:
        flow.pair.lossy = True

    async def close(self, flow: Flow) -> None:
        flow.pair.lossy = True
        await asyncio.Event().wait()

    def strike(self, pair: Pair) -> None:
        if self.after is not None:
            pair.later(self.after, self, reset=False)


@dataclass(frozen=True)
class ResetPeer(Toxic):
    """RST to both sides, `after` so long."""

    after: float = 0.0

    def strike(self, pair: Pair) -> None:
        pair.later(self.after, self, reset=True)


@dataclass(frozen=True)
class Slicer(Toxic):
    """Pieces of about `size`, each a packet of its own, `pause` apart."""

    size: int
    pause: float = 0.0

    async def carry(self, data: bytes, came: float, flow: Flow) -> None:
        while data:
            size = max(1, round(self.size * flow.pair.proxy.chance.uniform(0.5, 1.5)))
            await flow.give(data[:size])
            data = data[size:]
            await asyncio.sleep(self.pause)


@dataclass(frozen=True)
class LimitData(Toxic):
    """Closes a connection when it has carried so much, what came before the toxic included."""

    size: int

    async def carry(self, data: bytes, came: float, flow: Flow) -> None:
        left = self.size - flow.carried
        if left > 0:
            await flow.give(data[:left])
        if left <= len(data):
            flow.pair.end()


NO_TOXIC = Toxic()


class FaultProxy:
    """Listens on `port` of 127.0.0.1, in a thread of its own, for a server at `target`."""

    def __init__(self, target: int, seed: int = 0) -> None:
        self.port, self.target = free_port(), target
        self.chance = random.Random(seed)
        self.toxics = dict.fromkeys(Way, NO_TOXIC)
        self.connections = 0
        self.bytes: Counter[Way] = Counter()
        self.pairs: set[Pair] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._run(self._listen())

    def stop(self) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def open(self) -> int:
        """Connections that are there now."""
        return len(self.pairs)

    @contextlib.contextmanager
    def toxic(self, toxic: Toxic, *ways: Way) -> Iterator[None]:
        """In force for open connections and new ones; down the line where no way is named."""
        self._run(self._set(toxic, ways or (Way.DOWN,)))
        try:
            yield
        finally:
            self._run(self._heal())

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Connections break, and new ones are refused."""
        self._run(self._close())
        try:
            yield
        finally:
            self._run(self._listen())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._come, "127.0.0.1", self.port)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        ended = [pair.end(reset=True) for pair in self.pairs]
        await asyncio.gather(*ended, return_exceptions=True)

    async def _set(self, toxic: Toxic, ways: tuple[Way, ...]) -> None:
        self.toxics |= dict.fromkeys(ways, toxic)
        for pair in self.pairs:
            toxic.strike(pair)

    async def _heal(self) -> None:
        self.toxics = dict.fromkeys(Way, NO_TOXIC)
        for pair in self.pairs:
            if pair.lossy:
                pair.end(reset=True)

    async def _come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            server = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = Pair(self, (reader, writer), server)
        self.pairs.add(pair)
        for toxic in {*self.toxics.values()}:
            toxic.strike(pair)
        try:
            await pair.task
        finally:
            self.pairs.discard(pair)


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Pair:
    """A client's connection and the one to the server."""

    def __init__(self, proxy: FaultProxy, client: Stream, server: Stream) -> None:
        self.proxy = proxy
        self.lossy = self._resets = False
        self._writers = client[1], server[1]
        self._flows = (
            Flow(self, Way.UP, client[0], server[1]),
            Flow(self, Way.DOWN, server[0], client[1]),
        )
        self.task = asyncio.create_task(self._run())

    def later(self, seconds: float, toxic: Toxic, *, reset: bool) -> None:
        """End after so long, if the toxic is still in force."""

        def strike() -> None:
            if toxic in self.proxy.toxics.values():
                self.end(reset=reset)

        asyncio.get_running_loop().call_later(seconds, strike)

    def end(self, *, reset: bool = False) -> asyncio.Task[None]:
        self._resets = reset
        self.task.cancel()
        return self.task

    async def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            try:
                async with asyncio.TaskGroup() as tasks:
                    for flow in self._flows:
                        tasks.create_task(flow.read())
                        tasks.create_task(flow.write())
            except* OSError:  # one side broke off: so does the other
                self._resets = True
        for writer in self._writers:
            self._leave(writer)

    def _leave(self, writer: asyncio.StreamWriter) -> None:
        if not self._resets:
            writer.close()
            return
        with contextlib.suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()


class Flow:
    """One way of a pair: what is read is passed on by whatever toxic is in force then."""

    def __init__(
        self, pair: Pair, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.pair = pair
        self.carried = 0
        self._way, self._reader, self._writer = way, reader, writer
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

    async def give(self, data: bytes) -> None:
        self.carried += len(data)
        self.pair.proxy.bytes[self._way] += len(data)
        self._writer.write(data)
        await self._writer.drain()

    def finish(self) -> None:
        self._writer.write_eof()

    async def read(self) -> None:
        loop, data = asyncio.get_running_loop(), b" "
        while data:
            data = await self._reader.read(_READ)
            await self._queue.put((loop.time(), data))

    async def write(self) -> None:
        while True:
            came, data = await self._queue.get()
            toxic = self.pair.proxy.toxics[self._way]
            if not data:
                await toxic.close(self)
                return
            await toxic.carry(data, came, self)
