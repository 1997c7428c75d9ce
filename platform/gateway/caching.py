"""The cache in a call's way: what it looks for there, what it is given, and what is kept.

A kept answer is settled like any other: a row of its own, which says `hit` or `stale`, and the
plan's price for that. One that is stale is served while it is fetched again behind, by a call
with the same limits and the same bill as the client's own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from accounts.identity import Identity
from billing.book import PriceBook
from cache import naming, replay
from cache.cache import Answer, Ask, Cache, Place
from cache.entry import Entry, Origin
from cache.freshness import State, Times, freshness
from cache.looking import Look
from cache.policy import NO_WISH, CachePolicy, is_by_chance, parse_wish
from gateway.aggregating import Part, heard
from gateway.attempt import Known
from gateway.exchange import EVENT_STREAM, Exchange, Receive, Scope, Send
from gateway.relay import envelope
from gateway.routing import Narrowing, Plan
from gateway.served import Served
from lib.clock import rfc3339, utc
from lib.problems import Problem, Unavailable
from providers import amounts
from providers import call as calls
from providers.call import Call, Usage
from providers.operations import OF_MODELS, Kind, Operation
from tenants.keys import Mode
from usage.reservation import Reservation

HEADER = b"x-patchbay-cache-control"
TAGS = b"x-patchbay-cache-tags"
LOOK = "patchbay.look"  # in the scope of a call that fetches again what is kept
_NOT_TO_BE_KEPT = {"cache-control": "no-store"}
_NOT_ASKED_AGAIN = frozenset({HEADER, b"idempotency-key", b"if-none-match"})
HIT, STALE = "hit", "stale"


class Caching:
    """One for the whole process."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        # What was asked for lately, where somebody wants to learn from it (warming.py): the key,
        # its place and parameters. Of private answers only with their tenant's consent.
        self.asked: deque[tuple[bytes, Place, Mapping[str, Any]]] | None = None

    def ask(
        self,
        exchange: Exchange,
        identity: Identity,
        call: Call,
        plan: Plan,
        *,
        narrowing: Narrowing,
        until: float,
    ) -> Ask | None:
        """What to look for; None for a call that the cache has nothing to do with. Test mode's
        answers cost nothing, and what they are may be scripted: they are kept only if asked.
        `until` is the loop's time. Raises InvalidRequest."""
        policy, told = plan.cache, exchange.header_bytes(HEADER)
        chance = is_by_chance(call.operation, call.params)
        wanted = NO_WISH
        if told is not None:
            wanted = parse_wish(exchange.header_list(HEADER))
            if not policy.keeps(wanted, chance=chance):
                return None
        elif not policy.ttl or (chance and not policy.sampled) or identity.mode is Mode.TEST:
            return None
        if call.operation in NEVER_KEPT:
            if wanted.only_if_cached:
                raise not_cached()
            return None
        place = _place(identity, call, plan, narrowing)
        tags = _tags(place, call)
        named = exchange.header_bytes(TAGS)
        names = naming.parse_names(exchange.header_list(TAGS)) if named is not None else ()
        if names and place.tenant_id is not None:  # what is everybody's is not theirs to forget
            tags += naming.of_client(place.tenant_id, names)
        exchange.cache = b"miss"
        ask = self.cache.ask(place, call.params, policy, until=until, wish=wanted, tags=tags)
        if (
            self.asked is not None
            and (place.tenant_id is None or identity.keep_warm)
            and wanted is NO_WISH
            and call.operation not in OF_MODELS
        ):
            self.asked.append((ask.key, place, call.params))
        return ask

    def question(
        self, identity: Identity, call: Call, plan: Plan, *, narrowing: Narrowing, until: float
    ) -> Ask | None:
        """As `ask`, for a call that the gateway makes itself."""
        policy = plan.cache
        if not policy.keeps(NO_WISH, chance=is_by_chance(call.operation, call.params)):
            return None
        place = _place(identity, call, plan, narrowing)
        return self.cache.ask(place, call.params, policy, until=until, tags=_tags(place, call))

    def check(
        self, look: Look, identity: Identity, call: Call, plan: Plan, *, narrowing: Narrowing
    ) -> None:
        """That a call which fetches again what is kept is for those whom that is kept for: since
        they asked, its tenant may have a credential of its own. Raises Unavailable."""
        if _place(identity, call, plan, narrowing) != look.ask.place:
            raise Unavailable("What answers this call has just changed. Ask again.", retry_after=1)

    async def instead(self, ask: Ask | None, problem: Problem) -> Entry | None:
        """What may be served although it is stale, where no provider has room for the call."""
        if ask is None or problem.code != Unavailable.code:
            return None
        async with self.cache.look(ask) as look:
            return look.entry or look.failed(problem)

    async def repriced(self, before: PriceBook, now: PriceBook) -> None:
        """What is kept says what it cost: that is forgotten with the price."""
        tags = [naming.of_answer(*of)[-1] for of in before.differing(now)]
        if tags:
            await self.cache.invalidate(tags)

    async def settled(
        self,
        exchange: Exchange,
        operation: Operation,
        call: Call,
        entry: Entry,
        *,
        key: bytes,
        reservation: Reservation,
        price: int,
    ) -> bytes:
        """The body that a kept answer is for this client, once its row is durable."""
        now, origin = self.cache.clock.now(), entry.origin
        how = HIT if entry.freshness.state(now) is State.FRESH else STALE
        reservation.use_kept(origin.provider, origin.model, how=how, price=price)
        reservation.record.streamed = call.stream
        if how is HIT:
            self.cache.savings.add(key, reservation.record, len(call.params), entry)
        body = _body(exchange, operation, call, entry, reservation)
        exchange.note(
            [
                (b"x-patchbay-provider", origin.provider.encode()),
                (b"x-patchbay-attempts", str(len(reservation.attempts)).encode()),
                (b"x-patchbay-cache", how.encode()),
                (b"x-patchbay-cost-microusd", str(price).encode()),
                (b"age", str(int(entry.freshness.age_at(now))).encode()),
            ]
        )
        if exchange.method == "GET":
            exchange.note([_etag(entry)])
        await reservation.settle(status=200, code="ok")
        return body

    def keep(
        self,
        look: Look,
        exchange: Exchange,
        served: Served,
        reservation: Reservation,
        *,
        asked: float,
        events: Sequence[bytes] = (),
    ) -> Entry | None:
        """Keep what was answered: whole, or as the `events` of a stream that came to its end,
        and from one provider. `asked` is when that was (unix seconds)."""
        record, now = reservation.record, self.cache.clock.now()
        if served.answer is None and not (events and served.meter.complete and not served.heir):
            return None
        if served.unchanged:
            headers, policy = served.response.headers, served.candidate.cache
            return look.still_holds(headers, Times(asked, now), policy)
        answer, as_of = served.answer, rfc3339(utc(int(now)))
        origin = Origin(
            provider=record.provider,
            model=record.model,
            as_of=(answer.as_of if answer else None) or as_of,
            cost=record.cost,
            price_id=record.price_id,
            took_ms=reservation.attempts[-1].latency_ms,
            usage=_usage(reservation),
        )
        is_data = answer is not None and not answer.body
        entry = look.keep(
            Answer(
                body=_document(answer) if answer else b"".join(events),
                times=Times(asked, now),
                origin=origin,
                events=events,
                headers=served.response.headers if is_data else {},
                tags=naming.of_answer(record.provider, record.model),
                empty=is_data and not (answer and answer.data),
                policy=served.candidate.cache,
            )
        )
        if entry is not None and exchange.method == "GET":
            exchange.note([_etag(entry)])
        return entry

    def keep_of_all(
        self,
        look: Look,
        exchange: Exchange,
        answer: calls.Answer,
        *,
        parts: Sequence[Part],
        reservation: Reservation,
        asked: float,
    ) -> None:
        """Keep what was made of several providers' answers, for as long as the first of them to
        grow stale; not at all where one failed that might answer the next time."""
        record, times = reservation.record, Times(asked, self.cache.clock.now())
        policy = _shortest(look, parts, times)
        tags = [naming.of_answer(each.candidate.provider, "") for each in heard(parts)]
        entry = look.keep(
            Answer(
                body=_document(answer),
                times=times,
                origin=Origin(
                    provider=record.provider,
                    as_of=answer.as_of or "",
                    cost=record.cost,
                    price_id=record.price_id,
                    took_ms=max(note.latency_ms for note in reservation.attempts),
                    usage=_usage(reservation),
                ),
                headers=_NOT_TO_BE_KEPT if policy is None else {},
                tags=[name for names in tags for name in names],
                empty=not answer.data,
                policy=policy,
            )
        )
        if entry is not None:
            exchange.note([_etag(entry)])


def _shortest(look: Look, parts: Sequence[Part], times: Times) -> CachePolicy | None:
    """The spans of what is made of these parts; None where it may not be kept."""
    if not all(part.is_final for part in parts if part.served is None):
        return None
    spans = []
    for each in heard(parts):
        policy, headers = each.candidate.cache, each.response.headers
        span = freshness(headers, times, policy, ttl=policy.ttl_for(look.ask.wish))
        if span is None or span.fresh_for <= 0:
            return None
        spans.append(span)
    kept = min(span.fresh_for for span in spans)
    return CachePolicy(
        ttl=kept,
        max_ttl=kept,
        stale_while_revalidate=min(span.while_revalidating for span in spans),
        stale_if_error=min(span.if_error for span in spans),
        max_retention=min(span.retention for span in spans),
        public=look.ask.policy.public,
    )


NEVER_KEPT = frozenset({amounts.SPEECH, amounts.TRANSCRIPTIONS})  # sound, and what was heard in it


def known(look: Look) -> Known | None:
    """What a provider may say still holds."""
    conditions, kept = look.conditional, look.known
    if not conditions or kept is None:
        return None
    return Known(kept.origin.provider, conditions, partial(_answer_of, kept))


def _answer_of(entry: Entry) -> calls.Answer:
    """A data operation's."""
    return calls.Answer(**orjson.loads(entry.body()), as_of=entry.origin.as_of)


def _etag(entry: Entry) -> tuple[bytes, bytes]:
    """Weak, since what surrounds the content (`meta`) differs from call to call."""
    return b"etag", f"W/{entry.etag}".encode()


def _place(identity: Identity, call: Call, plan: Plan, narrowing: Narrowing) -> Place:
    """A tenant's own, unless the answer is everybody's and no credential of its own is used."""
    own = {up.credential for each in plan.candidates if each.own for up in each.upstreams}
    is_everybodys = plan.cache.public and not own and identity.mode is Mode.LIVE
    return Place(
        None if is_everybodys else identity.tenant_id,
        identity.mode.value,
        call.operation,
        route=plan.route.name,
        configuration=plan.configuration,
        provider=narrowing.provider,
        fallback=narrowing.fallback,
        own=tuple(sorted(own)),
        extra=call.include_extra,
        together=f"{plan.together}/{len(plan.candidates)}" if plan.together else "",
    )


def _tags(place: Place, call: Call) -> list[str]:
    """Those that are known beforehand, the client's own apart."""
    tags = naming.of_call(place)
    if call.operation not in OF_MODELS:
        tags += naming.of_fields(call.params)
    return tags


def _document(answer: calls.Answer) -> bytes:
    """Of a data operation, what the envelope is made of again; but not of when it is, which may be
    all that changed since it was asked for last."""
    if answer.body:
        return answer.body
    document = {"data": answer.data, "page": answer.page, "attribution": answer.attribution}
    return orjson.dumps(document if answer.meta is None else document | {"meta": answer.meta})


def _body(
    exchange: Exchange,
    operation: Operation,
    call: Call,
    entry: Entry,
    reservation: Reservation,
) -> bytes:
    if operation.kind is Kind.DATA:
        answer = _answer_of(entry)
        return orjson.dumps(envelope(exchange, operation, answer, reservation))
    usage = entry.origin.usage
    if not call.stream:
        return replay.whole(entry.stream(), usage) if entry.is_stream else entry.body()
    wanted = bool((call.params.get("stream_options") or {}).get("include_usage"))
    if entry.is_stream:
        return b"".join(replay.replayed(entry.stream(), usage, usage_wanted=wanted))
    return b"".join(replay.stream(entry.body(), usage_wanted=wanted))


def _usage(reservation: Reservation) -> Usage:
    record = reservation.record
    return Usage(
        record.input_tokens,
        record.output_tokens,
        record.cached_tokens,
        record.cache_write_tokens,
        record.reasoning_tokens,
        units=record.units,
    )


def again(exchange: Exchange, body: bytes, look: Look) -> tuple[Scope, Receive, Send]:
    """The client's call once more, for nobody: what comes of it is for the look to keep."""
    headers = [each for each in exchange.scope["headers"] if each[0] not in _NOT_ASKED_AGAIN]
    scope = {**exchange.scope, "headers": headers, LOOK: look}
    left = [body]

    async def receive() -> dict[str, Any]:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def send(message: dict[str, Any]) -> None: ...

    return scope, receive, send


def not_cached() -> Problem:
    return Problem(
        "Nothing is kept that answers this, and `only-if-cached` asks nobody else.",
        code="not_cached",
        status=504,
    )


async def answer(exchange: Exchange, call: Call, body: bytes) -> None:
    """Send what `Caching.settled` made."""
    if not call.stream:
        await exchange.answer(body)
        return
    exchange.note([(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")])
    await exchange.start(200, EVENT_STREAM)
    await exchange.end(body)
