"""Several data operations in one body: its form, checked once for all.

What the items themselves ask for is each item's own affair and is not checked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from jsonschema_rs import Draft202012Validator

from providers.operations.checking import faults, refusal

MAX_ITEMS: Final = 50

BATCH_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["requests"],
    "additionalProperties": False,
    "properties": {
        "requests": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_ITEMS,
            "items": {
                "type": "object",
                "required": ["operation"],
                "additionalProperties": False,
                "properties": {
                    "operation": {"type": "string", "examples": ["finance.quote"]},
                    "params": {
                        "description": "As the operation's query parameters.",
                        "type": "object",
                        "additionalProperties": {"type": ["string", "number", "boolean"]},
                    },
                },
            },
        }
    },
}
_validator = Draft202012Validator(BATCH_SCHEMA)


@dataclass(frozen=True, slots=True)
class Item:
    """One operation of a batch. `query` is the query string it would come with alone."""

    operation: str
    query: bytes


def parse_batch(document: Mapping[str, Any]) -> list[Item]:
    """Raises InvalidRequest with the place of every fault of the form."""
    if not _validator.is_valid(document):
        raise refusal(faults(_validator, document))
    return [
        Item(item["operation"], _query(item.get("params", {}))) for item in document["requests"]
    ]


def _query(params: Mapping[str, Any]) -> bytes:
    pairs = [(name, v if isinstance(v, str) else orjson.dumps(v)) for name, v in params.items()]
    return urlencode(pairs).encode()
