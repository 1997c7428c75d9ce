"""The cursors that callers see: a provider and a position in its list, signed.

They are made of nothing else, so any worker opens what another one gave, and equal positions
have equal cursors.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import orjson

from lib.problems import InvalidRequest

_MAC_BYTES = 16


class Cursors:
    """`secret` is the same for all workers of an installation."""

    def __init__(self, secret: bytes) -> None:
        self._key = hashlib.blake2b(secret, digest_size=32, person=b"patchbay cursors").digest()

    def seal(self, operation: str, provider: str, position: str) -> str:
        told = orjson.dumps([provider, position])
        return base64.urlsafe_b64encode(self._mac(operation, told) + told).rstrip(b"=").decode()

    def page(self, operation: str, provider: str, page: Mapping[str, Any]) -> Mapping[str, Any]:
        """A provider's page as callers see it."""
        position = page["next_cursor"]
        if not position:
            return page
        return {**page, "next_cursor": self.seal(operation, provider, position)}

    def open(self, operation: str, cursor: str) -> tuple[str, str]:
        """The provider that goes on, and the position. Raises InvalidRequest for what we never
        gave, or gave for another operation."""
        try:
            sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        except (ValueError, binascii.Error):
            raise refusal() from None
        mac, told = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(operation, told)):
            raise refusal()
        provider, position = orjson.loads(told)
        return provider, position

    def _mac(self, operation: str, told: bytes) -> bytes:
        text = operation.encode() + b"\0" + told
        return hashlib.blake2b(text, key=self._key, digest_size=_MAC_BYTES).digest()


_UNKNOWN = (
    "This is no cursor of this operation. Send `next_cursor` of its last answer as it came, or "
    "begin again without `cursor`."
)


def refusal(detail: str = _UNKNOWN) -> InvalidRequest:
    return InvalidRequest(detail, param="cursor", errors=[{"detail": detail, "pointer": "/cursor"}])
