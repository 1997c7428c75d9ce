"""A manifest in the form that calls use, and what is said when it has faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.adapters.manifest.errors import Rule
from providers.adapters.manifest.expression import Expression
from providers.adapters.manifest.mapping import Field, Source
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
class ManifestOperation:
    """How one provider serves one operation.

    `rules` are looked at only when the answer is taken apart, so they see status and body.
    `not_found_without` names a field whose absence means that there is no such record.
    `cache_ttl` is in seconds, None where the operation's own counts; `units` is what a call is
    billed as; `examples` are names of files.
    """

    operation: Operation
    request: RequestTemplate
    fields: tuple[Field, ...]
    extras: tuple[Field, ...] = ()
    rules: tuple[Rule, ...] = ()
    records: Expression | None = None
    skip_incomplete: bool = False
    total: Source | None = None
    not_found_without: str = ""
    cache_ttl: int | None = None
    units: int = 1
    examples: tuple[str, ...] = ()


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
