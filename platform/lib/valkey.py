"""Redis or Valkey for the data path: all callers of a process share one connection.

A round trip costs a few microseconds of CPU, and a store that is away costs nobody more than
the time-out: whoever asks meanwhile hears so at once, and it is connected again behind the scenes.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import structlog

from lib.resp import Link, StoreError, Word
from lib.stores import StoreAway

__all__ = ["Script", "StoreAway", "StoreError", "Valkey"]

log = structlog.get_logger("patchbay.store")

CONNECT_SECONDS = 0.5
ON_CONNECT_SECONDS = 5.0
SHORTEST_PAUSE = 0.05  # seconds between two tries to connect; it doubles up to:
LONGEST_PAUSE = 1.0
# What a server says that cannot serve for now, or is not the one to ask.
AWAY = frozenset(
    ["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "ASK", "TRYAGAIN", "BUSY"]
)

_greeted: ContextVar[Link | None] = ContextVar("greeted", default=None)


class Script:
    """A Lua script, which the server knows by its SHA-1."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class Valkey:
    """`on_connect` is awaited with this on each new connection before anybody else may use it;
    what it raises ends that connection. Only one-reply commands may be sent: no SUBSCRIBE, no
    MONITOR. `timeout` is the seconds within which `run` has an answer."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 0.04,
        on_connect: Callable[[Valkey], Awaitable[None]] | None = None,
    ) -> None:
        self.timeout = timeout
        self.run_id = ""  # of the server that this is, or was last, connected to
        self._server = _Server.at(url)
        self._redirected: _Server | None = None
        self._on_connect = on_connect
        self._link: Link | None = None
        self._new: Link | None = None
        self._loading: set[str] = set()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self._link is not None and not self._link.lost

    @property
    def late(self) -> bool:
        """Whether it owes an answer for longer than it may: then nobody waits for it."""
        return self._link is not None and self._link.suspect

    async def connect(self) -> None:
        """Connect and, from now on, stay so: the first try is waited for.

        Raises StoreAway when that fails; it is tried again until `close`.
        """
        if self._keeper is not None:
            self._usable()
            return
        tried: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._keeper = keeper = asyncio.create_task(self._keep_connected(tried))
        await asyncio.wait([tried, keeper], return_when=asyncio.FIRST_COMPLETED)
        if fault := tried.result() if tried.done() else "closed":
            raise StoreAway(fault)

    def call(self, *command: Word) -> asyncio.Future[Any]:
        """Send a command; the future is of its reply, and fails with StoreAway or StoreError.

        It waits as long as the connection lives: bound it. Raises StoreAway.
        """
        return self._usable().send(command)

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Word],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - one timer for all, not one a call
    ) -> Any:
        """The script's answer, within `timeout` seconds. It may run all the same when this
        raises StoreAway. Raises StoreError for what the script itself did wrong."""
        link = self._usable()
        if link.suspect:
            raise StoreAway("no answer in time")
        patience = self.timeout if timeout is None else timeout
        command = (b"EVALSHA", script.sha, len(keys), *keys, *args)
        try:
            try:
                return await link.send(command, patience=patience)
            except StoreError as error:
                if error.code != "NOSCRIPT":
                    raise
            return await self._load(link, script, command, patience)
        except StoreError as error:
            if error.code in AWAY:
                raise StoreAway(error.code) from None
            raise

    async def close(self) -> None:
        if self._keeper is not None:
            keeper, self._keeper = self._keeper, None
            keeper.cancel()
            await asyncio.wait([keeper])

    async def _load(
        self, link: Link, script: Script, command: tuple[Word, ...], patience: float
    ) -> Any:
        """Send the source, unless it is on its way before us in another's command."""
        if script.sha in self._loading:
            return await link.send(command, patience=patience)
        self._loading.add(script.sha)
        try:
            return await link.send((b"EVAL", script.source, *command[2:]), patience=patience)
        finally:
            self._loading.discard(script.sha)

    def _usable(self) -> Link:
        if self._link is not None:
            return self._link
        if self._new is not None and _greeted.get() is self._new:
            return self._new
        raise StoreAway("not connected")

    async def _keep_connected(self, tried: asyncio.Future[str]) -> None:
        pause, told = SHORTEST_PAUSE, ""
        while True:
            began = time.monotonic()
            reason = await self._stay_connected(tried)
            if not tried.done():
                tried.set_result(reason)
            if time.monotonic() - began > LONGEST_PAUSE:
                pause, told = SHORTEST_PAUSE, ""
            if reason != told:
                log.warning("store_away", reason=reason)
                told = reason
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _stay_connected(self, tried: asyncio.Future[str]) -> str:
        """One connection's life, from the try on; why it ended."""
        link = self._new = Link(self.timeout)
        server, self._redirected = self._redirected or self._server, None
        _greeted.set(link)
        try:
            await self._open(link, server)
            await self._prepare(link)
            if not link.lost:
                self._link = link
                if not tried.done():
                    tried.set_result("")
                log.info("store_connected", run_id=self.run_id)
            return await link.end()
        except StoreAway as away:
            return str(away)
        finally:
            link.drop("not connected")
            self._link = self._new = None
            if server is self._server and link.error is not None:
                self._redirected = server.moved(link.error)

    async def _open(self, link: Link, server: _Server) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await server.reach(link)
                replies = [link.send(command) for command in server.greeting]
                answers = [await reply for reply in replies]
        except StoreAway:
            raise
        except StoreError as error:
            raise StoreAway(error.code) from None
        except TimeoutError:
            raise StoreAway("no answer in time") from None
        except Exception as error:
            raise StoreAway(type(error).__name__) from None
        self.run_id = _run_id(answers[-1])

    async def _prepare(self, link: Link) -> None:
        if self._on_connect is None:
            return
        try:
            async with asyncio.timeout(ON_CONNECT_SECONDS):
                await self._on_connect(self)
        except StoreAway:
            raise
        except StoreError as error:
            raise StoreAway(error.code) from None
        except Exception as error:
            log.exception("store_unprepared")
            raise StoreAway("could not be prepared") from error


@dataclass(frozen=True, slots=True, repr=False)
class _Server:
    """Where the store is and what it wants to hear first, from a URL."""

    host: str
    port: int
    path: str  # of a Unix socket; "" for TCP
    tls: ssl.SSLContext | None
    greeting: tuple[tuple[Word, ...], ...]

    @classmethod
    def at(cls, url: str) -> Self:
        """redis://, valkey://, rediss:// (verified TLS) or unix://, [user]:password@, /database
        or ?db=; ?ssl_ca_certs= names the file of a private authority. Raises ValueError."""
        try:
            parts = urlsplit(url)
            port = parts.port or 6379
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            unix = parts.scheme == "unix"
            database = int(query.get("db") or ("" if unix else parts.path.strip("/")) or 0)
        except ValueError:  # its message may hold a part of the password
            raise ValueError(
                "REDIS_URL is no URL of a store. Write redis://:password@host:6379/0, with "
                "the password percent-encoded."
            ) from None
        if parts.scheme not in ("redis", "rediss", "valkey", "unix"):
            raise ValueError("REDIS_URL must begin with redis://, rediss://, valkey:// or unix://")
        tls = None
        if parts.scheme == "rediss":
            tls = ssl.create_default_context(cafile=query.get("ssl_ca_certs"))
        return cls(
            host=unquote(parts.hostname or "localhost"),
            port=port,
            path=unquote(parts.path) if unix else "",
            tls=tls,
            greeting=_greeting(unquote(parts.username or ""), parts.password, database),
        )

    async def reach(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        if self.path:
            await loop.create_unix_connection(lambda: link, self.path)
        else:
            await loop.create_connection(lambda: link, self.host, self.port, ssl=self.tls)

    def moved(self, error: StoreError) -> Self | None:
        """The server that a cluster's `MOVED slot host:port` names."""
        code, _, address = str(error).rpartition(" ")
        host, _, port = address.rpartition(":")
        if not code.startswith("MOVED ") or not port.isdecimal():
            return None
        host = host.strip("[]?") or self.host
        return replace(self, host=host, port=int(port), path="")


def _greeting(user: str, password: str | None, database: int) -> tuple[tuple[Word, ...], ...]:
    greeting: list[tuple[Word, ...]] = []
    if password is not None:
        greeting.append(("AUTH", *([user] if user else []), unquote(password)))
    if database:
        greeting.append(("SELECT", database))
    return (*greeting, ("INFO", "server"))


def _run_id(info: Any) -> str:
    """Raises StoreAway for an answer that is not INFO's."""
    lines = info.split(b"\r\n") if isinstance(info, bytes) else []
    for line in lines:
        name, _, value = line.partition(b":")
        if name == b"run_id":
            return str(value, "ascii", "replace")
    raise StoreAway("does not say who it is")
