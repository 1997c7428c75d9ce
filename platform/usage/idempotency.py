"""What became of the calls that came with an Idempotency-Key, kept for a day.

    claim   before anything is asked of a provider: one caller gets the key, for good
    save    the whole answer, before its last byte leaves
    release nothing was asked of a provider: the key is as good as new
    lose    it broke off, or is too large to keep

What stays claimed without any of these was cut off by a crash, after which nobody knows what
the provider did: such a call is never done again under its key.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.db.models import QuerySet

from lib.clock import utc
from lib.problems import IdempotencyConflict, IdempotencyMismatch, Unavailable
from lib.stores import StoreAway
from lib.threads import LookUps
from usage.models import IdempotentCall

T = TypeVar("T")
State = IdempotentCall.State

KEPT_SECONDS = 24 * 3600
PATIENCE = 5.0  # seconds to wait for the database
POLL_SECONDS = 1  # how soon a client may ask again for an answer that is being made
EXPIRED_AT_ONCE = 1000
_ATTEMPTS = 5  # a claim that is given back while we look at it is tried for again


@dataclass(frozen=True, slots=True)
class Claim:
    """A call that wants to be the first with its key. `key` and `fingerprint` are SHA-256 in
    hex; times are unix seconds."""

    tenant_id: int
    mode: str
    key: str
    fingerprint: str
    request_id: str
    at: float
    running_until: float

    @property
    def rows(self) -> QuerySet[IdempotentCall]:
        """The key's row, whosever call it tells of."""
        return IdempotentCall.objects.filter(tenant_id=self.tenant_id, mode=self.mode, key=self.key)

    @property
    def own(self) -> QuerySet[IdempotentCall]:
        return self.rows.filter(request_id=self.request_id, state=State.RUNNING)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: `body` as it was sent, `headers` that tell of it, in lower case."""

    request_id: str
    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


@dataclass(slots=True)
class IdempotentCalls:
    """The database's side of Idempotency-Key, for code on an event loop."""

    _look_ups: LookUps = field(default_factory=LookUps)

    async def claim(self, claim: Claim) -> Answer | None:
        """None when the key is now this call's, else what its first call was answered.

        Raises IdempotencyMismatch, IdempotencyConflict, Unavailable (store_unavailable).
        """
        try:
            return await self._run(_claim, claim)
        except StoreAway:
            raise Unavailable(
                "The database is away, so the Idempotency-Key cannot be honoured and nothing"
                " was done. Try again shortly.",
                code="store_unavailable",
                retry_after=2,
            ) from None

    async def save(self, claim: Claim, answer: Answer) -> None:
        """Raises StoreAway."""
        await self._run(_save, claim, answer)

    async def release(self, claim: Claim) -> None:
        """Raises StoreAway."""
        await self._run(_release, claim)

    async def lose(self, claim: Claim) -> None:
        """Raises StoreAway."""
        await self._run(_lose, claim)

    def close(self) -> None:
        self._look_ups.close()

    async def _run(self, function: Callable[..., T], *args: Any) -> T:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._look_ups.run(function, *args)
        except TimeoutError:
            raise StoreAway("too slow") from None


def expire() -> int:
    """Delete what is over, and say how many (blocking)."""
    count = 0
    while True:
        over = IdempotentCall.objects.filter(expires_at__lt=dt.datetime.now(dt.UTC))
        ids = list(over.values_list("id", flat=True)[:EXPIRED_AT_ONCE])
        IdempotentCall.objects.filter(id__in=ids).delete()
        count += len(ids)
        if len(ids) < EXPIRED_AT_ONCE:
            return count


def _claim(claim: Claim) -> Answer | None:
    now = utc(claim.at)
    row = IdempotentCall(
        tenant_id=claim.tenant_id,
        mode=claim.mode,
        key=claim.key,
        fingerprint=claim.fingerprint,
        request_id=claim.request_id,
        running_until=utc(claim.running_until),
        expires_at=now + dt.timedelta(seconds=KEPT_SECONDS),
    )
    for _ in range(_ATTEMPTS):
        # The unique key decides who is first, in whichever process.
        IdempotentCall.objects.bulk_create([row], ignore_conflicts=True)
        first = claim.rows.first()
        if first is None:
            continue
        if first.request_id == claim.request_id:
            return None
        if first.expires_at > now:
            return _answer_of(first, claim)
        claim.rows.filter(id=first.id).delete()
    raise _still_running(claim.request_id)


def _answer_of(first: IdempotentCall, claim: Claim) -> Answer:
    if first.fingerprint != claim.fingerprint:
        raise IdempotencyMismatch(
            "This Idempotency-Key was used for another request. Use a new key for a new request."
        )
    if first.state == State.ANSWERED:
        headers = [(name, value) for name, value in first.headers]
        return Answer(first.request_id, first.status, headers, bytes(first.body))
    if first.state == State.LOST or first.running_until <= utc(claim.at):
        raise _lost(first.request_id)
    raise _still_running(first.request_id)


def _save(claim: Claim, answer: Answer) -> None:
    claim.own.update(
        state=State.ANSWERED,
        status=answer.status,
        headers=[list(pair) for pair in answer.headers],
        body=answer.body,
    )


def _release(claim: Claim) -> None:
    claim.own.delete()


def _lose(claim: Claim) -> None:
    claim.own.update(state=State.LOST)


def _still_running(request_id: str) -> IdempotencyConflict:
    return IdempotencyConflict(
        "The first call with this Idempotency-Key still runs. Send the same request again as"
        " soon as Retry-After says; `status_url` tells of the first call once it has ended.",
        retry_after=POLL_SECONDS,
        status_url=_status_url(request_id),
    )


def _lost(request_id: str) -> IdempotencyConflict:
    url = _status_url(request_id)
    return IdempotencyConflict(
        "The first call with this Idempotency-Key began and left no whole answer to repeat."
        f" `GET {url}` tells what became of it. To have it done again, use a new key.",
        status_url=url,
    )


def _status_url(request_id: str) -> str:
    return f"/api/v1/requests/{request_id}"
