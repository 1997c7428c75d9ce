"""An answer's bytes, remembered on their way to the client.

Those of a stream that may be kept need not wait for who reads slowly: others may wait for its
end. What the client has not taken yet is what is remembered anyway, and not a byte more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Any, Self

from cache.compression import MOST_BYTES
from gateway.exchange import Send
from gateway.relay import COMMENT
from lib.deadline import Deadline
from providers.sse import DONE
from usage.reservation import HungUp

LINGER = 10.0  # seconds that a client has for what waits for it, once all of it is there


class Parts:
    """Bytes that came one after another. Of more than `most` none are kept."""

    __slots__ = ("_most", "_parts", "_size")

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._parts: list[bytes] = []

    @property
    def fit(self) -> bool:
        return self._size <= self._most

    def add(self, part: bytes) -> None:
        self._size += len(part)
        if self.fit:
            self._parts.append(part)
        else:
            self._parts.clear()

    def clear(self) -> None:
        self._parts.clear()

    def joined(self) -> bytes:
        return b"".join(self._parts)


class Recording:
    """Of a stream. As a scope it lets go of what waits when nobody is there to take it. `until`
    is the loop's time for which a client may take its time at least."""

    def __init__(self, until: float) -> None:
        self._until = until
        self._parts = Parts(MOST_BYTES)
        self._waiting: deque[dict[str, Any]] = deque()
        self._sending: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._sending is not None and isinstance(error, HungUp | asyncio.CancelledError):
            self._sending.cancel()

    def through(self, send: Send) -> Send:
        async def pass_on(message: dict[str, Any]) -> None:
            body = message.get("body", b"")
            if body == COMMENT:
                if self._idle:
                    await send(message)
                return
            self._parts.add(body)
            if message.get("more_body", False) and self._parts.fit:
                self._waiting.append(message)
                self._go_on(send)
            else:
                await self._taken()
                await send(message)

        return pass_on

    def events(self, last: bytes) -> list[bytes]:
        """What was sent, and the `last` bytes that will be; none where that is more than is kept,
        or no stream that came to its end."""
        text = self._parts.joined() + last
        if not (self._parts.fit and text.endswith(DONE)):
            return []
        return [event + b"\n\n" for event in text.split(b"\n\n") if event]

    @property
    def _idle(self) -> bool:
        return self._sending is None or self._sending.done()

    def _go_on(self, send: Send) -> None:
        if self._idle:
            if self._sending is not None:
                self._sending.result()  # raises what sending did
            self._sending = asyncio.create_task(self._send(send))

    async def _send(self, send: Send) -> None:
        while self._waiting:
            await send(self._waiting.popleft())

    async def _taken(self) -> None:
        """All that waited is sent. Raises HungUp where the client does not take it."""
        if self._sending is None:
            return
        longest = asyncio.get_running_loop().time() + LINGER
        try:
            with Deadline(max(self._until, longest)):
                await self._sending
        except TimeoutError:
            raise HungUp from None
