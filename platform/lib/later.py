"""Timers for what is nearly always over before they are due: one serves them all."""

from __future__ import annotations

import asyncio
from typing import Protocol

CLOSE = 0.0001  # seconds: a loop may call that much too early


class Waiting(Protocol):
    def due(self) -> None:
        """It was still waiting `seconds` after it had been added."""
        ...


class Later:
    """What is added and not removed within `seconds` is told so. Adding and removing cost a
    place in a dictionary, not a timer of the loop's."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since: dict[Waiting, float] = {}  # the oldest first
        self._loop: asyncio.AbstractEventLoop | None = None  # whose timer is set

    def add(self, waiting: Waiting) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._since.clear()
            loop.call_later(self.seconds, self._tell_the_oldest)
        self._since[waiting] = loop.time()

    def remove(self, waiting: Waiting) -> None:
        self._since.pop(waiting, None)

    def _tell_the_oldest(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            return
        old = loop.time() - self.seconds
        while self._since:
            waiting, since = next(iter(self._since.items()))
            if since > old + CLOSE:
                loop.call_later(since - old, self._tell_the_oldest)
                return
            del self._since[waiting]
            waiting.due()
        self._loop = None
