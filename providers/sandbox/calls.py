"""What the sandbox remembers of the calls it had: counts for each provider and the last ones."""

from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

# Enough for any test; a bound because a sandbox may run for weeks.
REMEMBERED = 20_000


def now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(slots=True)
class CallRecord:
    """One call, as it goes into the journal.

    `output_tokens` is what was really generated until the end or the cut; `events_sent` counts
    the server-sent events (0 for a whole answer); `finished`: the whole answer was handed over;
    `hung_up`: the client left before that; neither: the sandbox broke it off, as told.
    `fault` says whether one was scripted. Times are RFC 3339, UTC.
    """

    request_id: str
    provider: str
    model: str = ""
    operation: str = ""
    stream: bool = False
    status: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    events_sent: int = 0
    finished: bool = False
    hung_up: bool = False
    fault: bool = False
    started_at: str = field(default_factory=now)
    ended_at: str | None = None

    def count(self, tokens: int, *, is_event: bool) -> None:
        """A part of the answer went out."""
        self.output_tokens += tokens
        self.events_sent += is_event

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Calls:
    """Counts per provider: calls, in_flight, finished, hung_up, cut, faults, and by status."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._counts: dict[str, Counter[str]] = {}
        self._in_flight: Counter[str] = Counter()
        self._records: deque[CallRecord] = deque(maxlen=REMEMBERED)

    def begin(self, provider: str, request_id: str) -> CallRecord:
        record = CallRecord(request_id or f"sandbox-{next(self._ids)}", provider)
        self._in_flight[provider] += 1
        self._records.append(record)
        return record

    def end(self, record: CallRecord) -> None:
        counts = self._counts.setdefault(record.provider, Counter())
        counts["calls"] += 1
        counts["faults"] += record.fault
        ending = "finished" if record.finished else "hung_up" if record.hung_up else "cut"
        counts[ending] += 1
        counts[f"status_{record.status}"] += 1
        self._in_flight[record.provider] -= 1

    def reset(self) -> None:
        """Forgets all calls but those that still run."""
        running = [record for record in self._records if record.ended_at is None]
        self._counts.clear()
        self._records = deque(running, maxlen=REMEMBERED)

    def describe(
        self, provider: str | None = None, request_id: str | None = None
    ) -> dict[str, Any]:
        """Counts, and the remembered calls of this provider or request id (all without)."""
        slugs = sorted({*self._counts, *(+self._in_flight)})
        return {
            "in_flight": self._in_flight.total(),
            "providers": {
                slug: {**self._counts.get(slug, {}), "in_flight": self._in_flight[slug]}
                for slug in slugs
            },
            "requests": [record.as_json() for record in self._matching(provider, request_id)],
        }

    def _matching(self, provider: str | None, request_id: str | None) -> Iterator[CallRecord]:
        for record in self._records:
            if provider in (None, record.provider) and request_id in (None, record.request_id):
                yield record
