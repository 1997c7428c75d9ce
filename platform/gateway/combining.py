"""From several providers' answers to the one the client gets, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from gateway.aggregating import ALL, MERGE, Part, heard
from gateway.cursors import Cursors
from gateway.exchange import Exchange
from gateway.relay import envelope
from lib.clock import rfc3339, utc
from lib.problems import Problem
from providers.call import Answer, Usage
from providers.operations import Operation, merging
from providers.operations.merging import Told
from usage.reservation import Reservation

_OF_A_PROBLEM = ("type", "title", "status", "detail", "code")


def combined(
    operation: Operation, how: str, parts: Sequence[Part], *, cursors: Cursors | None, now: float
) -> Answer:
    """One answer of all that came; `now` (unix seconds) is how old is what does not say."""
    at = rfc3339(utc(int(now)))
    answers = [(each.candidate.provider, each.answer) for each in heard(parts) if each.answer]
    told = [Told(provider, each.data, each.as_of or at) for provider, each in answers]
    answer = _all(operation, parts, cursors, at) if how == ALL else _merged(operation, told)
    answer.as_of = _oldest(told)
    if how == MERGE and operation.as_of:
        answer.data[operation.as_of] = answer.as_of
    answer.attribution = _once([credit for _, each in answers for credit in each.attribution])
    if how != ALL and operation.is_list:
        limit = (answers[0][1].page or {}).get("limit")
        answer.page = {"total": None, "limit": limit, "next_cursor": None}
    return answer


def _all(operation: Operation, parts: Sequence[Part], cursors: Cursors | None, at: str) -> Answer:
    """Each one's answer, or why there is none, in the order of the targets. A page goes on with
    the provider that gave it."""
    told = [_told(operation, part, at) for part in parts]
    for one in told:
        if cursors and one.get("page"):
            one["page"] = cursors.page(operation.name, one["provider"], one["page"])
    return Answer(data=told, meta={"strategy": ALL})


def _told(operation: Operation, part: Part, at: str) -> dict[str, Any]:
    document: dict[str, Any] = {"provider": part.candidate.provider}
    answer = part.served.answer if part.served is not None else None
    if answer is None:
        return document | {"problem": _described(part.problem or Problem())}
    document["data"] = answer.data
    if operation.is_list:
        document["page"] = answer.page
    return document | {"as_of": answer.as_of or at, "attribution": answer.attribution}


def _described(problem: Problem) -> dict[str, Any]:
    """Without the request's id and its time: it may be kept, and be told to others."""
    document = problem.as_problem("", utc(0))
    return {name: document[name] for name in _OF_A_PROBLEM}


def _merged(operation: Operation, told: Sequence[Told]) -> Answer:
    merge = operation.merge
    assert merge is not None  # noqa: S101 - else it was refused
    if merge.median:
        data, sources = merging.consensus(merge, told)
        return Answer(data=data, meta={"strategy": MERGE, "sources": sources})
    sources = [_source(each) for each in told]
    return Answer(data=merging.merged(merge, told), meta={"strategy": MERGE, "sources": sources})


def _source(told: Told) -> dict[str, Any]:
    return {"provider": told.provider, "items": len(told.data), "as_of": told.as_of}


def _oldest(told: Sequence[Told]) -> str:
    """Nothing in it is older. RFC 3339 in UTC sorts as text, but for the Z after a fraction."""
    return min([each.as_of for each in told], key=lambda text: text.rstrip("Z"))


def _once(texts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [text for place, text in enumerate(texts) if text not in texts[:place]]


async def settle(
    exchange: Exchange,
    operation: Operation,
    answer: Answer,
    *,
    parts: Sequence[Part],
    reservation: Reservation,
) -> bytes:
    """The body, once the call's row is durable."""
    _bill(parts, reservation)
    providers = ", ".join(each.candidate.provider for each in heard(parts))
    exchange.upstream_seconds = max(note.latency_ms for note in reservation.attempts) / 1000
    exchange.note(
        [
            (b"x-patchbay-provider", providers.encode()),
            (b"x-patchbay-attempts", str(len(reservation.attempts)).encode()),
            (b"x-patchbay-cache", exchange.cache),
            (b"x-patchbay-cost-microusd", str(reservation.record.charge).encode()),
        ]
    )
    body = orjson.dumps(envelope(exchange, operation, answer, reservation))
    await reservation.settle(status=200, code="ok")
    return body


def _bill(parts: Sequence[Part], reservation: Reservation) -> None:
    """All that answered are paid for. The row names the first one; what each took is in its
    attempt, and a price only where there was one."""
    served, record = heard(parts), reservation.record
    notes = [part.note for part in parts if part.note is not None]
    record.provider, record.model = served[0].candidate.provider, served[0].candidate.model
    record.price_id = served[0].price.id if len(served) == 1 else None
    usage = Usage(units=sum(note.units for note in notes))
    reservation.use(usage, cost=sum(note.cost for note in notes))
