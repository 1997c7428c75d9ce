"""Idempotency-Key: a POST that is sent again is answered again, and not done again.

    async with idempotency.once(exchange, identity, door, body) as first:
        if first:
            …                       what is answered here, or raised, is kept

The key is claimed in the database before a provider is asked anything, and the answer is kept
there before its last byte leaves: whoever saw the end can always have it again. What ended
before a provider was asked gives the key back; what broke off later is never done again.
docs/api/idempotency.md tells clients so.

The header is draft-ietf-httpapi-idempotency-key-header-07's; when an answer is kept is as
Stripe does it: once execution has begun, errors too. What the cache answers is an answer too.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog

from accounts.identity import Identity
from gateway.exchange import Exchange, Send
from gateway.paths import Door
from gateway.recording import Parts
from lib.clock import Clock
from lib.problems import InvalidRequest
from lib.stores import StoreAway
from usage.idempotency import Answer, Claim, IdempotentCalls
from usage.reservation import HungUp

log = structlog.get_logger("patchbay.idempotency")

HEADER = b"idempotency-key"
MAX_KEPT_BYTES = 4 * 1024 * 1024
LATEST_END = 30.0  # seconds past its deadline after which a call has surely ended
BATCH_ROUNDS = 5  # a batch's items run so many after one another (gateway/batch.py)

# RFC 9651 §3.3.3, but without spaces; or the same characters bare, as most clients send them.
_QUOTED = re.compile(r'"((?:[!#-\[\]-~]|\\["\\])+)"\Z')
_BARE = re.compile(r"[!#-~][!-~]*\Z")
_LONGEST = 255

_STREAM = b"text/event-stream"
_WHOLE_STREAM = b"data: [DONE]\n\n"
_ALSO_KEPT = {b"content-type", b"cache-control", b"x-accel-buffering"}

_FIRST = nullcontext(True)


@dataclass(slots=True)
class Idempotency:
    """`deadline` is the longest a call may take, in seconds."""

    clock: Clock
    deadline: float
    calls: IdempotentCalls = field(default_factory=IdempotentCalls)

    def once(
        self, exchange: Exchange, identity: Identity, door: Door, body: bytes
    ) -> AbstractAsyncContextManager[bool]:
        """Whether the call is to be made: otherwise the answer to its first has been sent.

        Without the header (or on a GET, where it says nothing) it always is. Raises
        InvalidRequest, IdempotencyConflict, IdempotencyMismatch, Unavailable.
        """
        if exchange.header_bytes(HEADER) is None or exchange.method != "POST":
            return _FIRST
        return self._once(exchange, self._claim(exchange, identity, door, body), door)

    def close(self) -> None:
        self.calls.close()

    @asynccontextmanager
    async def _once(self, exchange: Exchange, claim: Claim, door: Door) -> AsyncIterator[bool]:
        answered = await self.calls.claim(claim)
        if answered is not None:
            await _replay(exchange, answered)
            yield False
            return
        memory = _Remembering(exchange, claim, self.calls, is_batch=door.batch)
        exchange.send_through(memory.through)
        try:
            yield True
        except (HungUp, asyncio.CancelledError):
            await memory.end_without_answer()
            raise

    def _claim(self, exchange: Exchange, identity: Identity, door: Door, body: bytes) -> Claim:
        assert identity.tenant_id is not None  # noqa: S101 - the gateway lets no other pass
        now = self.clock.now()
        longest = self.deadline * (BATCH_ROUNDS if door.batch else 1)
        return Claim(
            tenant_id=identity.tenant_id,
            mode=identity.mode,
            key=hashlib.sha256(_key(exchange).encode()).hexdigest(),
            fingerprint=_fingerprint(identity, door, body),
            request_id=exchange.request_id,
            at=now,
            running_until=now + longest + LATEST_END,
        )


class _Remembering:
    """Sees the answer pass by, and tells the store what to remember before the end is out."""

    def __init__(
        self, exchange: Exchange, claim: Claim, calls: IdempotentCalls, *, is_batch: bool
    ) -> None:
        self._exchange = exchange
        self._claim = claim
        self._calls = calls
        self._is_batch = is_batch
        self._parts = Parts(MAX_KEPT_BYTES)

    def through(self, send: Send) -> Send:
        async def pass_on(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.body":
                self._parts.add(message["body"])
                if not message.get("more_body", False):
                    await self._remember()
            await send(message)

        return pass_on

    async def end_without_answer(self) -> None:
        """The client left, or this process is told to end."""
        self._parts.clear()
        await self._remember()

    async def _remember(self) -> None:
        """The client gets its answer, which is paid for, whether this works or not."""
        calls, claim = self._calls, self._claim
        try:
            if not self._has_begun():
                await calls.release(claim)
            elif answer := self._whole_answer():
                await calls.save(claim, answer)
            else:
                await calls.lose(claim)
        except StoreAway as away:
            log.warning("answer_not_kept", request_id=claim.request_id, reason=str(away))

    def _has_begun(self) -> bool:
        """Whether a provider was asked, or the cache has answered. Of a batch nobody counts: with
        its first item it has begun."""
        reservation = self._exchange.reservation
        if self._is_batch or reservation is None:
            return self._is_batch
        is_kept = bool(reservation.record.cache)
        return is_kept or any(not a.verdict.startswith("skipped_") for a in reservation.attempts)

    def _whole_answer(self) -> Answer | None:
        """None for an answer that is not all there: cut, too large, or none at all; and for one
        that says other than the ledger, whose row could not be written when it should."""
        exchange, body = self._exchange, self._parts.joined()
        reservation = exchange.reservation
        if reservation is not None and reservation.record.status != exchange.status:
            return None
        headers = [(name, value) for name, value in exchange.headers if _is_kept(name)]
        is_stream = dict(headers).get(b"content-type", b"").startswith(_STREAM)
        if not body or (is_stream and not _is_end(exchange, body)):
            return None
        text = [(name.decode(), value.decode("latin-1")) for name, value in headers]
        return Answer(self._claim.request_id, exchange.status, text, body)


def _is_end(exchange: Exchange, stream: bytes) -> bool:
    surface = exchange.surface
    return stream.endswith(_WHOLE_STREAM) if surface is None else surface.is_end(stream)


def _is_kept(name: bytes) -> bool:
    """Headers that tell of the answer, not of the request that it answered, or of limits."""
    return name.startswith(b"x-patchbay-") or name in _ALSO_KEPT


async def _replay(exchange: Exchange, answer: Answer) -> None:
    headers = {name.encode(): value.encode("latin-1") for name, value in answer.headers}
    content_type = headers.pop(b"content-type")
    exchange.note(headers)
    exchange.note(
        {
            b"idempotency-replayed": b"true",
            b"x-patchbay-original-request-id": answer.request_id.encode(),
        }
    )
    await exchange.answer(answer.body, status=answer.status, content_type=content_type)


def _key(exchange: Exchange) -> str:
    """The client's key, unquoted. Raises InvalidRequest."""
    values = [value for name, value in exchange.scope["headers"] if name == HEADER]
    text = values[0].decode("latin-1")
    quoted = _QUOTED.match(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    is_valid = quoted or _BARE.match(text)
    if len(values) > 1 or not is_valid or len(key) > _LONGEST:
        raise InvalidRequest(
            "Idempotency-Key must be sent once, with 1 to 255 visible ASCII characters, plain"
            " or as a quoted string. A UUID serves well.",
            param="Idempotency-Key",
        )
    return key


def _fingerprint(identity: Identity, door: Door, body: bytes) -> str:
    """What was asked, however it was spelled: SHA-256 in hex.

    A batch asks for what its caller may have, and each item is checked for itself; so another
    caller's scopes make it another request. All else is checked before the key is looked at.
    """
    document = orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
    scopes = sorted(identity.scopes) if door.batch else []
    return hashlib.sha256(
        b"\n".join([door.name.encode(), orjson.dumps(scopes), document])
    ).hexdigest()
