"""A call's attempts, as they are told and as they are noted."""

from __future__ import annotations

from typing import Any

from gateway.routing import Candidate
from lib.clock import Clock, utc
from usage.record import AttemptRecord
from usage.reservation import Reservation


def attempts_of(reservation: Reservation) -> list[dict[str, Any]]:
    """The attempts so far, as `meta.attempts` and problems tell them."""
    return [
        {
            "provider": note.provider,
            "outcome": note.verdict,
            "status": note.status,
            "latency_ms": note.latency_ms,
        }
        for note in reservation.attempts
    ]


def note_skipped(reservation: Reservation, candidate: Candidate, clock: Clock, why: str) -> None:
    reservation.attempts.append(
        AttemptRecord(
            request_id=reservation.record.request_id,
            number=len(reservation.attempts) + 1,
            created_at=utc(clock.now()),
            provider=candidate.upstream.provider,
            model=candidate.upstream.model,
            verdict=why,
            status=0,
            latency_ms=0,
        )
    )
