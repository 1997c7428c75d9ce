"""The examples of the data providers: what each answers, in its own shape (see the README
beside them). Tests map them, the sandbox answers with them."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

from providers.adapters.manifest.templates import as_text

FOLDER: Final = Path(__file__).parent / "examples"
_PLACEHOLDER = re.compile(r"\{\{([a-z][a-z0-9_.]*)\}\}")


class Serve(enum.StrEnum):
    """When the sandbox answers with an example."""

    DEFAULT = "default"  # to every request of the operation
    EXACT = "exact"  # to a request with these parameters
    FAULT = "fault"  # only when it is asked for by name


@dataclass(frozen=True, slots=True)
class Example:
    """One exchange with a provider. `url` is path and query after the provider's base URL.

    Of an operation with steps, `step` is the one that it shows ("": the operation's own request),
    and `given` is what those before it gave.
    """

    name: str
    operation: str
    serve: Serve
    params: Mapping[str, Any]
    method: str
    url: str
    status: int
    content_type: str
    headers: Mapping[str, str]
    content: Any
    expect: Mapping[str, Any] = field(default_factory=dict)
    step: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)
    sent: Any = None  # the request's body

    @property
    def sent_bytes(self) -> bytes | None:
        if self.sent is None or isinstance(self.sent, str):
            return self.sent.encode() if self.sent else None
        return orjson.dumps(self.sent)

    def body(self, params: Mapping[str, Any]) -> bytes:
        """The answer's bytes, with the placeholders filled from `params` (numbers or text).

        A placeholder of a parameter that is not there is filled from the example's own.
        """
        filled = _filled(self.content, {**self.params, **self.given, **params})
        return filled.encode() if isinstance(filled, str) else orjson.dumps(filled)


@cache
def load_examples(slug: str) -> tuple[Example, ...]:
    """A provider's examples by name; none for a provider without a folder."""
    return tuple(example_of(document) for document in read_examples(FOLDER / slug))


def read_examples(folder: Path) -> list[dict[str, Any]]:
    """The documents of a folder's files, by name, each with its own name in it."""
    return [
        {"name": path.stem, **orjson.loads(path.read_bytes())}
        for path in sorted(folder.glob("*.json"))
    ]


def example_of(document: Mapping[str, Any]) -> Example:
    """A document that schemas/example.yaml takes."""
    request, response = document["request"], document["response"]
    return Example(
        name=document["name"],
        operation=document["operation"],
        serve=Serve(document["serve"]),
        params=document["params"],
        method=request["method"],
        url=request["url"],
        status=response["status"],
        content_type=response["content_type"],
        headers=response["headers"],
        content=response["body"],
        expect=document["expect"],
        step=document.get("step", ""),
        given=document.get("given", {}),
        sent=request.get("body"),
    )


def _filled(content: Any, params: Mapping[str, Any]) -> Any:
    if isinstance(content, str):
        return _PLACEHOLDER.sub(lambda hole: as_text(params.get(hole[1], "")), content)
    if isinstance(content, list):
        return [_filled(item, params) for item in content]
    if isinstance(content, dict):
        return {_filled(key, params): _filled(item, params) for key, item in content.items()}
    return content
