"""Notices that the client left, and cancels the work that is then for nobody.

It stands *inside* the reservation's scope, so that the reservation still settles what was
used, and the answer's last bytes are sent after it, when leaving is no news any more.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from gateway.exchange import Receive
from lib.later import Later
from usage.reservation import HungUp

# Most calls are over sooner than this, and then nobody needs to watch for them.
UNWATCHED = Later(0.05)


class CancelWhenClientLeaves:
    """`with CancelWhenClientLeaves(receive): …` raises HungUp out of the scope when the
    client disconnected meanwhile. The request's body must have been read."""

    __slots__ = ("_left", "_receive", "_task", "_watcher")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = False
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        UNWATCHED.add(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._watcher is None:
            UNWATCHED.remove(self)
        else:
            self._watcher.cancel()
        if not self._left:
            return
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        if kind is None or kind is asyncio.CancelledError:
            raise HungUp from None

    def due(self) -> None:
        """Watch, from now on."""
        assert self._task is not None  # noqa: S101 - a coroutine always runs in one
        self._watcher = self._task.get_loop().create_task(self._watch(self._task))

    async def _watch(self, task: asyncio.Task[Any]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass  # the empty rest of a body
        self._left = True
        task.cancel()
