"""What an adapter sees of a call and of the target it goes to: plain data, no I/O, no Django."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lib.words import Word


class Usage(NamedTuple):
    """What one call used, in whole units.

    `input_tokens` counts all input, cache reads and writes included; `output_tokens` counts
    the reasoning too. `units` is what else a provider bills by: a data provider's calls (unless
    its manifest says otherwise), characters spoken, seconds heard, images, searches
    (providers/amounts.py). `estimated` marks a figure the provider did not tell.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    units: int = 0
    estimated: bool = False


class Upload(NamedTuple):
    """A file that came with a call. `sent` is the size of the whole request's body in bytes."""

    name: str
    content_type: str
    content: bytes
    sent: int


@dataclass(slots=True)
class Call:
    """One inbound request in canonical form.

    `params` is the parsed and validated body (OpenAI's shape for AI operations) or the typed
    query of a data operation. `body` holds the client's bytes, so that an adapter that
    changes nothing may forward them as they are. Of a call that came as a form, `file` is its
    file and `body` empty. `annotated`: a chat call that may say more than OpenAI's shape has
    words for (providers/annotations.py).
    """

    operation: str
    params: dict[str, Any]
    body: bytes = b""
    request_id: str = ""
    include_extra: bool = False
    annotated: bool = False
    file: Upload | None = None

    @property
    def stream(self) -> bool:
        return self.params.get("stream") is True

    @property
    def wants_usage_chunk(self) -> bool:
        """Whether the client asked for OpenAI's closing usage chunk."""
        options = self.params.get("stream_options")
        return isinstance(options, Mapping) and options.get("include_usage") is True


class Grant(NamedTuple):
    """How a secret becomes a token that calls carry (OAuth 2.0, RFC 6749 §4.4): where to ask, and
    whether the client names itself in the body instead of by HTTP Basic."""

    url: str
    scope: str = ""
    in_body: bool = False


@dataclass(frozen=True, slots=True)
class Upstream:
    """The far side of a target: where to send a call, as which model, with which secret.

    `settings` is the provider row's JSON: what differs between services of one dialect
    (auth header, extra headers, query, refused parameters). `manifest` is a data provider's
    compiled definition. `secret` is None for a keyless provider; `credential` is the name of
    what holds it, by which its rests are known (providers/credential_pool.py). `parts` are the
    secret's, where it has several. With a `grant` it is exchanged for a `token` first. `now` is
    Unix time in seconds, for dialects whose requests are dated. The last two are each attempt's.
    """

    provider: str
    base_url: str
    model: str = ""
    secret: str | None = field(default=None, repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_output: int | None = None
    manifest: Any = None
    credential: str = ""
    parts: Mapping[str, str] = field(default_factory=dict, repr=False)
    grant: Grant | None = None
    token: str = field(default="", repr=False)
    now: float = 0.0

    @property
    def secrets(self) -> tuple[str, ...]:
        """All texts that nobody may read."""
        return (*self.parts.values(), self.secret or "", self.token)


class UpstreamRequest(NamedTuple):
    """One HTTP request to a provider, complete. Header names are lower case.

    `bulkhead` says whose connections it may use up: it never waits for anybody else's. `judge`
    reads its answer in place of the adapter's `outcome`.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None
    bulkhead: str = ""
    judge: Callable[[int, Mapping[str, str], bytes], Outcome] | None = None


class Verdict(Word):
    """How an attempt ended, in the fixed taxonomy. What follows from each is `Outcome`'s."""

    OK = "ok"
    EMPTY = "empty"
    NOT_FOUND = "not_found"
    INVALID_REQUEST = "invalid_request"
    AUTH = "auth"
    QUOTA_EXHAUSTED = "quota_exhausted"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "upstream_unavailable"
    BLOCKED = "blocked"
    BAD_PAYLOAD = "bad_payload"
    INVALID_ANSWER = "invalid_answer"  # well-formed, but the route's checks refuse it
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    SATURATED = "skipped_saturated"  # nothing was sent: all connections to it are in use


_TRANSIENT = frozenset(
    {Verdict.RATE_LIMITED, Verdict.UNAVAILABLE, Verdict.TIMEOUT, Verdict.UNREACHABLE}
)
_ANSWERS = frozenset({Verdict.OK, Verdict.EMPTY, Verdict.NOT_FOUND})
_CALLERS_FAULT = frozenset({Verdict.INVALID_REQUEST})
_PROVIDER_FAULTS = frozenset(
    {
        Verdict.UNAVAILABLE,
        Verdict.BAD_PAYLOAD,
        Verdict.INVALID_ANSWER,
        Verdict.TIMEOUT,
        Verdict.UNREACHABLE,
    }
)
_BILLABLE = _ANSWERS | {Verdict.BAD_PAYLOAD, Verdict.INVALID_ANSWER}


class Outcome(NamedTuple):
    """An attempt's verdict with what the provider said.

    `status` is the upstream's HTTP status (0 when there was none), `retry_after` is in
    seconds, `message` is the provider's own words with secrets taken out, `document` is the
    parsed body, kept so that nothing is parsed twice.
    """

    verdict: Verdict
    status: int = 0
    message: str = ""
    retry_after: float | None = None
    param: str | None = None
    document: Any = None

    @property
    def is_answer(self) -> bool:
        """The provider did its work; empty and not-found are answers too."""
        return self.verdict in _ANSWERS

    @property
    def retryable(self) -> bool:
        """Worth another try at the same target."""
        return self.verdict in _TRANSIENT

    @property
    def falls_back(self) -> bool:
        """Worth a try at the next target: everything but an answer and the caller's fault."""
        return self.verdict not in _ANSWERS and self.verdict not in _CALLERS_FAULT

    @property
    def is_provider_fault(self) -> bool:
        """Counts against the provider's breaker."""
        return self.verdict in _PROVIDER_FAULTS

    @property
    def billable(self) -> bool:
        """The provider did its work and takes its price, whether or not its answer is of use;
        what it refused or failed at is free."""
        return self.verdict in _BILLABLE


@dataclass(slots=True)
class Answer:
    """A whole (non-streamed) answer in the client's words.

    AI operations fill `body` with OpenAI-shaped JSON, and `document` with what is in it where they
    have read it anyway; a transcript may be plain text, as `content_type` says. Data operations
    fill `data` (an object or a list in the operation's canonical schema), from which the gateway
    makes the envelope. `meta` is what that tells besides of an answer made of several providers'.
    """

    body: bytes = b""
    document: Any = None
    content_type: bytes = b"application/json"
    data: Any = None
    page: dict[str, Any] | None = None
    as_of: str | None = None
    attribution: list[dict[str, Any]] = field(default_factory=list)
    meta: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Further:
    """What a meter gives in place of an answer that takes more requests.

    They are sent side by side, and `then` is told how each ended, in their order; what it gives is
    taken as `whole`'s. It raises StreamFault where the attempt ends there.
    """

    requests: Sequence[UpstreamRequest]
    then: Callable[[Sequence[Outcome]], Answer | Further]
