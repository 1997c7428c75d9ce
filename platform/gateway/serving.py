"""From an admitted call to its answer's last byte: the cache's, or a provider's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from billing.book import PriceBook
from cache.entry import Entry
from cache.looking import Ask, Look
from gateway import caching, combining, surfacing
from gateway.aggregating import ALL_COUNT, Part, Together
from gateway.attempt import Sending
from gateway.caching import Caching
from gateway.costs import note_hedged_away, price_of
from gateway.dispatch import Dispatcher
from gateway.exchange import Exchange, Receive, Scope, Send
from gateway.hangup import CancelWhenClientLeaves
from gateway.headers import child_traceparent
from gateway.learning import learn, learn_of_all
from gateway.paths import Door
from gateway.recording import Recording
from gateway.relay import relay_stream, relay_whole
from gateway.relay_sound import relay_sound
from gateway.routing import Plan
from gateway.scores import Scores
from gateway.semantic import Semantic, Sought
from gateway.served import Served
from gateway.sessions import Sessions
from lib.problems import Problem
from providers.call import Call
from providers.operations import Kind, Operation
from tenants.keys import Mode
from usage.reservation import Reservation

Handle = Callable[[Door, Scope, Receive, Send], Awaitable[None]]
T = TypeVar("T")

OURS = "store_unavailable"  # no fault of a provider's


@dataclass(slots=True)
class Admitted:
    """A call that may be served, and all that it takes. `asked` is its body as it came,
    `deadline` the loop's time by which it must have ended.

    `ask` is what to look for in the cache, if anything; `entry` what was found at once. A call
    that fetches again what is kept has its `look` already.
    """

    exchange: Exchange
    door: Door
    operation: Operation
    call: Call
    asked: bytes
    plan: Plan
    reservation: Reservation
    prices: PriceBook
    deadline: float
    session: bytes | None = None
    ask: Ask | None = None
    entry: Entry | None = None
    look: Look | None = None
    hit_price: int = 0


@dataclass(slots=True)
class Serving:
    """One for the whole process. `handle` is the gateway's own way in."""

    dispatcher: Dispatcher
    caching: Caching
    scores: Scores
    sessions: Sessions
    handle: Handle
    semantic: Semantic

    def serve(self, it: Admitted) -> Coroutine[Any, Any, None]:
        if it.exchange.surface is not None:
            surfacing.translate(it.exchange)
        if it.ask is None:
            return self._fetch(it, it.look)
        return self._look(it, it.ask) if it.entry is None else self._tell(it, it.entry)

    async def _tell(self, it: Admitted, entry: Entry) -> None:
        async with it.reservation:
            last = await self._settled(it, entry)
        await caching.answer(it.exchange, it.call, last)

    async def _look(self, it: Admitted, ask: Ask) -> None:
        """What is kept, or what another call is fetching; else a provider's answer."""
        async with it.reservation, AsyncExitStack() as stack:
            with CancelWhenClientLeaves(it.exchange.receive):
                look = await stack.enter_async_context(self.caching.cache.look(ask))
            if look.entry is None:
                if ask.wish.only_if_cached:
                    raise caching.not_cached()
                sought = await self._seek(it, ask)
                entry = sought.entry if sought is not None else None
                if sought is None or entry is None:
                    await self._fetch(it, look)
                    if sought is not None:
                        self.semantic.keep(sought, ask)
                    return
                behind = self.semantic.serve(it, sought)
            else:
                entry, behind = look.entry, partial(self._fetch_again, it)
            last = await self._settled(it, entry)
            if look.leads and behind is not None:  # now that this call takes no room of its own
                look.refresh(behind)
        await caching.answer(it.exchange, it.call, last)

    async def _seek(self, it: Admitted, ask: Ask) -> Sought | None:
        """Among answers to questions that are nearly the same, where the route wants that."""
        if it.plan.semantic is None:
            return None
        with CancelWhenClientLeaves(it.exchange.receive):
            return await self.semantic.seek(it, ask)

    async def _fetch_again(self, it: Admitted, look: Look) -> None:
        await self.handle(it.door, *caching.again(it.exchange, it.asked, look))

    def _fetch(self, it: Admitted, look: Look | None) -> Coroutine[Any, Any, None]:
        if it.plan.together in ALL_COUNT:
            return self._ask_several(it, look)
        is_recorded = look is not None and it.call.stream
        return self._record(it, look) if is_recorded else self._ask_providers(it, look)

    async def _record(self, it: Admitted, look: Look | None) -> None:
        with Recording(it.deadline) as recording:
            it.exchange.send_through(recording.through)
            await self._ask_providers(it, look, recording)

    async def _ask_several(self, it: Admitted, look: Look | None) -> None:
        """As `_ask_providers`, for what is made of all their answers."""
        exchange, reservation = it.exchange, it.reservation
        parts: Sequence[Part] = ()
        async with reservation:
            reservation.deadline = it.deadline
            with CancelWhenClientLeaves(exchange.receive):
                asked = exchange.clock.now()
                together = self._together(it, _sending(it, None)).all()
                found = await (together if look is None else _or_spare(together, it, look))
                if isinstance(found, Entry):
                    last = await self._settled(it, found)
                else:
                    parts, now = found, exchange.clock.now()
                    answer = combining.combined(
                        it.operation, it.plan.together, parts, cursors=exchange.cursors, now=now
                    )
                    last = await combining.settle(
                        exchange, it.operation, answer, parts=parts, reservation=reservation
                    )
                    if look is not None:
                        self.caching.keep_of_all(
                            look,
                            exchange,
                            answer,
                            parts=parts,
                            reservation=reservation,
                            asked=asked,
                        )
        await exchange.answer(last)
        learn_of_all(self.scores, parts)

    def _together(self, it: Admitted, sending: Sending) -> Together:
        search = self.dispatcher.search(it.call, it.plan, it.reservation, sending)
        return Together(search, it.plan, it.reservation, sending)

    async def _ask_providers(
        self, it: Admitted, look: Look | None, recording: Recording | None = None
    ) -> None:
        """From the first attempt to the last byte, which leaves when the row is durable. By then
        all who wait for the answer have it, however long this client takes over it."""
        exchange, reservation = it.exchange, it.reservation
        async with reservation:
            reservation.record.streamed = it.call.stream
            reservation.deadline = it.deadline
            with CancelWhenClientLeaves(exchange.receive):
                asked = exchange.clock.now()
                sending = _sending(it, look)
                if it.plan.together:
                    dispatched = self._together(it, sending).fastest()
                else:
                    dispatched = self.dispatcher.serve(it.call, it.plan, reservation, sending)
                served = await (dispatched if look is None else _or_spare(dispatched, it, look))
                if isinstance(served, Entry):
                    last = await self._settled(it, served)
                else:
                    last = await self._relayed(it, served)
                    if look is not None:
                        events = recording.events(last) if recording is not None else ()
                        self.caching.keep(
                            look, exchange, served, reservation, asked=asked, events=events
                        )
        if isinstance(served, Entry):
            await caching.answer(exchange, it.call, last)
            return
        if served.answer is None:
            await exchange.end(last)
        else:
            await exchange.answer(last, content_type=served.answer.content_type)
        in_time = asyncio.get_running_loop().time() < it.deadline
        ended_well = learn(self.scores, served.last, reservation, in_time=in_time)
        if it.session is not None and ended_well:
            self.sessions.keep(it.session, served.last.candidate.name)

    async def _relayed(self, it: Admitted, served: Served) -> bytes:
        """The answer's last bytes, or all of one that is whole, once its row is durable."""
        exchange, reservation, record = it.exchange, it.reservation, it.reservation.record
        with served:
            served.price = price_of(served.candidate.upstream, record, it.prices)
            record.price_id = served.price.id
            if it.plan.route.hedge:
                note_hedged_away(reservation, it.prices)
            if served.answer is not None:
                return await relay_whole(exchange, it.operation, served, reservation)
            if it.operation.kind is Kind.SPEECH:
                return await relay_sound(
                    exchange, served, reservation, deadline=it.deadline, scores=self.scores
                )
            return await relay_stream(
                exchange, served, reservation, deadline=it.deadline, prices=it.prices
            )

    async def _settled(self, it: Admitted, entry: Entry) -> bytes:
        return await self.caching.settled(
            it.exchange,
            it.operation,
            it.call,
            entry,
            key=it.ask.key if it.ask is not None else b"",
            reservation=it.reservation,
            price=it.hit_price,
        )


async def _or_spare(dispatched: Awaitable[T], it: Admitted, look: Look) -> T | Entry:
    """The attempt that answers; where none does, a stale answer that may be served instead: but
    not of what a provider says there is not, or takes for no question. Raises the Problem the
    caller should see."""
    try:
        return await dispatched
    except Problem as problem:
        if problem.code == OURS:
            raise
        if problem.status < 500:
            look.refused(problem)
            raise
        spare = look.failed(problem)
        if spare is None or it.look is not None:
            raise
        return spare


def _sending(it: Admitted, look: Look | None) -> Sending:
    exchange = it.exchange
    headers = {"x-client-request-id": exchange.request_id, "accept-encoding": "identity"}
    trace = exchange.header(b"traceparent")
    if trace and (child := child_traceparent(trace)):
        headers["traceparent"] = child
    if it.reservation.record.mode == Mode.TEST:
        headers |= _sandbox_script(exchange)
    known = caching.known(look) if look is not None and it.exchange.method == "GET" else None
    return Sending(it.deadline, headers, it.prices, it.plan.route.checks, known)


def _sandbox_script(exchange: Exchange) -> dict[str, str]:
    """A test-mode client may script the sandbox's faults and pace."""
    script = {}
    for name in (b"x-sandbox-fault", b"x-sandbox-pace-ms"):
        value = exchange.header(name)
        if value is not None:
            script[name.decode()] = value
    return script
