"""The end of a gateway, told before it comes: from SIGTERM on `/readyz` says no, and for a while
the server goes on as it was, so that who sends it calls can notice and send them elsewhere."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType


def drain_first(begin: Callable[[], None], seconds: float) -> None:
    """Stand before the handler of SIGTERM that the server has set: `begin` at once, and its own
    when `seconds` are over, or when the signal comes again. Called in the running loop."""
    stop = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(stop):
        return  # some other process's part, or nobody's: the signal ends us as it would
    loop = asyncio.get_running_loop()

    def drain(number: int, _: FrameType | None) -> None:
        begin()
        signal.signal(signal.SIGTERM, stop)
        loop.call_soon_threadsafe(loop.call_later, seconds, stop, number, None)

    signal.signal(signal.SIGTERM, drain)
