"""The attempt that answers, and what is left to do for its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol, Self

from billing.book import UNKNOWN, PriceVersion
from gateway.quality import MAX_READ
from gateway.routing import Candidate
from providers.adapter import Meter
from providers.breakers import Permits
from providers.call import Answer, Call, Outcome, Usage, Verdict
from providers.transport import Response


class Search(Protocol):
    """A call's way from target to target. `asked` is what the client asked, `rescue` how a
    stream of its route is rescued."""

    @property
    def asked(self) -> Call: ...

    @property
    def rescue(self) -> str: ...

    async def further(self, call: Call) -> Served | None:
        """The next target's answer to `call`, of those behind the one that answered last.
        Raises Problem."""
        ...


@dataclass(slots=True)
class Served:
    """The attempt that answers. A stream has `events` already and more in `response`; of what
    was sent on, `kept` is the last part or, with `keeps_all`, everything worth reading; `end` is
    what leaves with the last bytes only.

    Of a stream that may be rescued, `search` finds who carries it on, and `heir` is who did.

    As a scope it lets the provider's connection go, whichever way it is left. What comes of a
    stream is the provider's success unless a fault was recorded by then.
    """

    candidate: Candidate
    meter: Meter
    call: Call
    response: Response
    permits: Permits
    price: PriceVersion = UNKNOWN
    answer: Answer | None = None
    events: list[bytes] = field(default_factory=list)
    chunks: AsyncIterator[bytes] | None = None
    unchanged: bool = False  # the provider says that what is kept of it still holds
    search: Search | None = None
    heir: Served | None = None
    keeps_all: bool = False
    kept: list[bytes] = field(default_factory=list)
    end: list[bytes] = field(default_factory=list)
    _kept_bytes: int = 0

    def keep(self, events: list[bytes]) -> None:
        if not self.keeps_all:
            self.kept = events
        elif self._kept_bytes <= MAX_READ:
            self.kept += events
            self._kept_bytes += sum(map(len, events))

    @property
    def last(self) -> Served:
        """Whose text the client had last."""
        return self if self.heir is None else self.heir.last

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.permits.record(Outcome(Verdict.OK, self.response.status))
        self.response.close()

    def estimate(self) -> Usage:
        """The worst case, for when the provider does not tell."""
        candidate = self.candidate
        return candidate.target.provider.adapter.estimate(self.call, candidate.upstream)
