"""Secrets at rest: sealed with Fernet (AES-128-CBC + HMAC) under a ring of keys with ids.

The first key seals, every key opens, so a new key may be put in front at any time and
`manage.py rotate_secrets` then seals all rows again. Sealed text is `<key id>:<token>`.
What a secret belongs to is sealed with it: a row copied onto another one does not open.
"""

from __future__ import annotations

import base64
import hashlib

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class SealBroken(Exception):
    """The text was not sealed by a key of this ring, or not for this owner."""


class Ring:
    """Keys are any strings of 32 characters or more; each is stretched to a Fernet key."""

    def __init__(self, keys: list[str]) -> None:
        if not keys or any(len(key) < 32 for key in keys):
            raise ValueError("sealing needs at least one key, each of 32 characters or more")
        self._ids = [key_id(key) for key in keys]
        self._multi = MultiFernet([_fernet(key) for key in keys])

    def seal(self, secret: str, owner: str) -> str:
        token = self._multi.encrypt(orjson.dumps([owner, secret])).decode()
        return f"{self._ids[0]}:{token}"

    def open(self, sealed: str, owner: str) -> str:
        """The secret. Raises SealBroken."""
        _, _, token = sealed.partition(":")
        try:
            sealed_owner, secret = orjson.loads(self._multi.decrypt(token.encode()))
        except (InvalidToken, ValueError):
            raise SealBroken("sealed under a key that is not configured") from None
        if sealed_owner != owner:
            raise SealBroken("sealed for another owner")
        return str(secret)

    def is_current(self, sealed: str) -> bool:
        """Whether the first key sealed it, so that rotation may pass it over."""
        return sealed.startswith(f"{self._ids[0]}:")


def key_id(key: str) -> str:
    """Eight hex digits that name a key and tell nothing about it."""
    return hashlib.sha256(b"patchbay key id\0" + key.encode()).hexdigest()[:8]


def _fernet(key: str) -> Fernet:
    digest = hashlib.sha256(b"patchbay sealing\0" + key.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(digest))
