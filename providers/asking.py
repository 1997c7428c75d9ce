"""Real calls to providers that no caller asked for: one at a time, bounded in time, followed by
nothing. Redirects, proxies, private addresses: as in providers/transport."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from providers.adapter import Adapter
from providers.call import Call, Outcome, Upstream, UpstreamRequest, Verdict
from providers.timeouts import Timeouts
from providers.transport import Http1Transport, Transport, TransportFault
from providers.trials import Came, Reply, conversation

SECONDS: Final = 8.0  # a call may take in all


@dataclass(frozen=True, slots=True)
class Ask:
    """A call, ready to be sent. `listing`: of an AI provider the list of its models is asked
    for, which costs nothing, instead of what `call` says."""

    adapter: Adapter
    call: Call
    upstream: Upstream
    request: UpstreamRequest
    allow_private: bool = False
    listing: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What came back. `status` is 0 and `body` empty where nothing did."""

    came: Came
    milliseconds: int
    status: int = 0
    body: bytes = b""


def ask_all(asks: Sequence[Ask]) -> list[Asked]:
    """All at the same time, each on its own. Blocking; not for a thread with a running loop."""
    return asyncio.run(_ask_all(asks))


async def _ask_all(asks: Sequence[Ask]) -> list[Asked]:
    transport = Http1Transport()
    try:
        return list(await asyncio.gather(*(_ask(transport, each) for each in asks)))
    finally:
        await transport.close()


async def _ask(transport: Transport, ask: Ask) -> Asked:
    begun = time.perf_counter()
    replies: Sequence[Reply | Outcome] = ()
    first: Reply | Outcome = Outcome(Verdict.TIMEOUT)
    talk = _talk(ask)
    try:
        async with asyncio.timeout(SECONDS):
            requests = next(talk)
            while True:
                replies = await asyncio.gather(*(_send(transport, ask, r) for r in requests))
                first = replies[0] if isinstance(first, Outcome) else first
                requests = talk.send(replies)
    except StopIteration as end:
        came: Came = end.value
    except TimeoutError:
        came = Came(Verdict.TIMEOUT, f"no whole answer within {SECONDS:.0f} seconds")
    milliseconds = round((time.perf_counter() - begun) * 1000)
    if isinstance(first, Outcome):
        return Asked(came, milliseconds)
    return Asked(came, milliseconds, first[0], first[2])


async def _send(transport: Transport, ask: Ask, request: UpstreamRequest) -> Reply | Outcome:
    try:
        response = await transport.send(
            request, Timeouts(total=SECONDS), allow_private=ask.allow_private
        )
        try:
            return response.status, response.headers, await response.read()
        finally:
            response.close()
    except TransportFault as fault:
        return fault.outcome


def _talk(ask: Ask) -> Generator[Sequence[UpstreamRequest], Sequence[Reply | Outcome], Came]:
    if not ask.listing:
        return (yield from conversation(ask.adapter, ask.call, ask.upstream, ask.request))
    (reply,) = yield [ask.request]
    if isinstance(reply, Outcome):
        return Came(reply.verdict, reply.message)
    status, _, body = reply
    if not 200 <= status < 300:
        outcome = ask.adapter.outcome(*reply)
        return Came(outcome.verdict, outcome.message, outcome.retry_after)
    if _lists(body):
        return Came(Verdict.OK)
    return Came(Verdict.BAD_PAYLOAD, "what should list its models does not")


def _lists(body: bytes) -> bool:
    """Whether it is a list of models, in one dialect or another."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    if isinstance(document, dict):
        return any(isinstance(document.get(name), list) for name in ("data", "models"))
    return isinstance(document, list)
