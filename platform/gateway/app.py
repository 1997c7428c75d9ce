"""The data path: identify → resolve → admit → dispatch → relay → settle.

A plain ASGI app beside Django (config/asgi.py chooses by path). It holds no models and never
touches the ORM; what it knows of tenants and routes lives in memory (gateway/live.py).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import structlog

from accounts.identities import Identities
from accounts.identity import WARM, Identity
from cache import metrics as cache_metrics
from cache.cache import Cache
from cache.looking import Look
from gateway import aggregating, listing, surfacing
from gateway.admitting import Admitting
from gateway.arranging import Arranger
from gateway.batch import Batch
from gateway.breaker_metrics import keep_publishing
from gateway.caching import LOOK, Caching
from gateway.credential_metrics import DrainedMetrics
from gateway.cursors import Cursors
from gateway.dispatch import Dispatcher
from gateway.drift_metrics import DriftMetrics
from gateway.exchange import Exchange, Receive, Scope, Send
from gateway.forms import identified
from gateway.idempotency import HEADER as IDEMPOTENCY_KEY
from gateway.idempotency import Idempotency
from gateway.identifying import Identifying
from gateway.live import Live
from gateway.observation import Observer
from gateway.paths import Door
from gateway.reading import Reading
from gateway.refusing import kind_of
from gateway.relay_sound import BrokenOff
from gateway.routing import Plan, resolve
from gateway.scores import Scores
from gateway.semantic import Semantic
from gateway.serving import Admitted, Serving
from gateway.sessions import HEADER as SESSION
from gateway.sessions import session_of
from gateway.shedding import Shedder, keep_measuring
from gateway.warming import Warming
from lib.clock import Clock, SystemClock, utc
from lib.problems import MethodNotAllowed, Problem, Unavailable
from providers.breakers import Alone, Breakers, Shared
from providers.call import Upstream
from providers.operations import Operation
from providers.operations.batch import parse_batch
from providers.snapshot import Snapshot
from providers.transport import Http1Transport, Transport
from usage.admission import Admissions, Grant
from usage.counters.claims import CountersAway, QuotaClaim, Used
from usage.ledger import Ledger
from usage.record import Record
from usage.refusals import Refusals
from usage.reservation import HUNG_UP, HungUp, Reservation

log = structlog.get_logger("patchbay.gateway")
T = TypeVar("T")

READ_SECONDS = 1.0  # a page waits so long for the loop


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of the data path, from the environment."""

    sandbox_url: str = ""
    proxy_hops: int = 0
    max_body_bytes: int = 8 * 1024 * 1024
    max_upload_bytes: int = 25 * 1024 * 1024
    deadline_ms: int = 60_000
    max_in_flight: int = 10_000
    max_lag_ms: int = 100
    warm_per_minute: int = 60
    warm_percent: int = 10


@dataclass(slots=True)
class Gateway:
    """One worker's data path."""

    options: Options
    ledger: Ledger
    identities: Identities
    admissions: Admissions
    clock: Clock = field(default_factory=SystemClock)
    transport: Transport = field(default_factory=Http1Transport)
    observer: Observer = field(default_factory=Observer)
    shared_breakers: Shared = field(default_factory=Alone)
    cache: Cache = field(default_factory=lambda: Cache(secrets.token_bytes(32)))
    cursors: Cursors = field(default_factory=lambda: Cursors(secrets.token_bytes(32)))
    live: Live = field(init=False)
    identifying: Identifying = field(init=False)
    reading: Reading = field(init=False)
    admitting: Admitting = field(init=False)
    dispatcher: Dispatcher = field(init=False)
    scores: Scores = field(init=False)
    arranger: Arranger = field(init=False)
    shedder: Shedder = field(init=False)
    refusals: Refusals = field(init=False)
    _loop: asyncio.AbstractEventLoop | None = None
    _beside: list[asyncio.Task[None]] = field(default_factory=list)
    _drained: DrainedMetrics = field(default_factory=DrainedMetrics)
    _drifting: DriftMetrics = field(default_factory=DriftMetrics)
    idempotency: Idempotency = field(init=False)
    caching: Caching = field(init=False)
    serving: Serving = field(init=False)
    warming: Warming | None = None

    def __post_init__(self) -> None:
        options = self.options
        self.live = Live(self.identities)
        self.refusals = Refusals(self.clock)
        self.identifying = Identifying(self.identities, self.live)
        self.reading = Reading(
            self.cursors,
            options.max_body_bytes,
            options.max_upload_bytes,
            options.deadline_ms / 1000,
        )
        self.admitting = Admitting(
            self.admissions, warm_per_minute=options.warm_per_minute, share=options.warm_percent
        )
        self.scores = Scores(self.clock)
        self.live.on_word = lambda word: self.scores.rated(word.target, word.score)
        breakers = Breakers(self.clock, self.shared_breakers)
        self.dispatcher = Dispatcher(self.transport, breakers, self.clock, self.scores)
        self.dispatcher.means.on_drained = self._drain
        self.live.on_snapshot = self._follow
        self.arranger = Arranger(self.scores, self.dispatcher.resting)
        self.caching = Caching(self.cache)
        self.live.on_prices = self.caching.repriced
        self.serving = Serving(
            self.dispatcher,
            self.caching,
            self.scores,
            self.arranger.sessions,
            self.handle,
            Semantic(self.cache, self.handle),
        )
        self.idempotency = Idempotency(self.clock, self.options.deadline_ms / 1000)
        self.shedder = Shedder(
            self.clock, self.options.max_in_flight, self.options.max_lag_ms / 1000
        )
        if options.warm_per_minute:
            self.warming = Warming(
                self.live,
                self.caching,
                self.handle,
                busy=lambda: self.shedder.busy,
                resting=self.dispatcher.resting,
            )

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.live.start()
        await self.admissions.counters.start()
        await self.shared_breakers.start()
        await self.cache.start()
        self._beside = [
            asyncio.create_task(keep_publishing(self.dispatcher.breakers)),
            asyncio.create_task(keep_measuring(self.shedder, self.clock)),
            asyncio.create_task(cache_metrics.keep_publishing(self.cache)),
            asyncio.create_task(self.refusals.keep_writing()),
        ]
        if self.warming is not None:
            self._beside.append(asyncio.create_task(self.warming.run()))

    async def stop(self) -> None:
        """Let go of everything, once all calls have ended."""
        self._loop = None
        for task in self._beside:
            task.cancel()
        if self._beside:  # once: what is stopped again has nothing beside it
            await asyncio.wait(self._beside)
            self._beside = []
            await self.refusals.write()
        await self.cache.close()
        await self.ledger.close()
        await self.admissions.counters.close()
        await self.shared_breakers.close()
        await self.live.stop()
        self.idempotency.close()
        self.refusals.close()
        await self.transport.close()
        self.observer.flush()

    def read_counters(self, claims: Sequence[QuotaClaim]) -> list[Used | None]:
        """What the counters say, for a thread that is not the loop's; nothing of those that
        cannot be asked now."""
        try:
            return self.on_loop(self.admissions.counters.read(claims))
        except (CountersAway, TimeoutError):
            return [None] * len(claims)

    def on_loop(self, work: Coroutine[Any, Any, T], seconds: float = READ_SECONDS) -> T:
        """Have it done, for a thread that is not the loop's. Raises TimeoutError where that takes
        longer than `seconds`, and what it raises."""
        if self._loop is None:
            work.close()
            raise TimeoutError
        asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return asked.result(seconds)
        except TimeoutError:
            asked.cancel()
            raise

    @property
    def runs(self) -> bool:
        return self._loop is not None

    def _follow(self, snapshot: Snapshot) -> None:
        """What lives longer than a snapshot learns of a new one."""
        self.dispatcher.breakers.apply(snapshot.breaker_overrides)
        self.dispatcher.retrying.pool.settled()
        self._drained.publish(snapshot.providers)
        self._drifting.publish(snapshot.providers)

    def _drain(self, upstream: Upstream, reason: str) -> None:
        pool = self.dispatcher.retrying.pool
        self.live.drain(upstream, reason, then=partial(pool.written, upstream.credential))

    async def handle(self, door: Door, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Whatever happens inside, one answer goes out, or none if nobody waits."""
        exchange = Exchange(
            scope, receive, send, clock=self.clock, proxy_hops=self.options.proxy_hops
        )
        exchange.openai = door.openai
        if door.form is not None:
            exchange.speak(door.form.speak(exchange.request_id))
        self.observer.in_flight += 1
        try:
            if self.observer.in_flight > self.shedder.bound:
                self.shedder.check(self.observer.in_flight)
            await self._enter(exchange, door)
        except BrokenOff:
            pass  # its row says so, and its client sees the connection end
        except HungUp:
            exchange.status = HUNG_UP
        except Problem as problem:
            if (kind := kind_of(problem, exchange, door)) is not None:
                self.refusals.note(kind, exchange.request_id)
            await _refuse(exchange, problem)
        except Exception:
            log.exception("call_failed", request_id=exchange.request_id)
            await _refuse(exchange, Problem())
        finally:
            self.observer.in_flight -= 1
            self.observer.observe(exchange, door.name)

    async def _enter(self, exchange: Exchange, door: Door) -> None:
        exchange.check_headers()
        if exchange.method != door.method:
            raise MethodNotAllowed(headers={"Allow": door.method})
        identity = await self.identifying.identify(exchange)
        if door.batch:
            await self._answer_batch(exchange, identity, door)
        elif door.operation is None:
            await self._answer_listing(exchange, identity, door)
        elif door.form is not None and door.form.counts:
            await self._answer_count(exchange, identity, door, door.operation)
        else:
            await self._answer_call(exchange, identity, door, door.operation)

    async def _answer_batch(self, exchange: Exchange, identity: Identity, door: Door) -> None:
        asked, body = await exchange.json_body(self.options.max_body_bytes)
        items = parse_batch(body)
        if exchange.header_bytes(IDEMPOTENCY_KEY):
            # Its items are counted one by one, but a repeated batch has none.
            await self.admitting.admit_listing(exchange, identity, door.name)
        async with self.idempotency.once(exchange, identity, door, asked) as first:
            if first:
                await exchange.answer(await Batch(exchange, self.handle).answer(items))

    async def _answer_listing(self, exchange: Exchange, identity: Identity, door: Door) -> None:
        await self.admitting.admit_listing(exchange, identity, door.name)
        snapshot, prices, now = self.live.snapshot, self.live.prices, self.clock.now()
        listed = listing.models(snapshot, identity, door.argument, prices=prices, now=now)
        await exchange.answer(listed)

    async def _answer_count(
        self, exchange: Exchange, identity: Identity, door: Door, operation: Operation
    ) -> None:
        await self.admitting.admit_listing(exchange, identity, door.name)
        call, narrowing, _ = await self.reading.read(exchange, operation)
        snapshot, url = self.live.snapshot, self.options.sandbox_url
        plan = resolve(snapshot, identity, operation, call, narrowing=narrowing, sandbox_url=url)
        surfacing.translate(exchange)
        await exchange.answer(surfacing.counted(call, plan))

    async def _answer_call(
        self, exchange: Exchange, identity: Identity, door: Door, operation: Operation
    ) -> None:
        call, narrowing, asked = await self.reading.read(exchange, operation)
        plan = resolve(
            self.live.snapshot,
            identity,
            operation,
            call,
            narrowing=narrowing,
            sandbox_url=self.options.sandbox_url,
        )
        # One moment and one book from end to end: what is billed is what was reserved for.
        now, prices = self.clock.now(), self.live.prices
        name = exchange.header_bytes(SESSION)
        session = session_of(name, identity, plan) if name else None
        plan = self.arranger.arrange(plan, call, narrowing, session, prices=prices, at=now)
        if narrowing.together:
            plan = aggregating.planned(plan, call, narrowing.together, identity.fan_out)
        if exchange.explains:
            exchange.explanation = self.arranger.explain(plan, call, session, prices=prices, at=now)
        deadline = self.reading.deadline(exchange, plan)
        look: Look | None = exchange.scope.get(LOOK)
        ask = None
        if look is None:
            ask = self.caching.ask(
                exchange, identity, call, plan, narrowing=narrowing, until=deadline
            )
        else:
            self.caching.check(look, identity, call, plan, narrowing=narrowing)
        entry = None if ask is None else self.cache.fresh(ask)
        asks_nobody = entry is not None or (ask is not None and ask.wish.only_if_cached)
        admitting = self.admitting
        try:
            grant = await admitting.admit(
                exchange, identity, call, plan, now=now, prices=prices, kept=asks_nobody
            )
        except Unavailable as problem:
            entry = await self.caching.instead(ask, problem)
            if entry is None:
                raise
            grant = await admitting.admit(
                exchange, identity, call, plan, now=now, prices=prices, kept=True
            )
        it = Admitted(
            exchange,
            door,
            operation,
            call,
            asked,
            plan,
            self._reserve(exchange, identity, plan, grant, now=now),
            prices,
            deadline,
            session,
            ask,
            entry,
            look,
            identity.hit_price,
        )
        if exchange.header_bytes(IDEMPOTENCY_KEY) is None:
            await self.serving.serve(it)
            return
        # A call that is not the first with its key leaves the reservation unused.
        if call.file is not None:
            asked = await identified(call)
        async with it.reservation, self.idempotency.once(exchange, identity, door, asked) as first:
            if first:
                await self.serving.serve(it)

    def _reserve(
        self, exchange: Exchange, identity: Identity, plan: Plan, grant: Grant, *, now: float
    ) -> Reservation:
        assert identity.tenant_id is not None  # noqa: S101 - identify lets no other pass
        record = Record(
            request_id=exchange.request_id,
            created_at=utc(now),
            tenant_id=identity.tenant_id,
            project_id=identity.project_id,
            key_id=identity.key_id,
            user_id=identity.user_id,
            mode=identity.mode,
            operation=plan.route.operation,
            route=plan.route.name,
            bytes=grant.hold.parts[0].amounts.bytes,
            markup=identity.markup,
            cache=WARM if identity.kind == WARM else "",
            headers=exchange.kept_headers,
        )
        reservation = Reservation(self.ledger, self.clock, record, exchange.started, grant)
        exchange.reservation = reservation
        return reservation


async def _refuse(exchange: Exchange, problem: Problem) -> None:
    with suppress(HungUp):
        await exchange.refuse(problem)
