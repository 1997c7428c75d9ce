"""The second level, for all workers: Redis or Valkey (shared.lua).

A store that is away, late, slow or emptied costs nobody an error and a call no more than the
time-out: the worker goes on with what it has in memory, and so does it alone when no store is
configured. What was invalidated meanwhile is told as soon as the store is back, and until then
this worker takes nothing from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import structlog

from cache.tags import Stamps
from lib.ids import uuid7
from lib.valkey import Script, StoreAway, StoreError, Valkey

log = structlog.get_logger("patchbay.cache")

PATIENCE = 0.04  # seconds that a call waits for the store at most
LOOK_SECONDS = 0.25
LOOK_TIMEOUT = 1.0  # nobody waits for it
MOST_AT_ONCE = 1000
MOST_UNTOLD = 10_000
LARGEST = 512 * 1024  # bytes of an entry that is shared
LONGEST = 30 * 86400.0  # seconds that one is: shared.lua remembers invalidations longer
LEASE_SECONDS = 1.0  # after which one whose holder died is another's
EVERYTHING = b""  # the id that stands for all tags
PREFIX = "{patchbay}:cache"
_SHARED_KEYS = (f"{PREFIX}:epoch", f"{PREFIX}:tags", f"{PREFIX}:index", f"{PREFIX}:sizes")
_SCRIPT = Script(Path(__file__).with_name("shared.lua").read_text("utf-8"))


class Since(NamedTuple):
    """A moment of the store's that has passed, in one of its epochs."""

    epoch: str
    stamp: int


class Lease(enum.IntEnum):
    """Who is to fetch the answer."""

    NOT_NEEDED = -1  # nobody: it is there, and fresh
    ANOTHERS = 0
    GRANTED = 1


class Kept(NamedTuple):
    """What the store has (b"" for nothing), what became of the lease, and when that was."""

    data: bytes
    lease: Lease
    since: Since


class Sharing(NamedTuple):
    """What `put` tells besides the entry: seconds that it is fresh and of any use, and a lease
    that ends with it."""

    since: Since
    tags: Sequence[bytes]
    fresh_for: float
    usable_for: float
    lease: str = ""


class Filled(NamedTuple):
    """What the store holds, some of it expired. `bytes` are those of all entries together."""

    entries: int
    bytes: int


class SecondLevel(Protocol):
    """What the cache wants of it. `on_lost` is called when invalidations may have been missed,
    so that nothing kept before may be used. `limit`: bytes of all entries; 0: there is none."""

    on_lost: Callable[[], None]

    @property
    def limit(self) -> int: ...

    @property
    def usable(self) -> bool: ...

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def get(self, key: bytes, lease: str = "", *, anyway: bool = False) -> Kept:
        """`anyway`: the lease is wanted although what is kept may be fresh. Raises StoreAway."""
        ...

    def put(self, key: bytes, data: bytes, sharing: Sharing) -> None: ...

    def renew(self, key: bytes, lease: str) -> None: ...

    def release(self, key: bytes, lease: str) -> None: ...

    async def claim(self, name: bytes, seconds: float) -> bool:
        """Whether what has this name is for this worker to do: of all workers one is told so
        within that time. With the store away nobody is."""
        ...

    async def invalidate(self, ids: Sequence[bytes]) -> bool:
        """Whether all who have to know can know by now."""
        ...

    async def filled(self) -> Filled:
        """Raises StoreAway."""
        ...


class Alone:
    """No second level: one worker, or each for itself."""

    usable = False
    limit = 0

    def __init__(self) -> None:
        self.on_lost: Callable[[], None] = lambda: None

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def get(self, key: bytes, lease: str = "", *, anyway: bool = False) -> Kept:
        raise StoreAway("none is configured")

    def put(self, key: bytes, data: bytes, sharing: Sharing) -> None: ...

    def renew(self, key: bytes, lease: str) -> None: ...

    def release(self, key: bytes, lease: str) -> None: ...

    async def claim(self, name: bytes, seconds: float) -> bool:
        return True

    async def invalidate(self, ids: Sequence[bytes]) -> bool:
        return True

    async def filled(self) -> Filled:
        raise StoreAway("none is configured")


class SharedCache:
    """One worker's side of it. `limit`: bytes of all entries together."""

    def __init__(
        self, url: str, stamps: Stamps, *, limit: int = 256 << 20, timeout: float = PATIENCE
    ) -> None:
        """`timeout`: seconds a call waits for the store at most."""
        self.on_lost: Callable[[], None] = lambda: None
        self._stamps = stamps
        self.limit = limit
        self._store = Valkey(url, timeout=timeout, on_connect=self._connected)
        self._heard = Since("", 0)  # the newest stamp of all changes heard of
        self._untold: dict[bytes, None] = {}
        self._told: dict[bytes, int] = {}  # by ourselves, and not heard back yet
        self._looking: asyncio.Task[None] | None = None

    @property
    def usable(self) -> bool:
        store = self._store
        return bool(self._heard.epoch) and not self._untold and store.connected and not store.late

    async def start(self) -> None:
        """Connect, and keep listening. A store that is away is tried again and again."""
        try:
            await self._store.connect()
        except StoreAway as away:
            log.warning("cache_alone", reason=str(away))
        self._looking = asyncio.create_task(self._look_again())

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        await self._store.close()

    async def get(self, key: bytes, lease: str = "", *, anyway: bool = False) -> Kept:
        if not self.usable:
            raise StoreAway("not usable")
        epoch = self._heard.epoch
        words = (lease, _ms(LEASE_SECONDS), int(anyway))
        data, whose, stamp = await self._ask("get", *words, key=key)
        return Kept(data, Lease(whose), Since(epoch, int(stamp)))

    def put(self, key: bytes, data: bytes, sharing: Sharing) -> None:
        """Behind everybody's back: whether it gets there, the next who asks will see."""
        usable_for = min(sharing.usable_for, LONGEST)
        if len(data) > LARGEST or usable_for < 0.001:
            return self.release(key, sharing.lease)
        epoch, stamp = sharing.since
        micros = round(min(sharing.fresh_for, LONGEST) * 1e6)
        tags = b"".join(sharing.tags)
        sizes = (_ms(usable_for), self.limit)
        return self._send(key, "put", epoch, stamp, tags, micros, *sizes, sharing.lease, data)

    def renew(self, key: bytes, lease: str) -> None:
        self._send(key, "renew", lease, _ms(LEASE_SECONDS))

    def release(self, key: bytes, lease: str) -> None:
        if lease:
            self._send(key, "release", lease)

    async def claim(self, name: bytes, seconds: float) -> bool:
        """A lease that nobody gives back."""
        if not self.usable:
            return False
        try:
            words = (uuid7(), _ms(seconds), 1)
            _, whose, _ = await self._ask("get", *words, key=name)
        except StoreAway:
            return False
        return Lease(whose) is Lease.GRANTED

    async def invalidate(self, ids: Sequence[bytes]) -> bool:
        """Tell all workers, now or as soon as that is possible. This one must know already."""
        self._untold |= dict.fromkeys(ids)
        if len(self._untold) > MOST_UNTOLD:
            self._untold = {EVERYTHING: None}
        if EVERYTHING in self._untold:
            self._heard = Since("", 0)  # and so nothing is found until a new epoch has begun
        with contextlib.suppress(StoreAway):
            await self._tell()
        return not self._untold

    async def filled(self) -> Filled:
        return Filled(*map(int, await self._ask("filled")))

    async def look(self) -> None:
        """Tell what could not be told, and hear what changed since. Raises StoreAway."""
        while self._untold:
            await self._tell(LOOK_TIMEOUT)
        while await self._hear() >= MOST_AT_ONCE:
            pass

    async def _connected(self, _: Valkey) -> None:
        """Before anything is taken from a new connection, which may lead to another server."""
        await self.look()

    async def _look_again(self) -> None:
        while True:
            with contextlib.suppress(StoreAway):
                await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def _tell(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the store's
        ids = list(self._untold)[:MOST_AT_ONCE]
        if not ids:
            return
        stamp = int(await self._ask("invalidate", *ids, timeout=timeout))
        for tag in ids:
            self._untold.pop(tag, None)
            self._told[tag] = stamp

    async def _hear(self) -> int:
        """How many changes there were."""
        known, new = self._heard, uuid7()
        epoch, stamp, *changes = await self._ask(
            "look", self._store.run_id, new, *known, MOST_AT_ONCE, timeout=LOOK_TIMEOUT
        )
        self._heard = Since(epoch.decode(), int(stamp))
        if self._heard.epoch != known.epoch:
            self._lost()
            return 0
        pairs = list(zip(changes[::2], map(int, changes[1::2]), strict=True))
        others = [tag for tag, stamp in pairs if self._told.pop(tag, 0) != stamp]
        if others:
            self._stamps.invalidate(others)
        return len(pairs)

    def _lost(self) -> None:
        """Invalidations may have been lost with what the store knew."""
        self._told.clear()
        self.on_lost()
        log.info("cache_begins_anew")

    async def _ask(
        self,
        command: str,
        *arguments: Any,
        key: bytes = b"",
        timeout: float | None = None,  # noqa: ASYNC109 - the store's own
    ) -> Any:
        try:
            words = [command, *arguments]
            return await self._store.run(_SCRIPT, self._keys(key), words, timeout=timeout)
        except StoreError as error:
            raise StoreAway(error.code) from None

    def _send(self, key: bytes, *words: Any) -> None:
        keys = self._keys(key)
        with contextlib.suppress(StoreAway):
            self._store.call("EVALSHA", _SCRIPT.sha, len(keys), *keys, *words)

    def _keys(self, key: bytes) -> list[str]:
        name = f"{PREFIX}:{self._heard.epoch}:{key.hex()}"
        return [*_SHARED_KEYS, name, f"{name}:lease"]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
