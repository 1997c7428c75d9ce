"""A manifest in the form that calls use, and what is said when it has faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from providers.adapters.manifest.decoding import Table
from providers.adapters.manifest.errors import Rule
from providers.adapters.manifest.mapping import Field, Source
from providers.adapters.manifest.paging import Paging
from providers.adapters.manifest.request import Auth, RequestTemplate
from providers.operations import Operation

Place = tuple[str | int, ...]
"""Where in the document, from the root."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a manifest."""

    place: Place
    words: str

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.place)) or 'the document'}: {self.words}"


class ManifestError(ValueError):
    """The document is no manifest that can be used. `faults` has every reason found."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class EarlierStep:
    """A request that comes before an operation's own. `gives` are the values that it hands on, by
    the names that templates call them by (`steps.<step>.<value>`); where one of them is not there,
    nothing was found. `rules` come before the manifest's for its answer."""

    name: str
    request: RequestTemplate
    gives: Mapping[str, Source]
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class FanOut:
    """The operation's own request is made for each of so many values of the list `of`, which an
    earlier step gave, side by side. Its document is the list of theirs."""

    of: str
    most: int


@dataclass(frozen=True)
class ManifestOperation:
    """How one provider serves one operation.

    `earlier` are the requests that lead to `request`.
    `rules` are looked at only when the answer is taken apart, so they see status and body.
    `not_found_without` names a field whose absence means that there is no such record; of a
    `narrow` one, which knows a part only, that the next provider is asked.
    `cache_ttl` is in seconds, None where the operation's own counts; `units` is what a call is
    billed as, None for the number of its requests; `examples` are names of files.
    """

    operation: Operation
    request: RequestTemplate
    fields: tuple[Field, ...]
    extras: tuple[Field, ...] = ()
    rules: tuple[Rule, ...] = ()
    records: Source | None = None
    skip_incomplete: bool = False
    total: Source | None = None
    not_found_without: str = ""
    narrow: bool = False
    cache_ttl: int | None = None
    units: int | None = None
    examples: tuple[str, ...] = ()
    earlier: tuple[EarlierStep, ...] = ()
    each: FanOut | None = None
    paging: Paging | None = None

    @property
    def requests(self) -> tuple[tuple[str, RequestTemplate], ...]:
        """All of them in order, each with its step's name; the last is the operation's own, ""."""
        return (*((step.name, step.request) for step in self.earlier), ("", self.request))

    @cached_property
    def params(self) -> frozenset[str]:
        """The call's parameters that count for any of its requests."""
        told = frozenset().union(*(request.params for _, request in self.requests))
        return told | {"cursor"} if self.paging else told

    @cached_property
    def only(self) -> Mapping[str, frozenset[Any]]:
        """The values that a parameter may have, where not all are taken."""
        return dict(pair for _, request in self.requests for pair in request.only.items())

    def told(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What of the page is told besides the call's own parameters. Raises InvalidRequest."""
        if self.paging is None:
            return {}
        return self.paging.told(self.paging.position(params, self.operation.usual_items))

    @property
    def most_requests(self) -> int:
        return len(self.earlier) + (self.each.most if self.each else 1)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A data provider, compiled."""

    slug: str
    name: str
    base_url: str
    auth: Auth
    operations: Mapping[str, ManifestOperation]
    headers: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    attribution: tuple[dict[str, Any], ...] = ()
    needs_credential: bool = False
    max_retention: int | None = None
    form: frozenset[str] | Table | None = None  # of a provider that speaks XML, or in tables
