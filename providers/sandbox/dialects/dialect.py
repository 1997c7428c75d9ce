"""What every dialect of the sandbox is asked, and what it gives: whole answers and SSE events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

CHAT = "chat.completions"
EMBEDDINGS = "embeddings"
MODELS = "models"
TOKEN = "token"  # noqa: S105 - the name of an operation
UNBILLED = frozenset({"", MODELS, TOKEN})  # what nobody's ledger knows of


class Refused(Exception):
    """The provider answers with an error. `message` and `code` None: its usual ones for `status`;
    an empty code: none.

    `retry_after` is in seconds.
    """

    def __init__(
        self,
        status: int,
        message: str | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message or status)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read whole. `path` and `url` (with its query) begin after the provider's slug.

    Header names are lower case. `with_usage` False makes a dialect leave usage out (a fault).
    """

    provider: str
    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    with_usage: bool = True

    @property
    def url(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def bearer(self) -> str:
        """The secret of `Authorization: Bearer …`; empty for none."""
        kind, _, secret = self.headers.get("authorization", "").partition(" ")
        return secret.strip() if kind.lower() == "bearer" else ""

    def document(self) -> dict[str, Any]:
        """The JSON object in the body. Raises Refused."""
        try:
            document = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise Refused(400, "We could not parse the JSON body of your request.") from None
        if not isinstance(document, dict):
            raise Refused(400, "The body must be a JSON object.")
        return document


@dataclass(frozen=True, slots=True)
class Event:
    """Bytes that go out together, and how many output tokens they carry."""

    data: bytes
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer (`body`) or a stream of events (`events`) under its own media type."""

    operation: str
    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    events: tuple[Event, ...] | None = None
    stream_type: str = "text/event-stream"


class Dialect(Protocol):
    """One provider's way to speak."""

    @property
    def name(self) -> str: ...

    def operation(self, request: Request) -> str | None:
        """What the request asks for, or None when this dialect has no such path."""
        ...

    def answer(self, request: Request, operation: str) -> Answer:
        """Raises Refused."""
        ...

    def refusal(self, request: Request, refused: Refused, operation: str) -> Answer:
        """The provider's own error."""
        ...

    def broken_off(self) -> bytes:
        """The event with which the provider breaks off a stream that had begun well."""
        ...


def is_bad(secret: str) -> bool:
    """Secrets that begin so are refused by every provider."""
    return secret.startswith("sk-bad")


def encoded(document: Any) -> bytes:
    return orjson.dumps(document, default=str)


def sse(document: Any, *, name: str = "", end: bytes = b"\n\n") -> bytes:
    """One server-sent event."""
    prefix = f"event: {name}\n".encode() if name else b""
    return prefix + b"data: " + encoded(document) + end


def required(document: Mapping[str, Any], name: str, kind: type) -> Any:
    """A field that must be there. Raises Refused."""
    value = document.get(name)
    if not isinstance(value, kind) or value in ("", []):
        raise Refused(400, f"Missing or invalid required parameter: '{name}'.", param=name)
    return value


def positive(document: Mapping[str, Any], *names: str) -> int | None:
    """The first of these whole numbers that is given. Raises Refused when it is below 1."""
    for name in names:
        value = document.get(name)
        if value is not None:
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise Refused(400, f"Invalid '{name}': must be a whole number >= 1.", param=name)
            return value
    return None


def strings(value: Any) -> tuple[str, ...]:
    """Stop sequences: one, several or none."""
    found = value if isinstance(value, list) else [value]
    return tuple(each for each in found if isinstance(each, str))


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list; nothing where there is no list."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
