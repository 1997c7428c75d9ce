"""The data path: identify → resolve → admit → dispatch → relay → settle.

A plain ASGI app beside Django (config/asgi.py chooses by path). It holds no models and never
touches the ORM; what it knows of tenants and routes lives in memory (gateway/live.py).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import structlog

from accounts.identity import MAX_REMEMBERED, Identities, Identity
from gateway import listing
from gateway.batch import Batch
from gateway.dispatch import Dispatcher, Sending
from gateway.exchange import Exchange, Receive, Scope, Send
from gateway.hangup import CancelWhenClientLeaves
from gateway.headers import child_traceparent, limit_headers
from gateway.live import Live
from gateway.observation import Observer
from gateway.paths import Door
from gateway.relay import relay_stream, relay_whole
from gateway.routing import Plan, Wish, resolve
from lib.clock import Clock, SystemClock, utc
from lib.problems import InvalidRequest, MethodNotAllowed, Problem, RateLimited, Unauthenticated
from providers.breaker import Breakers
from providers.call import Call
from providers.operations import Kind, Operation, parse_query, validate
from providers.operations.batch import parse_batch
from providers.transport import AiohttpTransport, Transport
from tenants.keys import Mode
from tenants.limits import RateLimit
from tenants.limits import Scope as LimitScope
from usage.ledger import Ledger
from usage.limiter import Limiter
from usage.record import Record
from usage.reservation import HUNG_UP, HungUp, Reservation

log = structlog.get_logger("patchbay.gateway")

LOOK_UPS = 3  # a record that is forgotten while it is being looked up is looked up again


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of the data path, from the environment."""

    sandbox_url: str = ""
    proxy_hops: int = 0
    max_body_bytes: int = 8 * 1024 * 1024
    deadline_ms: int = 60_000


@dataclass(slots=True)
class Gateway:
    """One worker's data path."""

    options: Options
    ledger: Ledger
    identities: Identities
    clock: Clock = field(default_factory=SystemClock)
    transport: Transport = field(default_factory=AiohttpTransport)
    observer: Observer = field(default_factory=Observer)
    limiter: Limiter = field(init=False)
    live: Live = field(init=False)
    dispatcher: Dispatcher = field(init=False)
    _remembered_limits: dict[Any, tuple[Identity, list[tuple[RateLimit, str]]]] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        self.limiter = Limiter(self.clock)
        self.live = Live(self.identities)
        self.dispatcher = Dispatcher(self.transport, Breakers(self.clock), self.clock)

    async def start(self) -> None:
        await self.live.start()

    async def stop(self) -> None:
        """Let go of everything, once all calls have ended."""
        await self.ledger.close()
        await self.live.stop()
        await self.transport.close()
        self.observer.flush()

    async def handle(self, door: Door, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Whatever happens inside, one answer goes out, or none if nobody waits."""
        exchange = Exchange(
            scope, receive, send, clock=self.clock, proxy_hops=self.options.proxy_hops
        )
        exchange.openai = door.openai
        self.observer.in_flight += 1
        try:
            await self._enter(exchange, door)
        except HungUp:
            exchange.status = HUNG_UP
        except Problem as problem:
            await exchange.refuse(problem)
        except Exception:
            log.exception("call_failed", request_id=exchange.request_id)
            await exchange.refuse(Problem())
        finally:
            self.observer.in_flight -= 1
            self.observer.observe(exchange, door.name)

    async def _enter(self, exchange: Exchange, door: Door) -> None:
        exchange.check_headers()
        if exchange.method != door.method:
            raise MethodNotAllowed(headers={"Allow": door.method})
        identity = await self._identify(exchange)
        if door.batch:
            _, body = await exchange.json_body(self.options.max_body_bytes)
            await exchange.answer(await Batch(exchange, self.handle).answer(parse_batch(body)))
            return
        if door.operation is None:
            self._admit(exchange, identity, door.name)
            await exchange.answer(listing.models(self.live.snapshot, identity, door.argument))
            return
        operation = door.operation
        call, wish = await self._read(exchange, operation)
        plan = resolve(
            self.live.snapshot,
            identity,
            operation,
            call,
            wish=wish,
            sandbox_url=self.options.sandbox_url,
        )
        self._admit(exchange, identity, operation.name)
        await self._serve(exchange, operation, call, plan, self._reserve(exchange, identity, plan))

    async def _identify(self, exchange: Exchange) -> Identity:
        """The caller. Raises Unauthenticated, Forbidden, RateLimited or Unavailable."""
        identities, address = self.identities, exchange.address
        identities.refuse_flood(address)
        try:
            shown = identities.read(
                exchange.header_bytes(b"authorization"), exchange.header_bytes(b"x-api-key")
            )
        except Unauthenticated:
            identities.note_failure(address)
            raise
        for _ in range(LOOK_UPS):
            if identities.remembered(shown):
                break
            await self.live.look_up(shown)
        identity = identities.check(shown, address)
        if identity.tenant_id is None:
            raise Unauthenticated("This token is for no tenant. Sign in with one, or use a key.")
        return identity

    async def _read(self, exchange: Exchange, operation: Operation) -> tuple[Call, Wish]:
        """The call, validated. Raises InvalidRequest and what Exchange.json_body raises."""
        if operation.kind is not Kind.DATA:
            body, params = await exchange.json_body(self.options.max_body_bytes)
            validate(operation, params)
            return Call(operation.name, params, body, exchange.request_id), Wish()
        params = parse_query(operation, _query(exchange.query))
        validate(operation, params)
        wish = Wish(params.pop("provider", ""), params.pop("fallback", True))
        extra = params.pop("include", "") == "extra"
        return Call(operation.name, params, b"", exchange.request_id, extra), wish

    def _admit(self, exchange: Exchange, identity: Identity, operation: str) -> None:
        """Count the call against every limit, or against none and raise RateLimited."""
        decision = self.limiter.admit(self._limits(exchange, identity, operation))
        exchange.note(limit_headers(decision.states))
        refused = decision.refused
        if refused is not None:
            raise RateLimited(
                f"The limit {refused.limit.name!r} allows {refused.limit.limit} calls in any "
                f"{refused.limit.per_seconds} seconds. Wait {refused.reset} seconds.",
                retry_after=refused.reset,
                policy=refused.limit.name,
                reset_seconds=refused.reset,
            )

    def _limits(
        self, exchange: Exchange, identity: Identity, operation: str
    ) -> list[tuple[RateLimit, str]]:
        """Each limit that covers the call, with whose allowance it is; the same few lists over
        and over, so they are remembered for as long as the identity is the same."""
        key = (identity.tenant_id, identity.client, exchange.address, operation)
        known = self._remembered_limits.get(key)
        if known is None or known[0] is not identity:
            if len(self._remembered_limits) >= MAX_REMEMBERED:
                self._remembered_limits.clear()
            known = self._remembered_limits[key] = (
                identity,
                [
                    (limit, _subject(limit.scope, identity, exchange))
                    for limit in identity.rate_limits
                    if limit.covers(operation)
                ],
            )
        return known[1]

    def _reserve(self, exchange: Exchange, identity: Identity, plan: Plan) -> Reservation:
        assert identity.tenant_id is not None  # noqa: S101 - _identify lets no other pass
        record = Record(
            request_id=exchange.request_id,
            created_at=utc(self.clock.now()),
            tenant_id=identity.tenant_id,
            project_id=identity.project_id,
            key_id=identity.key_id,
            user_id=identity.user_id,
            mode=identity.mode,
            operation=plan.route.operation,
            route=plan.route.name,
        )
        reservation = Reservation(self.ledger, self.clock, record, exchange.started)
        exchange.reservation = reservation
        return reservation

    async def _serve(
        self,
        exchange: Exchange,
        operation: Operation,
        call: Call,
        plan: Plan,
        reservation: Reservation,
    ) -> None:
        """From the first attempt to the last byte, which leaves when the row is durable."""
        reservation.record.streamed = call.stream
        sending = self._sending(exchange, reservation, plan)
        async with reservation:
            with (
                CancelWhenClientLeaves(exchange.receive),
                await self.dispatcher.serve(call, plan, reservation, sending) as served,
            ):
                if served.answer is None:
                    last = await relay_stream(
                        exchange, served, reservation, deadline=sending.deadline
                    )
                else:
                    last = await relay_whole(exchange, operation, served, reservation)
        if served.answer is None:
            await exchange.end(last)
        else:
            await exchange.answer(last)

    def _sending(self, exchange: Exchange, reservation: Reservation, plan: Plan) -> Sending:
        seconds = min(plan.timeouts.total, self.options.deadline_ms / 1000)
        asked = exchange.header(b"x-patchbay-deadline-ms")
        if asked is not None:
            seconds = min(seconds, _milliseconds(asked) / 1000)
        headers = {"x-client-request-id": exchange.request_id, "accept-encoding": "identity"}
        if trace := child_traceparent(exchange.header(b"traceparent")):
            headers["traceparent"] = trace
        if reservation.record.mode == Mode.TEST:
            headers |= _sandbox_script(exchange)
        return Sending(asyncio.get_running_loop().time() + seconds, headers)


def _subject(scope: LimitScope, identity: Identity, exchange: Exchange) -> str:
    """Whose allowance it is. Tenants may share addresses and people, but never an allowance."""
    if scope is LimitScope.IP:
        return f"{identity.tenant_id}@{exchange.address}"
    if scope is LimitScope.PROJECT:
        return f"{identity.tenant_id}/{identity.project_id}"
    if scope is LimitScope.TENANT:
        return identity.tenant_public_id
    return f"{identity.tenant_id}:{identity.client}"


def _query(raw: bytes) -> list[tuple[str, str]]:
    try:
        text = raw.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise InvalidRequest(
            "The query string is not valid: percent-encode it as UTF-8, 100 fields at most."
        ) from None


def _milliseconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:10]) <= 3_600_000):
        raise InvalidRequest("X-Patchbay-Deadline-Ms must be a whole number from 1 to 3600000.")
    return int(text)


def _sandbox_script(exchange: Exchange) -> dict[str, str]:
    """A test-mode client may script the sandbox's faults and pace."""
    script = {}
    for name in (b"x-sandbox-fault", b"x-sandbox-pace-ms"):
        value = exchange.header(name)
        if value is not None:
            script[name.decode()] = value
    return script
