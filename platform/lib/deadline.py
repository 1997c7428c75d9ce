"""`asyncio.timeout_at` for a path on which a microsecond counts."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from lib.later import CLOSE, Later

YOUNG = 0.02  # seconds for which nearly all bounds are held without a timer of their own
_young = Later(YOUNG)


class Deadline:
    """`with Deadline(when) as limit: …` raises TimeoutError out of the scope when it is still
    open at the loop's time `when`, which may be moved (`limit.when = …`) while it is.

    Cancels and uncancels the task just as `asyncio.timeout_at` does.
    """

    __slots__ = ("_cancelling", "_expired", "_loop", "_task", "_timer", "when")

    def __init__(self, when: float) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in one
        self.when = when
        self._task = task
        self._loop = task.get_loop()
        self._cancelling = task.cancelling()
        self._timer: asyncio.TimerHandle | None = None
        self._expired = False

    def __enter__(self) -> Self:
        if self.when - self._loop.time() > YOUNG:
            _young.add(self)
        else:
            self.due()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is None:
            _young.remove(self)
            return
        self._timer.cancel()
        if (
            self._expired
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error

    def due(self) -> None:
        """Look again at `when`, by a timer of its own from now on."""
        if self._timer is None or self._loop.time() + CLOSE < self.when:
            self._timer = self._loop.call_at(self.when, self.due)
        else:
            self._expired = True
            self._task.cancel()
