"""What staff have put in force and the sandbox plays, before what ships. Told by the product
(providers/sandbox_sync.py): the sandbox itself reads no database and knows no secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import orjson

from providers.catalogue import parse_document
from providers.catalogue.examples import example_of
from providers.sandbox.examples import DataProvider


class Played(NamedTuple):
    """`version` is the teller's own word for what it told. An AI provider has no part here: its
    dialect is played, whoever speaks it."""

    version: str
    provider: DataProvider | None


class Definitions:
    def __init__(self) -> None:
        self._played: dict[str, Played] = {}

    def provider(self, slug: str) -> DataProvider | None:
        played = self._played.get(slug)
        return played.provider if played else None

    def versions(self) -> dict[str, str]:
        return {slug: played.version for slug, played in self._played.items()}

    def put(self, slug: str, body: bytes) -> None:
        """From now on, `{"version": …, "document": YAML, "examples": […]}`. Raises ValueError."""
        told = orjson.loads(body)
        try:
            self._played[slug] = Played(told["version"], _provider(slug, told))
        except (KeyError, TypeError) as error:
            raise ValueError(f"Not a definition with its examples: {error!r}.") from None

    def drop(self, slug: str) -> None:
        self._played.pop(slug, None)


def _provider(slug: str, told: dict[str, Any]) -> DataProvider | None:
    file = parse_document(told["document"], Path(f"{slug}.yaml"))
    if file.manifest is None:
        return None
    examples = tuple(map(example_of, told["examples"]))
    return DataProvider(file.manifest, examples, file.needs_credential)
