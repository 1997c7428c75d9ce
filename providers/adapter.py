"""The five pure verbs that speak a provider's dialect.

An adapter does no I/O and knows no Django, no store and no other adapter. The gateway asks
it, in this order:

    estimate(call, upstream)        what to reserve, at worst
    request(call, upstream)         the exact HTTP request; raises Unsupported
    outcome(status, headers, body)  how the attempt ended, from a table of real error bodies
    meter(call, upstream)           turns the answer into the client's words and counts it
    problem(outcome)                the provider's error as one of ours

Header mappings given to an adapter have lower-case names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lib.problems import InvalidRequest, Problem
from providers.call import Answer, Call, Further, Grant, Outcome, Upstream, UpstreamRequest, Usage
from providers.secret_form import ONE_TEXT, SecretForm


class Unsupported(InvalidRequest):
    """This dialect cannot express a field of the call; the field is never dropped in silence.

    Another target of the route may still take the call; when none does, the caller sees this.
    """

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(
            detail,
            param=param,
            errors=[{"detail": detail, "pointer": "/" + param.replace(".", "/")}],
        )


class StreamFault(Exception):
    """The provider broke off a stream that had begun well: an error event, or bytes that are
    no event of its dialect. `outcome` says how."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


class Meter(Protocol):
    """Reads one successful answer: once with `whole`, or chunk by chunk with `feed`.

    `usage` is None until the provider told it. `output_characters` counts the text seen so
    far, for an estimate when the usage never comes. `complete` turns true with the dialect's
    terminal event: a stream that ends without it was cut and must not look like success.
    """

    usage: Usage | None
    output_characters: int
    complete: bool

    def whole(self, outcome: Outcome, body: bytes) -> Answer | Further:
        """A whole answer in the client's words. `outcome.document` is `body`, parsed. Of a dialect
        that must ask more than once, what to ask next: all of it is one attempt.

        Raises StreamFault with Verdict.BAD_PAYLOAD when the document is not of the dialect.
        """
        ...

    def feed(self, chunk: bytes) -> list[bytes]:
        """Complete OpenAI SSE events (`data: …\\n\\n`) for the bytes seen so far, wherever the
        chunk was cut. Never the closing usage chunk or `[DONE]`: `close` says those."""
        ...

    def close(self) -> list[bytes]:
        """What is left to say once `complete`: the usage chunk if the client asked for it
        (`choices: []`), then `data: [DONE]\\n\\n`."""
        ...


class Spoken:
    """What is so of most dialects: a secret is one text, which is sent as it is."""

    secret_form: SecretForm = ONE_TEXT
    grant: Grant | None = None
    dated: bool = False


class Adapter(Protocol):
    """One dialect. Instances are stateless and shared by all calls.

    With a `grant`, requests carry a token (`Upstream.token`); `dated` ones say when they were
    made (`Upstream.now`).
    """

    name: str

    @property
    def secret_form(self) -> SecretForm: ...

    @property
    def grant(self) -> Grant | None: ...

    @property
    def dated(self) -> bool: ...

    def estimate(self, call: Call, upstream: Upstream) -> Usage: ...

    def request(self, call: Call, upstream: Upstream) -> UpstreamRequest: ...

    def outcome(self, status: int, headers: Mapping[str, str], body: bytes) -> Outcome: ...

    def meter(self, call: Call, upstream: Upstream) -> Meter: ...

    def problem(self, outcome: Outcome) -> Problem: ...
