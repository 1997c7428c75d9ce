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

from accounts.identity import WARM, Credential, Identities, Identity
from cache import metrics as cache_metrics
from cache.cache import Cache
from cache.looking import Look
from gateway import aggregating, cursors, listing, surfacing
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
from gateway.explanation import HEADER as EXPLAIN
from gateway.idempotency import HEADER as IDEMPOTENCY_KEY
from gateway.idempotency import Idempotency
from gateway.live import Live
from gateway.observation import Observer
from gateway.paths import Door
from gateway.reading import read_data
from gateway.routing import Narrowing, Plan, resolve
from gateway.scores import Scores
from gateway.semantic import Semantic
from gateway.serving import Admitted, Serving
from gateway.sessions import HEADER as SESSION
from gateway.sessions import session_of
from gateway.shedding import Shedder, keep_measuring
from gateway.warming import SHOWN, Warming
from lib.clock import Clock, SystemClock, utc
from lib.problems import (
    InvalidRequest,
    MethodNotAllowed,
    Problem,
    Unauthenticated,
    Unavailable,
)
from providers.breakers import Alone, Breakers, Shared
from providers.call import Call, Upstream
from providers.operations import Kind, Operation, validate
from providers.operations.batch import parse_batch
from providers.snapshot import Snapshot
from providers.transport import Http1Transport, Transport
from usage.admission import Admissions, Grant
from usage.counters.claims import CountersAway, QuotaClaim, Used
from usage.ledger import Ledger
from usage.record import Record
from usage.reservation import HUNG_UP, HungUp, Reservation

log = structlog.get_logger("patchbay.gateway")
T = TypeVar("T")

READ_SECONDS = 1.0  # a page waits so long for the loop
LOOK_UPS = 3  # a record that is forgotten while it is being looked up is looked up again


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of the data path, from the environment."""

    sandbox_url: str = ""
    proxy_hops: int = 0
    max_body_bytes: int = 8 * 1024 * 1024
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
    admitting: Admitting = field(init=False)
    live: Live = field(init=False)
    dispatcher: Dispatcher = field(init=False)
    scores: Scores = field(init=False)
    arranger: Arranger = field(init=False)
    shedder: Shedder = field(init=False)
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
        self.admitting = Admitting(
            self.admissions, warm_per_minute=options.warm_per_minute, share=options.warm_percent
        )
        self.live = Live(self.identities)
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
        await self.cache.close()
        await self.ledger.close()
        await self.admissions.counters.close()
        await self.shared_breakers.close()
        await self.live.stop()
        self.idempotency.close()
        await self.transport.close()
        self.observer.flush()

    def read_counters(self, claims: Sequence[QuotaClaim]) -> list[Used | None]:
        """What the counters say, for a thread that is not the loop's; nothing of those that
        cannot be asked now."""
        try:
            return self.on_loop(self.admissions.counters.read(claims))
        except (CountersAway, TimeoutError):
            return [None] * len(claims)

    def on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Have it done, for a thread that is not the loop's. Raises TimeoutError where the loop
        does not get to it, and what it raises."""
        if self._loop is None:
            work.close()
            raise TimeoutError
        asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return asked.result(READ_SECONDS)
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
        except HungUp:
            exchange.status = HUNG_UP
        except Problem as problem:
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
        identity = await self._identify(exchange)
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
        call, narrowing, _ = await self._read(exchange, operation)
        snapshot, url = self.live.snapshot, self.options.sandbox_url
        plan = resolve(snapshot, identity, operation, call, narrowing=narrowing, sandbox_url=url)
        surfacing.translate(exchange)
        await exchange.answer(surfacing.counted(call, plan))

    async def _answer_call(
        self, exchange: Exchange, identity: Identity, door: Door, operation: Operation
    ) -> None:
        call, narrowing, asked = await self._read(exchange, operation)
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
            plan = aggregating.planned(plan, narrowing.together, identity.fan_out)
        if exchange.explains:
            exchange.explanation = self.arranger.explain(plan, call, session, prices=prices, at=now)
        deadline = self._deadline(exchange, plan)
        look: Look | None = exchange.scope.get(LOOK)
        ask = None
        if look is None:
            ask = self.caching.ask(
                exchange, identity, call, plan, narrowing=narrowing, until=deadline
            )
        entry = None if ask is None else self.cache.fresh(ask)
        admitting = self.admitting
        try:
            grant = await admitting.admit(
                exchange, identity, call, plan, now=now, prices=prices, kept=entry is not None
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
        async with it.reservation, self.idempotency.once(exchange, identity, door, asked) as first:
            if first:
                await self.serving.serve(it)

    async def _identify(self, exchange: Exchange) -> Identity:
        """The caller. Raises Unauthenticated, Forbidden, RateLimited or Unavailable."""
        identities, address = self.identities, exchange.address
        shown: Credential | None = exchange.scope.get(SHOWN)
        if shown is None:
            shown = self._shown(exchange, address)
        for _ in range(LOOK_UPS):
            if identities.remembered(shown):
                break
            await self.live.look_up(shown)
        identity = identities.check(shown, address)
        if identity.tenant_id is None:
            raise Unauthenticated("This token is for no tenant. Sign in with one, or use a key.")
        return identity

    def _shown(self, exchange: Exchange, address: str) -> Credential:
        """What the caller shows. Raises Unauthenticated or RateLimited."""
        self.identities.refuse_flood(address)
        try:
            return self.identities.read(
                exchange.header_bytes(b"authorization"), exchange.header_bytes(b"x-api-key")
            )
        except Unauthenticated:
            self.identities.note_failure(address)
            raise

    async def _read(
        self, exchange: Exchange, operation: Operation
    ) -> tuple[Call, Narrowing, bytes]:
        """The call, validated, and its body as it came. Raises InvalidRequest and what
        Exchange.json_body raises."""
        if operation.kind is not Kind.DATA:
            exchange.explains = exchange.header_bytes(EXPLAIN) == b"true"
            body, params = await exchange.json_body(self.options.max_body_bytes)
            if exchange.surface is not None:
                return surfacing.read(exchange, operation, params), Narrowing(), body
            validate(operation, params)
            return Call(operation.name, params, body, exchange.request_id), Narrowing(), body
        call, narrowing, exchange.explains = read_data(
            operation, exchange.query, exchange.request_id
        )
        if operation.is_list:
            exchange.cursors = self.cursors
            if (cursor := call.params.get("cursor")) is not None:
                narrowing = self._go_on(operation, call.params, cursor, narrowing)
        return call, narrowing, b""

    def _go_on(
        self, operation: Operation, params: dict[str, Any], cursor: str, narrowing: Narrowing
    ) -> Narrowing:
        """A cursor belongs to the provider that gave it. Raises InvalidRequest."""
        provider, params["cursor"] = self.cursors.open(operation.name, cursor)
        if narrowing.provider not in ("", provider):
            raise cursors.refusal(
                f"This cursor goes on with {provider}. Leave `provider` out, or begin again there "
                "without `cursor`."
            )
        return Narrowing(provider, narrowing.fallback)

    def _reserve(
        self, exchange: Exchange, identity: Identity, plan: Plan, grant: Grant, *, now: float
    ) -> Reservation:
        assert identity.tenant_id is not None  # noqa: S101 - _identify lets no other pass
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
        )
        reservation = Reservation(self.ledger, self.clock, record, exchange.started, grant)
        exchange.reservation = reservation
        return reservation

    def _deadline(self, exchange: Exchange, plan: Plan) -> float:
        """The loop's time by which the call must have ended. Raises InvalidRequest."""
        seconds = min(plan.timeouts.total, self.options.deadline_ms / 1000)
        asked = exchange.header(b"x-patchbay-deadline-ms")
        if asked is not None:
            seconds = min(seconds, _milliseconds(asked) / 1000)
        return asyncio.get_running_loop().time() + seconds


async def _refuse(exchange: Exchange, problem: Problem) -> None:
    with suppress(HungUp):
        await exchange.refuse(problem)


def _milliseconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:10]) <= 3_600_000):
        raise InvalidRequest("X-Patchbay-Deadline-Ms must be a whole number from 1 to 3600000.")
    return int(text)
