"""Access tokens of providers that want one: asked for once, kept while they are good.

A worker asks for itself, at most once at a time for a credential however many calls wait, and
keeps what it has in memory only.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from gateway.routing import Candidate
from lib.clock import Clock
from providers.adapter import StreamFault
from providers.call import Grant, Outcome, Upstream, UpstreamRequest, Verdict
from providers.oauth2 import Token, request_of, token_of
from providers.transport import Transport, TransportFault

LONGEST = 10.0  # seconds, whatever the provider's time-outs are
MOST = 10_000  # tokens kept

Key = tuple[str, str, str | None]


class Tokens:
    """Of all credentials. A new secret, or another place to ask, is another credential here."""

    def __init__(self, transport: Transport, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock
        self._kept: dict[Key, tuple[str, float]] = {}  # until when, by the monotonic clock
        self._asking: dict[Key, asyncio.Task[str]] = {}

    async def bearing(self, upstream: Upstream, candidate: Candidate) -> Upstream:
        """`upstream` with a token, asked for as the candidate's provider is reached. Raises
        StreamFault; how long to wait is the caller's to say."""
        if upstream.grant is None:
            return upstream
        key = _key(upstream, upstream.grant)
        kept = self._kept.get(key)
        if kept is not None and kept[1] > self._clock.monotonic():
            return replace(upstream, token=kept[0])
        asking = self._asking.get(key)
        if asking is None:
            request = request_of(upstream.grant, upstream)
            asking = asyncio.create_task(self._ask(key, request, candidate))
            self._asking[key] = asking
            asking.add_done_callback(partial(self._asked, key))
        return replace(upstream, token=await asyncio.shield(asking))

    def refused(self, upstream: Upstream) -> None:
        """Its token is not taken any more; a newer one stays."""
        if upstream.grant is None:
            return
        key = _key(upstream, upstream.grant)
        kept = self._kept.get(key)
        if kept is not None and kept[0] == upstream.token:
            del self._kept[key]

    async def _ask(self, key: Key, request: UpstreamRequest, candidate: Candidate) -> str:
        token = await self._answer(request._replace(bulkhead=candidate.bulkhead), candidate)
        if len(self._kept) >= MOST:
            self._kept.clear()
        self._kept[key] = (token.text, self._clock.monotonic() + token.seconds)
        return token.text

    async def _answer(self, request: UpstreamRequest, candidate: Candidate) -> Token:
        timeouts = candidate.timeouts
        try:
            async with asyncio.timeout(min(timeouts.first_byte, LONGEST)):
                response = await self._transport.send(
                    request, timeouts, allow_private=candidate.allow_private
                )
                try:
                    body = await response.read()
                finally:
                    response.close()
        except TimeoutError:
            raise _unavailable("no access token came in time") from None
        except TransportFault as fault:
            if fault.outcome.verdict is Verdict.SATURATED:
                raise StreamFault(fault.outcome) from None
            raise _unavailable(f"no access token: {fault.outcome.message}") from None
        return token_of(response.status, response.headers, body)

    def _asked(self, key: Key, task: asyncio.Task[str]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # whoever waited has it; there may be nobody left


def _key(upstream: Upstream, grant: Grant) -> Key:
    return grant.url, upstream.credential, upstream.secret


def _unavailable(message: str) -> StreamFault:
    return StreamFault(Outcome(Verdict.UNAVAILABLE, message=message))
