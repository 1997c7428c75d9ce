"""Keeps the data path's memory true, within a second of a change: snapshot, prices, identities."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
from prometheus_client import Gauge

from accounts.credentials import Credential
from accounts.identities import Identities
from billing import book
from billing.book import PriceBook
from lib.models import Revision, Topic
from lib.problems import Unavailable
from lib.stores import StoreAway
from lib.threads import LookUps
from providers import services, snapshot
from providers.call import Upstream
from providers.snapshot import Snapshot
from usage import feedback
from usage.feedback import Word

log = structlog.get_logger("patchbay.live")

POLL_SECONDS = 0.5
PATIENCE = 4.0  # seconds for the answer to a poll
LISTEN_SECONDS = 5.0
DRAIN_AGAIN_SECONDS = 1.0
REVISION = Gauge(
    "patchbay_configuration_revision",
    "The newest change that is in force here, by topic; of several workers, in all of them.",
    ["topic"],
    multiprocess_mode="livemin",
)
_UNKNOWN = Snapshot()


class Live:
    """The snapshot, the price book and the callers seen lately, reloaded when revisions move."""

    def __init__(self, identities: Identities) -> None:
        self.snapshot = _UNKNOWN
        self.prices = PriceBook()
        self.identities = identities
        self.healthy = False
        self.on_word: Callable[[Word], None] | None = None
        self._last_word, self._listens_at = 0, 0.0
        self.on_snapshot: Callable[[Snapshot], None] = lambda _: None
        self.on_prices: Callable[[PriceBook, PriceBook], Awaitable[None]] | None = None
        self._numbers: dict[str, int] | None = None
        self._look_ups = LookUps()
        self._task: asyncio.Task[None] | None = None
        self._draining: set[asyncio.Task[None]] = set()

    @property
    def loaded(self) -> bool:
        return self.snapshot is not _UNKNOWN

    async def start(self) -> None:
        """Load all once, then keep polling in the background."""
        await self.poll()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for draining in self._draining:
            draining.cancel()
        self._look_ups.close()

    async def poll(self) -> None:
        """Reload what changed. Keeps what it has while the database is away, and whatever else
        goes wrong: the next turn may find it right."""
        try:
            await self._reload()
            await self._listen()
        except StoreAway as away:
            if self.healthy:
                log.warning("database_away", error=str(away))
            self.healthy = False
        except Exception:
            log.exception("reload_failed")
            self.healthy = False
        else:
            self.healthy = True

    async def look_up(self, credential: Credential) -> None:
        """Have `credential` remembered. Raises Unavailable (store_unavailable)."""
        try:
            if not self.loaded:  # the database was away at the start: no route is known yet
                await self._reload()
            await self._look_ups.run(self.identities.load, credential)
        except StoreAway:
            raise Unavailable(
                "The database is away, and this key was not seen lately. Try again shortly.",
                code="store_unavailable",
                retry_after=2,
            ) from None

    def drain(self, upstream: Upstream, reason: str, then: Callable[[], None]) -> None:
        """Have it written that a provider refused a credential, and `then` say that it is."""
        task = asyncio.create_task(self._drain(upstream, reason, then))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def note_warmed(self, request_id: int, outcome: str) -> None:
        """For staff to see. With the database away it stays unsaid."""
        with contextlib.suppress(StoreAway):
            await self._look_ups.run(services.note_warmed, request_id, outcome)

    async def _drain(self, upstream: Upstream, reason: str, then: Callable[[], None]) -> None:
        write = partial(
            services.drain_credential,
            public_id=upstream.credential,
            secret=upstream.secret or "",
            reason=reason,
        )
        while True:
            try:
                await self._look_ups.run(write)
            except StoreAway:
                await asyncio.sleep(DRAIN_AGAIN_SECONDS)
            else:
                return then()

    async def _reload(self) -> None:
        known = self._numbers or {}
        numbers = await self._revisions()
        if self._numbers is None or known.get(Topic.KEYS) != numbers.get(Topic.KEYS):
            self.identities.forget()
        if self._numbers is None or known.get(Topic.ROUTING) != numbers.get(Topic.ROUTING):
            prices = await self._look_ups.run(book.load)
            self.snapshot = await self._look_ups.run(snapshot.load)
            before, self.prices = self.prices, prices
            self.on_snapshot(self.snapshot)
            if self.on_prices is not None and self._numbers is not None:
                await self.on_prices(before, prices)
            log.info("snapshot_loaded", routes=len(self.snapshot.routes))
        self._numbers = numbers
        for topic, number in numbers.items():
            REVISION.labels(topic).set(number)

    async def _revisions(self) -> dict[str, int]:
        """A database that took the question and does not answer is away too."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._look_ups.run(Revision.numbers)
        except TimeoutError:
            raise StoreAway("no answer") from None

    async def _listen(self) -> None:
        """What people said of answers meanwhile, every few seconds."""
        now = asyncio.get_running_loop().time()
        if self.on_word is None or now < self._listens_at:
            return
        self._listens_at = now + LISTEN_SECONDS
        for word in await self._look_ups.run(feedback.words_since, self._last_word):
            self._last_word = word.number
            self.on_word(word)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.poll()
