"""One operation, and the validators of what it takes and gives."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from jsonschema_rs import Draft202012Validator

from providers import amounts
from providers.operations.merging import Merge

RESERVED: Final = frozenset(
    {"provider", "fallback", "strategy", "include", "explain", "limit", "cursor"}
)
"""Parameters that every data operation takes and that steer the gateway, not the provider."""

OF_MODELS: Final = frozenset({"chat.completions", "embeddings", *amounts.OF})
"""Operations that a model answers: those whose kind is not Kind.DATA."""

USUAL_ITEMS: Final = 10  # of a list, where nobody says how many
ALL_ITEMS: Final = 5000  # of a list that is told whole: more days than twenty years of trading have


class Kind(enum.StrEnum):
    """How an operation is asked and answered: JSON both ways, but for what is said here."""

    CHAT = "chat"  # answers as events too
    EMBEDDINGS = "embeddings"  # vectors of one model only
    OBJECT = "object"
    SPEECH = "speech"  # answers with sound, as it comes
    TRANSCRIPTION = "transcription"  # a form with a file; answers with text too
    DATA = "data"  # a query; answers in our own words


@dataclass(frozen=True, eq=False)
class Operation:
    """What a caller may ask and how one item of the answer looks.

    `path` is the route of version 1. `is_list`: the answer's `data` is a list of items in
    `response_schema`. `as_of` names the item's field that tells its age ("" where none does).
    `cache` are its rules (providers/cache_rules.py), which a route may change; `merge` says how
    several providers' answers become one, where they can (merging.py). `default_model` is what
    a call asks for that names none, where OpenAI's API has such a thing. `timeouts` are for
    providers that have the usual ones, where the operation takes longer. `whole`: what is asked
    for has an end (a range of days, a season's matches), so that all of it is told unless `limit`
    says less.
    """

    name: str
    category: str
    summary: str
    kind: Kind
    method: str
    path: str
    request_schema: Mapping[str, Any]
    response_schema: Mapping[str, Any]
    is_list: bool = False
    as_of: str = ""
    cache: Mapping[str, Any] = field(default_factory=dict)
    merge: Merge | None = None
    default_model: str = ""
    timeouts: Mapping[str, int] = field(default_factory=dict)
    whole: bool = False

    @property
    def usual_items(self) -> int:
        return ALL_ITEMS if self.whole else USUAL_ITEMS

    @cached_property
    def request_validator(self) -> Draft202012Validator:
        """Compiled by the first call, in half a millisecond: every process knows all operations,
        and is asked for a few of them."""
        return Draft202012Validator(dict(self.request_schema))

    @cached_property
    def response_validator(self) -> Draft202012Validator:
        return Draft202012Validator(dict(self.response_schema))

    @property
    def idempotent(self) -> bool:
        """Whether asking twice changes nothing: true of all that is read with GET."""
        return self.method == "GET"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The request's properties that a provider may see."""
        properties: Mapping[str, Any] = self.request_schema["properties"]
        return {name: schema for name, schema in properties.items() if name not in RESERVED}

    def takes(self, item: Any) -> bool:
        """Whether `item` is a canonical answer item."""
        return self.response_validator.is_valid(item)
