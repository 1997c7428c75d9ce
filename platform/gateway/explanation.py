"""Why each target of a route was chosen or passed over, for `explain=true`.

It speaks of the route's targets and of what the strategy goes by, of nobody's credentials and
of no other caller's calls.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gateway.routing import Plan
from usage.record import AttemptRecord

HEADER = b"x-patchbay-explain"
MAX_HEADER = 4096  # bytes
SERVED, NOT_NEEDED, UNSUPPORTED = "served", "not_needed", "unsupported"


class Explanation:
    """Of one call: its plan, and the strategy's figure of each candidate when it was made."""

    def __init__(
        self, plan: Plan, figures: Sequence[float | None], *, in_session: bool = False
    ) -> None:
        self._plan = plan
        self._figures = figures
        self._in_session = in_session

    def document(self, attempts: Sequence[AttemptRecord]) -> dict[str, Any]:
        """Each target once, with one reason: those that could be tried in their order, with
        their place, then the others."""
        reasons = _reasons(self._plan, attempts)
        targets = [
            _told(each.provider, each.model, reason, place, score)
            for place, (each, reason, score) in enumerate(
                zip(self._plan.candidates, reasons, self._figures, strict=True), 1
            )
        ]
        targets += [_told(skip.provider, skip.model, skip.reason) for skip in self._plan.skipped]
        return {
            "route": self._plan.route.name,
            "strategy": self._plan.route.strategy,
            "session": self._in_session,
            "targets": targets,
        }

    def header(self, attempts: Sequence[AttemptRecord]) -> tuple[bytes, bytes]:
        """The same as compact ASCII JSON. Of a route with very many targets the last ones are
        left out, and counted in `left_out`."""
        document = self.document(attempts)
        targets, left_out = document["targets"], 0
        text = _compact(document)
        while len(text) > MAX_HEADER and targets:
            left_out += 1
            targets.pop()
            text = _compact(document | {"left_out": left_out})
        return HEADER, text


def _reasons(plan: Plan, attempts: Sequence[AttemptRecord]) -> list[str]:
    """How it ended with each candidate; an attempt that is not on record before one that is was
    never sent, because the provider's dialect cannot express the call."""
    ends = {(note.provider, note.model): note.verdict for note in attempts}
    reached = [(each.provider, each.model) in ends for each in plan.candidates]
    last = max((place for place, was in enumerate(reached) if was), default=-1)
    return [
        _reason(ends[each.provider, each.model])
        if reached[place]
        else (UNSUPPORTED if place < last else NOT_NEEDED)
        for place, each in enumerate(plan.candidates)
    ]


def _reason(verdict: str) -> str:
    return SERVED if verdict == "ok" else verdict.removeprefix("skipped_")


def _told(
    provider: str, model: str, reason: str, place: int | None = None, score: float | None = None
) -> dict[str, Any]:
    named = {"provider": provider} | ({"model": model} if model else {})
    return named | {"place": place, "score": score, "reason": reason}


def _compact(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii")
