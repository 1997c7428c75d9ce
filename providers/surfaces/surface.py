"""What the gateway asks of a surface, and what a surface is described by.

One surface object serves one call, in this order:

    chat(document)      the client's body as a chat completion's; raises InvalidRequest
    whole(body)         a chat.completion, said in the client's dialect
    feed(chunk)         or a stream of them, cut anywhere: the client's events that it makes
    problem(problem)    what went wrong, in the client's envelope
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml
from jsonschema_rs import Draft202012Validator

from lib.problems import Problem
from providers.adapter import Unsupported
from providers.operations.checking import faults, refusal


class Surface(Protocol):
    """`quiet` is what a client is told while a provider says nothing; `headers` are sent with
    every answer; `annotated`: the chat call may say more than OpenAI's shape has words for
    (providers/annotations.py)."""

    quiet: bytes
    annotated: bool
    headers: list[tuple[bytes, bytes]]

    def chat(self, document: dict[str, Any]) -> dict[str, Any]: ...
    def whole(self, body: bytes) -> bytes: ...
    def feed(self, chunk: bytes) -> bytes: ...
    def problem(self, problem: Problem) -> dict[str, Any]: ...
    def is_end(self, stream: bytes) -> bool:
        """Whether a stream that was sent came to its end."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """One way in: its path, and the schemas of its request and answer. `speak` makes the
    surface of one call, by its request id. `problem_schema` is that of its errors, if they are
    not in OpenAI's envelope. `counts`: it only tells how long the input is."""

    name: str
    path: str
    summary: str
    request_schema: dict[str, Any]
    response_schema: dict[str, Any]
    speak: Callable[[str], Surface]
    problem_schema: dict[str, Any] | None = None
    counts: bool = False
    validator: Draft202012Validator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "validator", Draft202012Validator(self.request_schema))

    def check(self, document: Any) -> None:
        """Raises InvalidRequest."""
        if not self.validator.is_valid(document):
            raise refusal(faults(self.validator, document))


def read_schemas(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(path.read_text("utf-8"), yaml.CSafeLoader)
    return document


def refuse_others(given: Mapping[str, Any], known: Collection[str], place: str) -> None:
    """Raises Unsupported for the first member that is not in `known` and says something."""
    for name, value in given.items():
        if name not in known and value not in (None, False, [], {}):
            raise Unsupported(
                f"{place}.{name}" if place else name,
                f"{name!r} cannot be passed on to every provider's models. Leave it out.",
            )
