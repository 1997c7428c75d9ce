"""What the data path asks of a transport, and how it is told that a provider failed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from providers.call import Outcome, UpstreamRequest, Verdict
from providers.timeouts import Timeouts

MAX_BODY_BYTES = 32 * 1024 * 1024
DEAF_MS = 30_000  # a provider that takes no byte of ours for so long has gone

PRIVATE = "The provider's address is private. Staff may set allow_private_network on the provider."


class TransportFault(Exception):
    """The provider could not be reached, or broke off, or was too slow. `outcome` says which."""

    def __init__(self, verdict: Verdict, message: str) -> None:
        super().__init__(message)
        self.outcome = Outcome(verdict, message=message)


class PrivateAddress(OSError):
    """A provider's name or URL leads into a private network."""


class Response(Protocol):
    """An answer whose head has come. `close` must be called on every path."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name. Of a header that came twice, the first; Cache-Control and Vary are
        lists, and joined."""
        ...

    async def read(self) -> bytes:
        """The whole body, at most MAX_BODY_BYTES. Raises TransportFault. The caller's own
        deadline bounds the time."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises TransportFault when it stalls or breaks off."""
        ...

    def close(self) -> None:
        """Back to the pool when the body came to its end; otherwise the connection ends,
        which is how the provider learns that nobody listens any more."""
        ...


class Transport(Protocol):
    async def send(
        self, request: UpstreamRequest, timeouts: Timeouts, *, allow_private: bool
    ) -> Response:
        """The answer's head. Raises TransportFault."""
        ...

    async def close(self) -> None: ...


def refuse_compressed(headers: Mapping[str, str]) -> None:
    """Raises TransportFault. Compression is never asked for, and what unpacks to a thousand
    times its size is never unpacked."""
    if headers.get("content-encoding", "").lower() not in {"", "identity"}:
        raise TransportFault(Verdict.BAD_PAYLOAD, "the answer is compressed, unasked")


def too_large() -> TransportFault:
    return TransportFault(Verdict.BAD_PAYLOAD, "the answer is larger than 32 MiB")
