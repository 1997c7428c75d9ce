"""A gateway that dies where it is told to, and is born again at once.

    python -m tests.chaos.failing_gateway --port 8000 --armed FILE

While FILE says `after_final 3`, the third call that comes to that point takes the process with
it (`os._exit`), and FILE away. A parent holds the socket, with everything imported, and forks
one life after the other. The product knows nothing of this: its functions are wrapped.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import gc
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from django.conf import settings

import usage.postgres
import usage.sqlite
from config import asgi  # sets Django up, for what has models
from gateway.exchange import EVENT_STREAM, Exchange
from providers.transport import Http1Transport
from providers.transport.wire import Answer
from usage import processes
from usage.admission import Admissions, Grant
from usage.counters import shared
from usage.ledger import Entry, Final, Ledger, Opened
from usage.reservation import Reservation
from usage.truth import LedgerTruth

DIED = 77
MID_STREAM = 4  # events

Wrapped = Callable[..., Awaitable[Any]]


class Armed:
    """Which point ends this life, and at how many passings."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._passed = 0

    def passes(self, point: str) -> None:
        try:
            name, nth = self._file.read_text().split()
        except (FileNotFoundError, ValueError):
            return
        if name == point:
            self._passed += 1
            if self._passed >= int(nth):
                self._file.unlink()
                os._exit(DIED)

    async def passes_when_sent(self, point: str) -> None:
        """Once what was written before is out: the loop writes at the end of a turn."""
        for _ in range(5):
            await asyncio.sleep(0)
        self.passes(point)


def wrap(owner: Any, name: str) -> Callable[[Callable[..., Any]], None]:
    """`@wrap(Owner, "method")` puts a function of (the original, *arguments) in its place."""

    def place(around: Callable[..., Any]) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **named: Any) -> Any:
            return around(original, *args, **named)

        setattr(owner, name, wrapped)

    return place


def wrap_all(armed: Armed) -> None:
    _wrap_admission(armed)
    _wrap_upstream(armed)
    _wrap_ledger(armed)
    _wrap_answer(armed)


def _wrap_admission(armed: Armed) -> None:
    @wrap(Admissions, "admit")
    async def _(admit: Wrapped, *args: Any) -> Grant:
        armed.passes("before_admission")
        grant: Grant = await admit(*args)
        if grant.refusal is None:
            armed.passes("after_admission")
        return grant

    @wrap(LedgerTruth, "sum")
    async def _(ledger_sum: Wrapped, *args: Any) -> Any:
        found = await ledger_sum(*args)
        armed.passes("filling")
        return found


def _wrap_upstream(armed: Armed) -> None:
    @wrap(Answer, "head")
    async def _(head: Wrapped, *args: Any) -> None:
        await armed.passes_when_sent("request_sent")
        await head(*args)

    @wrap(Http1Transport, "send")
    async def _(send: Wrapped, *args: Any, **named: Any) -> Any:
        response = await send(*args, **named)
        armed.passes("head_came")
        return response

    @wrap(Answer, "read")
    async def _(read: Wrapped, *args: Any) -> Any:
        body = await read(*args)
        armed.passes("body_came")
        return body


def _wrap_ledger(armed: Armed) -> None:
    @wrap(Ledger, "commit")
    async def _(commit: Wrapped, ledger: Ledger, entry: Entry, **named: Any) -> None:
        what = "open" if isinstance(entry, Opened) else "final"
        armed.passes(f"before_{what}")
        await commit(ledger, entry, **named)
        armed.passes(f"after_{what}")

    @wrap(usage.sqlite, "_write_all")
    def _(write_all: Callable[..., bool], connection: Any, entries: Any, finals: Any) -> bool:
        written = write_all(connection, entries, finals)
        if finals:
            armed.passes("within_final")
        return written

    @wrap(usage.postgres, "_statements")
    def _(statements: Callable[..., Any], entries: Any) -> Iterator[Any]:
        yield from statements(entries)
        if any(isinstance(entry, Final) for entry in entries):
            armed.passes("within_final")

    @wrap(Reservation, "settle")
    async def _(settle: Wrapped, *args: Any, **named: Any) -> None:
        await settle(*args, **named)
        await armed.passes_when_sent("after_settlement")


def _wrap_answer(armed: Armed) -> None:
    sent: dict[str, int] = {}

    @wrap(Exchange, "start")
    async def _(start: Wrapped, exchange: Exchange, status: int, kind: bytes) -> None:
        await start(exchange, status, kind)
        if kind != EVENT_STREAM:
            await armed.passes_when_sent("head_sent")

    @wrap(Exchange, "more")
    async def _(more: Wrapped, exchange: Exchange, body: bytes) -> None:
        await more(exchange, body)
        count = sent[exchange.request_id] = sent.get(exchange.request_id, 0) + 1
        if count == 1:
            await armed.passes_when_sent("first_event")
        elif count == MID_STREAM:
            await armed.passes_when_sent("mid_stream")

    @wrap(Exchange, "end")
    async def _(end: Wrapped, exchange: Exchange, body: bytes = b"") -> None:
        await end(exchange, body)
        await armed.passes_when_sent("last_byte")


def hurry() -> None:
    """The dead are buried sooner than in production: the test waits for it."""
    processes.DEAD = dt.timedelta(seconds=2)
    shared.AUDIT_TURNS = 3
    shared.BEAT_TURNS = 2


def live(listener: socket.socket) -> None:
    """One life. It has a name of its own among the gateways."""
    config = uvicorn.Config(
        asgi.build(settings.ENV),
        loop="uvloop",
        http="config.http:Protocol",
        ws="none",
        lifespan="on",
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=10,
    )
    uvicorn.Server(config).run(sockets=[listener])


def live_again_and_again(listener: socket.socket) -> int:
    """Until SIGTERM, or a death that nobody asked for."""
    child = 0
    gc.freeze()  # else each life copies all of it, only to find that nothing is garbage

    def end(*_: FrameType | int | None) -> None:
        os.kill(child, signal.SIGTERM)

    while True:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        child = os.fork()
        if not child:
            live(listener)
            os._exit(0)
        signal.signal(signal.SIGTERM, end)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code != DIED:
            return abs(code)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--armed", type=Path, required=True)
    options = parser.parse_args()
    wrap_all(Armed(options.armed))
    hurry()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=2048)
    return live_again_and_again(listener)


if __name__ == "__main__":
    sys.exit(main())
