"""Notices that the client left, and cancels the work that is then for nobody.

It stands *inside* the reservation's scope, so that the reservation still settles what was
used, and the answer's last bytes are sent after it, when leaving is no news any more.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from gateway.exchange import Receive
from usage.reservation import HungUp

# Most calls are over sooner than this, and then nobody needs to watch for them.
UNWATCHED_SECONDS = 0.05


class _Unwatched:
    """The scopes that are too young to be watched, oldest first: one timer serves them all."""

    def __init__(self) -> None:
        self._since: dict[CancelWhenClientLeaves, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None  # whose timer is set

    def add(self, scope: CancelWhenClientLeaves) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._since.clear()
            loop.call_later(UNWATCHED_SECONDS, self._watch_the_oldest)
        self._since[scope] = loop.time()

    def remove(self, scope: CancelWhenClientLeaves) -> None:
        self._since.pop(scope, None)

    def _watch_the_oldest(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            return
        due = loop.time() - UNWATCHED_SECONDS
        while self._since:
            scope, since = next(iter(self._since.items()))
            if since > due:
                loop.call_later(since - due, self._watch_the_oldest)
                return
            del self._since[scope]
            scope.watch()
        self._loop = None


_unwatched = _Unwatched()


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
        _unwatched.add(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._watcher is None:
            _unwatched.remove(self)
        else:
            self._watcher.cancel()
        if not self._left:
            return
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        if kind is None or kind is asyncio.CancelledError:
            raise HungUp from None

    def watch(self) -> None:
        """From now on."""
        assert self._task is not None  # noqa: S101 - a coroutine always runs in one
        self._watcher = self._task.get_loop().create_task(self._watch(self._task))

    async def _watch(self, task: asyncio.Task[Any]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass  # the empty rest of a body
        self._left = True
        task.cancel()
