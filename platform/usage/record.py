"""One ledger row as the data path writes it: the columns of usage.models.UsageRecord."""

from __future__ import annotations

import dataclasses
import datetime as dt
import operator
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class AttemptRecord:
    """One try at one target. `cost` is what the provider takes for it, in µUSD."""

    request_id: str
    number: int
    created_at: dt.datetime
    provider: str
    model: str
    verdict: str
    status: int
    latency_ms: int
    tokens: int = 0
    units: int = 0
    cost: int = 0

    def row(self) -> tuple[Any, ...]:
        return _attempt_values(self)


@dataclass(slots=True)
class Record:
    """A call's final row. `charge` and `cost` are µUSD; `estimate` says why usage is a guess.

    `price_id` is the price version that both were computed with and `markup` what the plan puts
    on top of it, in hundredths of a per cent, so that an old bill can be computed again.
    `headers` are those of the request that say which client it was and what it wanted.
    """

    request_id: str
    created_at: dt.datetime
    tenant_id: int
    project_id: int | None
    key_id: int | None
    user_id: int | None
    mode: str
    operation: str
    route: str
    provider: str = ""
    model: str = ""
    status: int = 0
    code: str = ""
    streamed: bool = False
    estimate: str = ""
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    units: int = 0
    bytes: int = 0
    charge: int = 0
    cost: int = 0
    price_id: int | None = None
    markup: int = 0
    cache: str = ""
    latency_ms: int = 0
    headers: str | None = None

    def row(self) -> tuple[Any, ...]:
        return _record_values(self)

    def as_document(self) -> dict[str, Any]:
        """For an open call's row: JSON that `from_document` reads back."""
        document = dict(zip(RECORD_COLUMNS, self.row(), strict=True))
        document["created_at"] = self.created_at.isoformat()
        return document

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Record:
        """Also of a version that had other columns. Raises KeyError, TypeError, ValueError."""
        known = {name: document[name] for name in RECORD_COLUMNS if name in document}
        return cls(**known | {"created_at": dt.datetime.fromisoformat(document["created_at"])})


RECORD_COLUMNS = tuple(field.name for field in dataclasses.fields(Record))
ATTEMPT_COLUMNS = tuple(field.name for field in dataclasses.fields(AttemptRecord))
_record_values = operator.attrgetter(*RECORD_COLUMNS)
_attempt_values = operator.attrgetter(*ATTEMPT_COLUMNS)
