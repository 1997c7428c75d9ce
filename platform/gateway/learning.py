"""What the end of an answered call says of its target, for the choices to come.

A failed attempt is noted where it fails (gateway/dispatch.py). A call whose client left, or
whose deadline passed while the answer came, says nothing: neither need be the target's doing.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway import quality
from gateway.aggregating import Part
from gateway.scores import Scores
from gateway.served import Served
from providers.amounts import SPEECH
from usage.reservation import Reservation


def learn(scores: Scores, served: Served, reservation: Reservation, *, in_time: bool) -> bool:
    """Whether it ended well. To be called once the client has the whole answer."""
    name = served.candidate.name
    seconds = reservation.attempts[-1].latency_ms / 1000
    cost = None if served.price.id is None else reservation.record.cost
    if served.answer is not None:
        scores.answered(name, whole=seconds, cost=cost, quality=_of_whole(served))
    elif served.meter.complete:
        looks = _of_stream(served)
        scores.answered(name, first=seconds, cost=cost, quality=looks)
    elif in_time:
        scores.failed(name, seconds=0.0)
    return served.answer is not None or served.meter.complete


def learn_of_all(scores: Scores, parts: Sequence[Part]) -> None:
    """The same of a call that was answered by several."""
    for part in parts:
        served, note = part.served, part.note
        if served is not None and note is not None:
            cost = None if served.price.id is None else note.cost
            seconds = note.latency_ms / 1000
            quality_of = _of_whole(served)
            scores.answered(served.candidate.name, whole=seconds, cost=cost, quality=quality_of)


def _of_whole(served: Served) -> float | None:
    answer = served.answer
    assert answer is not None  # noqa: S101 - the caller asked
    if served.call.operation == "chat.completions":
        return quality.of_chat(served.call, answer)
    return None if answer.body else quality.of_data(answer.data)


def _of_stream(served: Served) -> float | None:
    if served.call.operation == SPEECH:
        return None  # nobody listened
    return quality.of_stream(served.call, served.kept) if _said(served) else quality.EMPTY


def _said(served: Served) -> bool:
    return served.meter.output_characters > 0 or bool(served.kept and served.keeps_all)
